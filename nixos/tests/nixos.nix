# The hosts of the example as whole NixOS systems, with a real nixpkgs: what their assertions say, the
# units that come out, and (`-A toplevel`) the systems themselves.
#
#   nix-instantiate --eval --strict --json nixos/tests/nixos.nix -A failed --arg nixpkgs '<nixpkgs>'
#
# must print an empty list for each host.
{
  nixpkgs ? <nixpkgs>,
}:
let
  lib = import (nixpkgs + "/lib");
  hosts =
    ((import ../example/flake.nix).outputs {
      nixpkgs.lib.nixosSystem =
        { modules }:
        (import (nixpkgs + "/nixos/lib/eval-config.nix") {
          system = null;
          modules = modules ++ [
            {
              nixpkgs.overlays = [ (import ../overlay.nix { }) ];
              # What is the host's own.
              boot.loader.grub.enable = false;
              fileSystems."/" = {
                device = "/dev/vda";
                fsType = "ext4";
              };
              system.stateVersion = lib.trivial.release;
            }
          ];
        }).config;
      knit.nixosModules.default = ../modules;
    }).nixosConfigurations;
  ours = [
    "wg-mesh.service"
    "knit-agent.service"
    "knit-server.service"
  ];
in
{
  failed = lib.mapAttrs (
    _: config: map (one: one.message) (lib.filter (one: !one.assertion) config.assertions)
  ) hosts;
  units = lib.mapAttrs (
    _: config:
    lib.mapAttrs (_: unit: unit.text) (
      lib.filterAttrs (name: _: lib.elem name ours) config.systemd.units
    )
  ) hosts;
  toplevel = lib.mapAttrs (_: config: config.system.build.toplevel) hosts;
}
