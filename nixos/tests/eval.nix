# Evaluates the modules without NixOS: against the stand-ins beside this file, or with nixpkgs' own lib.
#
#   nix-instantiate --eval --strict --json nixos/tests/eval.nix -A verdicts
#   nix-instantiate --eval --strict --json nixos/tests/eval.nix -A verdicts --arg libPath '<nixpkgs/lib>'
#
# must print `[]`.
{
  libPath ? ./minilib,
}:
let
  lib = import libPath;
  pkgs = import ./pkgs.nix { inherit lib; };
  cases = import ./cases.nix;
  render = import ./render.nix { inherit lib; };

  evaluatedWith =
    pkgs: modules:
    lib.evalModules {
      specialArgs = { inherit pkgs; };
      modules = [
        ./stub.nix
        ../modules
      ]
      ++ modules;
    };
  evaluated = evaluatedWith pkgs;
  failed = config: map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
  # Everything that a system would be made from, to its depth: what is not looked at hides mistakes.
  whole =
    modules:
    let
      inherit (evaluated modules) config;
    in
    {
      inherit (config) warnings;
      failed = failed config;
      services = lib.mapAttrs (_: render.unit) config.systemd.services;
      networkd = config.systemd.network.networks;
      inherit (config.users) users groups;
      inherit (config.networking) firewall dhcpcd networkmanager;
      inherit (config.boot) kernelModules;
      docker = config.virtualisation.docker.enable;
      packages = map (one: one.name) config.environment.systemPackages;
      settings = lib.mapAttrs (_: one: one.settings or { }) {
        inherit (config.services.knit) agent server wg-mesh;
      };
      deployments = config.services.knit.deployments;
    };

  # Messages of the assertions that fail, beside the words that the only one of them should have.
  refused = lib.mapAttrs (_: case: {
    inherit (case) words;
    failed = failed (evaluated case.config).config;
  }) cases.refused;

  contains = words: text: builtins.replaceStrings [ words ] [ "" ] text != text;
  isError = value: !(builtins.tryEval (builtins.deepSeq value true)).success;
  names = p: set: lib.attrNames (lib.filterAttrs p set);
in
rec {
  inherit refused;
  good = lib.mapAttrs (_: whole) cases.good;
  # Each of these is an error, one at a time; its text has the words.
  mistyped = lib.mapAttrs (_: case: whole case.config) cases.mistyped;
  mistypedWords = lib.mapAttrs (_: case: case.words) cases.mistyped;

  # What is not as it should be; nothing.
  verdicts =
    map (name: "good.${name}") (names (_: one: isError one || one.failed != [ ]) good)
    ++ map (name: "refused.${name}") (
      names (
        _: one: lib.length one.failed != 1 || !(contains one.words (lib.head one.failed))
      ) refused
    )
    ++ map (name: "mistyped.${name}") (names (_: one: !(isError one)) mistyped);

  # The script that makes a cluster.
  init =
    (evaluatedWith (pkgs // { writeShellScript = _: text: text; }) cases.good.plain)
    .config.systemd.services.knit-server.serviceConfig.ExecStartPre;

  # How each program is started, with the script that checks its configuration and that configuration
  # in place of their paths.
  starts =
    let
      inherit
        (evaluatedWith (
          pkgs
          // {
            runCommand = _: _: text: text;
            formats = pkgs.formats // {
              toml = { }: pkgs.formats.toml { } // { generate = _: builtins.toJSON; };
            };
          }
        ) cases.good.everything)
        config
        ;
    in
    lib.mapAttrs (_: service: service.serviceConfig.ExecStart) config.systemd.services;

  # The hosts of the example.
  example =
    let
      inherit
        ((import ../example/flake.nix).outputs {
          nixpkgs.lib.nixosSystem = { modules }: whole ([ ./example-stub.nix ] ++ modules);
          knit.nixosModules.default = ../modules;
        })
        nixosConfigurations
        ;
    in
    nixosConfigurations;

  options = import ./options.nix {
    inherit lib;
    inherit (evaluated [ ]) options;
  };

  # What the flake says, with stand-ins for nixpkgs and for itself.
  flake = import ./flake-shape.nix { inherit lib pkgs; };
}
