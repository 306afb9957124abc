# Three hosts: `first` has the server and is a node as well, `second` and `third` are nodes.
{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
  inputs.knit.url = "github:knit-run/knit";

  outputs =
    { nixpkgs, knit, ... }:
    let
      host =
        name: config:
        nixpkgs.lib.nixosSystem {
          modules = [
            knit.nixosModules.default
            node
            config
            {
              networking.hostName = name;
              # And what is the host's own: hardware, boot loader, users.
            }
          ];
        };
      node = {
        nixpkgs.hostPlatform = "x86_64-linux";
        services.knit.wg-mesh = {
          enable = true;
          # From sops-nix, agenix or by hand; the same on every host, and never in the store.
          secretFile = "/run/secrets/knit-mesh";
          openFirewall = true;
        };
        services.knit.agent.enable = true;
      };
    in
    {
      nixosConfigurations = {
        first = host "first" {
          services.knit.server = {
            enable = true;
            openFirewall = true;
          };
          services.knit.deployments.hello = {
            image = "nginx:alpine";
            replicas = 2;
            ports = [
              {
                container_port = 80;
                host_port = 8080;
              }
            ];
          };
        };
        second = host "second" {
          services.knit.agent.settings.labels.zone = "a";
        };
        # Where no LAN leads to the others, one of them is named.
        third = host "third" {
          services.knit.wg-mesh.settings.seed = [ "first.example.com" ];
          services.knit.agent = {
            tokenFile = "/run/secrets/knit-join-token";
            settings.labels.zone = "b";
          };
        };
      };
    };
}
