{
  description = "Knit: containers on Docker hosts in one WireGuard mesh";

  # Unstable: Knit wants a recent Rust.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      each = make: lib.genAttrs systems (system: make (pkgsFor system));
      pkgsFor = system: nixpkgs.legacyPackages.${system}.extend self.overlays.default;

      # `20261120…` as `2026-11-20`.
      modified = self.lastModifiedDate or "19700101000000";
      date = lib.concatStringsSep "-" [
        (builtins.substring 0 4 modified)
        (builtins.substring 4 2 modified)
        (builtins.substring 6 2 modified)
      ];

      # The modules take the package from here, so that no overlay is needed. One key, so that who
      # imports several modules gets one definition.
      package = {
        key = "knit-orchestrator/package";
        imports = [
          (
            { pkgs, ... }:
            {
              services.knit.package =
                lib.mkDefault
                  self.packages.${pkgs.stdenv.hostPlatform.system}.knit-orchestrator;
            }
          )
        ];
      };
      withPackage = module: {
        imports = [
          module
          package
        ];
      };
    in
    {
      overlays.default = import ./nixos/overlay.nix {
        commit = self.shortRev or self.dirtyShortRev or null;
        inherit date;
      };

      packages = each (pkgs: {
        inherit (pkgs) knit-orchestrator;
        default = pkgs.knit-orchestrator;
      });

      nixosModules = {
        default = withPackage ./nixos/modules;
        wg-mesh = withPackage ./nixos/modules/wg-mesh.nix;
        knit-agent = withPackage ./nixos/modules/knit-agent.nix;
        knit-server = withPackage ./nixos/modules/knit-server.nix;
      };

      checks = each (
        pkgs:
        import ./nixos/tests/vm {
          inherit pkgs;
          module = self.nixosModules.default;
        }
        // {
          modules = import ./nixos/tests/check.nix {
            inherit pkgs;
            libPath = nixpkgs + "/lib";
          };
        }
      );

      devShells = each (pkgs: {
        default = import ./nixos/dev-shell.nix { inherit pkgs; };
      });
      formatter = each (pkgs: pkgs.nixfmt-tree);
    };
}
