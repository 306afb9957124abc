# `mkIf`, `mkMerge`, `mkDefault` and what becomes of them.
let
  inherit (builtins)
    concatMap
    isAttrs
    isBool
    mapAttrs
    ;
in
rec {
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  isT = t: x: isAttrs x && x._type or null == t;
  # One value with properties as values with priorities; the outermost override wins.
  discharge =
    v:
    if isT "if" v then
      (
        if !(isBool v.condition) then
          throw "mkIf takes a boolean"
        else if v.condition then
          discharge v.content
        else
          [ ]
      )
    else if isT "merge" v then
      concatMap discharge v.contents
    else if isT "override" v then
      map (d: d // { prio = v.priority; }) (discharge v.content)
    else
      [
        {
          prio = 100;
          value = v;
        }
      ];
  # Properties at the top of a set of definitions move to each of its attributes.
  pushDown =
    c:
    if isT "merge" c then
      concatMap pushDown c.contents
    else if isT "if" c then
      map (mapAttrs (_: v: mkIf c.condition v)) (pushDown c.content)
    else if isT "override" c then
      map (mapAttrs (_: v: mkOverride c.priority v)) (pushDown c.content)
    else if isAttrs c then
      [ c ]
    else
      throw "a set of definitions is no attribute set";
}
