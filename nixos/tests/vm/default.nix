# Whole hosts in virtual machines: `nix build .#checks.x86_64-linux.deploy`.
{ pkgs, module }:
let
  cluster = import ./cluster.nix { inherit pkgs module; };
  test = file: pkgs.testers.runNixOSTest (import file { inherit cluster; });
in
{
  deploy = test ./deploy.nix;
  server-restart = test ./server-restart.nix;
  node-loss = test ./node-loss.nix;
}
