# Types: whether they take a value, and how the values of several definitions become one.
{
  basics,
  properties,
  evalModules,
}:
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    mapAttrs
    match
    tail
    ;
  inherit (basics)
    optionals
    filterAttrs
    genAttrs
    hasPrefix
    unique
    showPath
    ;
  inherit (properties) discharge;
  one = description: check: {
    inherit description check;
    merge =
      loc: vs:
      if all (v: v == head vs) vs then
        head vs
      else
        throw "The option `${showPath loc}' has conflicting definition values";
  };
  strLike = x: isString x || (isAttrs x && x ? outPath);
  types = {
    bool = one "boolean" isBool;
    int = one "signed integer" isInt;
    float = one "floating point number" isFloat;
    str = one "string" isString;
    nonEmptyStr = one "non-empty string" (x: isString x && match "[ \t\n]*" x == null);
    path = one "absolute path" (x: (strLike x || isPath x) && hasPrefix "/" (toString x));
    # Two definitions conflict here even when they are the same.
    package = one "package" (x: isAttrs x && x.type or null == "derivation") // {
      merge =
        loc: vs:
        if length vs == 1 then
          head vs
        else
          throw "The option `${showPath loc}' is defined multiple times while it's expected to be unique";
    };
    port = one "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (
      x: isInt x && x >= 0 && x <= 65535
    );
    enum =
      vs: one "one of ${concatStringsSep ", " (map builtins.toJSON vs)}" (x: elem x vs);
    strMatching =
      re: one "string matching the pattern ${re}" (x: isString x && match re x != null);
    # What is to stay out of the store must be text: a path literal would be copied there.
    pathWith =
      { inStore, absolute }:
      if inStore || !absolute then
        throw "pathWith: not of this stand-in"
      else
        one "absolute path not in the Nix store" (
          x: isString x && hasPrefix "/" x && !(hasPrefix "/nix/store/" x)
        );
    unspecified = {
      description = "unspecified value";
      check = _: true;
      merge = _: vs: head vs;
    };
    nullOr =
      t:
      t
      // {
        description = "null or ${t.description}";
        check = x: x == null || t.check x;
        merge =
          loc: vs:
          if all (v: v == null) vs then
            null
          else if elem null vs then
            throw "The option `${showPath loc}' is defined both null and not null"
          else
            t.merge loc vs;
      };
    either = a: b: {
      description = "${a.description} or ${b.description}";
      check = x: a.check x || b.check x;
      merge =
        loc: vs:
        if all a.check vs then
          a.merge loc vs
        else if all b.check vs then
          b.merge loc vs
        else
          throw "The option `${showPath loc}' has definitions of different types";
    };
    oneOf = ts: foldl' types.either (head ts) (tail ts);
    listOf = t: {
      description = "list of ${t.description}";
      check = isList;
      merge =
        loc: vs:
        let
          values = concatMap discharge (concatLists vs);
        in
        genList (i: mergeDischarged (loc ++ [ "[${toString i}]" ]) t [ (elemAt values i) ]) (
          length values
        );
      docs = loc: if t ? docs then t.docs (loc ++ [ "*" ]) else [ ];
    };
    attrsOf = t: {
      description = "attribute set of ${t.description}";
      check = x: isAttrs x && !(x ? _type);
      merge =
        loc: vs:
        let
          names = unique (concatMap attrNames vs);
          defs = genAttrs names (n: concatMap (v: optionals (v ? ${n}) (discharge v.${n})) vs);
        in
        mapAttrs (n: ds: mergeDischarged (loc ++ [ n ]) t ds) (filterAttrs (_: ds: ds != [ ]) defs);
      docs = loc: if t ? docs then t.docs (loc ++ [ "<name>" ]) else [ ];
    };
    submodule =
      m:
      let
        eval =
          loc: modules:
          evalModules {
            prefix = loc;
            specialArgs.name = if loc == [ ] then "" else elemAt loc (length loc - 1);
            modules = [ m ] ++ modules;
          };
        free = (eval [ ] [ ]).freeform;
      in
      {
        description =
          if free == null then "submodule" else "open submodule of (${free.description})";
        check = x: isAttrs x || isFunction x;
        merge = loc: vs: (eval loc (map (v: if isFunction v then v else { config = v; }) vs)).config;
        docs = loc: (eval loc [ ]).options;
      };
  };

  mergeDischarged =
    loc: t: ds:
    let
      best = foldl' (m: d: if d.prio < m then d.prio else m) 9999 ds;
    in
    mergeDefs loc t (map (d: d.value) (filter (d: d.prio == best) ds));
  mergeDefs =
    loc: t: vs:
    if all t.check vs then
      t.merge loc vs
    else
      throw "A definition for option `${showPath loc}' is not of type `${t.description}'";
in
{
  inherit types mergeDischarged mergeDefs;
}
