# Functions over lists, sets and texts, as nixpkgs' lib has them.
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    foldl'
    listToAttrs
    stringLength
    substring
    ;
in
rec {
  optional = c: x: if c then [ x ] else [ ];
  optionals = c: x: if c then x else [ ];
  optionalAttrs = c: x: if c then x else { };
  optionalString = c: x: if c then x else "";
  mapAttrsToList = f: a: map (n: f n a.${n}) (attrNames a);
  nameValuePair = name: value: { inherit name value; };
  filterAttrs =
    p: a: listToAttrs (concatMap (n: optional (p n a.${n}) (nameValuePair n a.${n})) (attrNames a));
  genAttrs = ns: f: listToAttrs (map (n: nameValuePair n (f n)) ns);
  hasPrefix = p: s: substring 0 (stringLength p) s == p;
  removeSuffix =
    p: s:
    let
      keep = stringLength s - stringLength p;
    in
    if keep >= 0 && substring keep (stringLength p) s == p then substring 0 keep s else s;
  unique = foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  getExe' = p: n: "${p.outPath}/bin/${n}";
  getExe = p: getExe' p (p.meta.mainProgram or (throw "getExe: ${p.name} has no meta.mainProgram"));
  importTOML = path: builtins.fromTOML (builtins.readFile path);
  versionOlder = a: b: builtins.compareVersions a b == -1;
  throwIf = c: message: if c then throw message else (x: x);
  showPath = concatStringsSep ".";
}
