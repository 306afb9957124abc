# Stand-ins for what the modules take from nixpkgs: nothing is built, so a path in the store that says
# what would be there is enough.
{ lib }:
let
  store = name: "/nix/store/00000000000000000000000000000000-${name}";
  package = pname: {
    type = "derivation";
    name = pname;
    inherit pname;
    outPath = store pname;
    outputName = "out";
    outputs = [ "out" ];
    meta.mainProgram = pname;
  };
  # As nixpkgs has them: TOML knows no null.
  value =
    description: wrap:
    let
      self =
        wrap (
          lib.types.oneOf [
            lib.types.bool
            lib.types.int
            lib.types.float
            lib.types.str
            lib.types.path
            (lib.types.attrsOf self)
            (lib.types.listOf self)
          ]
        )
        // {
          inherit description;
        };
    in
    self;
  # What would be in the file is told by its name.
  written = what: name: content: {
    type = "derivation";
    inherit name content;
    outPath = store name;
    __toString = _: store name;
    ${what} = true;
  };
in
{
  knit-orchestrator = package "knit-orchestrator" // {
    meta.mainProgram = "knit";
  };
  nftables = package "nftables";
  iptables = package "iptables";
  nats-server = package "nats-server";

  formats = {
    toml =
      { }:
      {
        type = value "TOML value" (x: x);
        generate = written "isToml";
      };
    json =
      { }:
      {
        type = value "JSON value" lib.types.nullOr;
        generate = written "isJson";
      };
  };
  runCommand =
    name: _: script:
    written "isCommand" name script;
  writeShellScript = written "isScript";
  linkFarm = written "isFarm";

  stdenv = {
    buildPlatform.canExecute = _: true;
    hostPlatform = { };
  };
}
