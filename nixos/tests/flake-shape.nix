# The outputs of the flake, with stand-ins for nixpkgs and for the flake itself: names and shapes.
{ lib, pkgs }:
let
  # Not more than what the flake and the files that it imports may use.
  nixpkgs = {
    inherit lib;
    outPath = "/nixpkgs";
    legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
      extend =
        overlay:
        let
          final = base // overlay final base;
          base = pkgs // {
            inherit system;
            # Which paths are in the source, without a copy of them.
            lib = lib // {
              fileset = {
                unions = paths: { inherit paths; };
                toSource = { root, fileset }: { inherit root; } // fileset;
              };
            };
            callPackage =
              path: overrides:
              let
                function = import path;
              in
              function (builtins.intersectAttrs (builtins.functionArgs function) final // overrides);
            rustc.version = rustVersion;
            rustPlatform.buildRustPackage =
              arguments: { type = "derivation"; outPath = "/nix/store/knit"; } // arguments;
            installShellFiles = "installShellFiles";
            mkShell = arguments: { type = "derivation"; } // arguments;
            nixfmt-tree = "nixfmt-tree";
            testers.runNixOSTest = test: { type = "derivation"; } // test;
            dockerTools.buildLayeredImage = _: "/image";
            busybox = pkgs.nftables;
            curl = pkgs.nftables;
          };
        in
        final;
    });
  };
  rustVersion = "99.0.0";
  outputs = (import ../../flake.nix).outputs { inherit self nixpkgs; };
  self = outputs // {
    shortRev = "abc1234";
    lastModifiedDate = "20261120123456";
  };
  package = outputs.packages.x86_64-linux.default;
  old = import ../package.nix {
    inherit lib;
    inherit (pkgs) stdenv;
    rustPlatform = { };
    rustc.version = "1.80.0";
    installShellFiles = null;
  };
  hosts = lib.evalModules {
    specialArgs.pkgs = pkgs // {
      stdenv.hostPlatform.system = "x86_64-linux";
    };
    # As a host imports them: several at once.
    modules = [
      ./stub.nix
      outputs.nixosModules.wg-mesh
      outputs.nixosModules.knit-agent
      outputs.nixosModules.knit-server
      outputs.nixosModules.default
    ];
  };
  # A host of the tests in virtual machines, as far as it can be evaluated here.
  machine =
    node:
    lib.evalModules {
      specialArgs.pkgs = pkgs // {
        stdenv.hostPlatform.system = "x86_64-linux";
        stdenv.buildPlatform.canExecute = _: true;
      };
      modules = [
        ./stub.nix
        {
          options = {
            virtualisation.memorySize = lib.mkOption { type = lib.types.int; };
            virtualisation.diskSize = lib.mkOption { type = lib.types.int; };
            environment.etc = lib.mkOption { type = lib.types.attrsOf lib.types.unspecified; };
          };
        }
        node
      ];
    };
in
{
  outputs = {
    nixosModules = lib.attrNames outputs.nixosModules;
    overlays = lib.attrNames outputs.overlays;
    formatter = outputs.formatter.x86_64-linux;
  }
  // lib.mapAttrs (_: of: lib.attrNames of.x86_64-linux) {
    inherit (outputs) packages checks devShells;
  };
  # Deep enough that what a shell holds is there.
  shell = lib.length outputs.devShells.x86_64-linux.default.packages;
  systems = lib.attrNames outputs.packages;
  package = {
    inherit (package)
      pname
      version
      env
      postInstall
      ;
    inherit (package.meta) mainProgram;
    lock = builtins.pathExists package.cargoLock.lockFile;
    missing = lib.filter (path: !(builtins.pathExists path)) package.src.paths;
    source = map (path: baseNameOf path) package.src.paths;
  };
  oldRustIsRefused = !(builtins.tryEval old).success;
  modulesTakeThePackage = hosts.config.services.knit.package.pname;
  checks = lib.mapAttrs (_: check: {
    # The services of each, and what its assertions say.
    nodes = lib.mapAttrs (
      _: node:
      let
        inherit (machine node) config;
      in
      {
        services = lib.attrNames (builtins.deepSeq config.systemd.services config.systemd.services);
        inherit (config.services.knit) deployments;
        failed = map (one: one.message) (lib.filter (one: !one.assertion) config.assertions);
      }
    ) (check.nodes or { });
    script = check.testScript or null;
  }) outputs.checks.x86_64-linux;
}
