# What the mesh, the agent and the server have in common.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.services.knit = {
    # nixpkgs has another program under the name `knit`.
    package = lib.mkPackageOption pkgs "knit-orchestrator" { };

    meshInterface = mkOption {
      type = types.strMatching "[A-Za-z][A-Za-z0-9_-]{0,14}";
      default = "wg0";
      example = "mesh0";
      description = ''
        The WireGuard interface of the mesh, whichever sidecar makes it. Ports that are opened are
        opened there.
      '';
    };
  };
}
