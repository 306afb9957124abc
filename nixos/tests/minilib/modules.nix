# Modules: loads them, joins what they declare and define, and refuses what nobody declared.
{
  lib,
  basics,
  properties,
  typing,
}:
let
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    elem
    filter
    foldl'
    functionArgs
    hasAttr
    head
    isAttrs
    isFunction
    isPath
    length
    mapAttrs
    ;
  inherit (basics)
    optional
    optionals
    optionalAttrs
    genAttrs
    unique
    showPath
    ;
  inherit (properties) discharge isT pushDown;
  inherit (typing) mergeDefs mergeDischarged;
  # Beside `imports` alone, definitions need no `config`.
  normal =
    m:
    let
      around = [
        "imports"
        "freeformType"
        "key"
      ];
      isLong = m ? config || m ? options;
      extra = removeAttrs m (
        around
        ++ [
          "config"
          "options"
          "meta"
        ]
      );
    in
    if isLong && extra != { } then
      throw "module has unsupported attributes: ${toString (attrNames extra)}"
    else
      {
        config = if isLong then m.config or { } else removeAttrs m around;
        options = m.options or { };
        imports = m.imports or [ ];
        freeform = m.freeformType or null;
      };
  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      args = {
        inherit lib;
        inherit (result) config options;
      }
      // specialArgs;
      call =
        f:
        let
          wanted = functionArgs f;
          missing = filter (n: !(args ? ${n}) && !wanted.${n}) (attrNames wanted);
        in
        if missing != [ ] then
          throw "a module wants ${toString missing}"
        else
          # As with the real ones, a module may take all by `...`.
          f args;
      # A file that several import counts once.
      load =
        seen: ms:
        foldl' (
          acc: m:
          let
            key = if isPath m then toString m else if isAttrs m then m.key or null else null;
          in
          if key != null && elem key acc.seen then
            acc
          else
            let
              value = if isPath m then import m else m;
              loaded = normal (if isFunction value then call value else value);
              below = load (acc.seen ++ optional (key != null) key) loaded.imports;
            in
            {
              seen = below.seen;
              mods = acc.mods ++ [ loaded ] ++ below.mods;
            }
        ) { inherit seen; mods = [ ]; } ms;
      mods = (load [ ] modules).mods;
      freeforms = filter (x: x != null) (map (m: m.freeform) mods);
      freeform = if freeforms == [ ] then null else head freeforms;
      defs = concatMap (m: pushDown m.config) mods;
      # decls: trees of options; cs: trees of definitions
      go =
        loc: decls: cs:
        let
          names = unique (concatMap attrNames decls);
          known = genAttrs names (
            n:
            let
              at = loc ++ [ n ];
              here = map (d: d.${n}) (filter (hasAttr n) decls);
              values = map (c: c.${n}) (filter (hasAttr n) cs);
              opts = filter (isT "option") here;
              option = head opts;
              ds =
                concatMap discharge values
                ++ optionals (option ? default) [
                  {
                    prio = 1500;
                    value = option.default;
                  }
                ];
            in
            if opts == [ ] then
              {
                leaf = false;
                sub = go at here (concatMap pushDown values);
              }
            else if length here != 1 then
              throw "The option `${showPath at}' is declared twice"
            else
              {
                leaf = true;
                inherit option;
                value =
                  if ds == [ ] then
                    throw "The option `${showPath at}' was accessed but has no value defined"
                  else
                    mergeDischarged at option.type ds;
              }
          );
          isFree = freeform != null && loc == prefix;
          # What an `mkIf false` removes is a mistake in its name all the same.
          unknown = unique (concatMap (c: filter (n: !(known ? ${n})) (attrNames c)) cs);
        in
        {
          unknowns =
            optionals (!isFree) (map (n: showPath (loc ++ [ n ])) unknown)
            ++ concatMap (k: if k.leaf then [ ] else k.sub.unknowns) (attrValues known);
          config =
            optionalAttrs isFree (mergeDefs loc freeform (map (c: removeAttrs c names) cs))
            // mapAttrs (_: k: if k.leaf then k.value else k.sub.config) known;
          docs = concatMap (
            n:
            let
              k = known.${n};
              at = loc ++ [ n ];
            in
            if k.leaf then
              [ (k.option // { name = showPath at; }) ]
              ++ (if k.option.type ? docs then k.option.type.docs at else [ ])
            else
              k.sub.docs
          ) names;
        };
      tree = go prefix (map (m: m.options) mods) defs;
      result = {
        config =
          if tree.unknowns == [ ] then
            tree.config
          else
            throw "The option `${head tree.unknowns}' does not exist";
        options = tree.docs;
        inherit freeform;
      };
    in
    result;
in
evalModules
