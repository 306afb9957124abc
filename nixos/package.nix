# The four programs of Knit, in one package.
{
  lib,
  rustPlatform,
  rustc,
  installShellFiles,
  stdenv,
  # What `--version` tells of the source.
  commit ? null,
  date ? null,
}:
let
  root = ../.;
  workspace = (lib.importTOML (root + "/Cargo.toml")).workspace.package;
  programs = [
    "knit"
    "knit-server"
    "knit-agent"
    "meshctl"
  ];
in
lib.throwIf (lib.versionOlder rustc.version workspace.rust-version)
  "Knit needs Rust ${workspace.rust-version}, and this nixpkgs has ${rustc.version}: follow a newer one, or give package.nix the rustPlatform and rustc of a toolchain overlay."
  (
    rustPlatform.buildRustPackage {
      pname = "knit-orchestrator";
      inherit (workspace) version;

      # Documentation is not among it: what changes there rebuilds nothing.
      src = lib.fileset.toSource {
        inherit root;
        fileset = lib.fileset.unions [
          (root + "/Cargo.toml")
          (root + "/Cargo.lock")
          (root + "/rpc")
          (root + "/runtime")
          (root + "/knit-server")
          (root + "/knit-agent")
          (root + "/meshctl")
          (root + "/knit-cli")
          (root + "/packaging")
        ];
      };
      # Every dependency is from the registry, so there is no hash to keep.
      cargoLock.lockFile = root + "/Cargo.lock";
      cargoBuildFlags = [ "--bins" ];
      # They need Docker, NATS and root; what of them can run within Nix are the flake's checks.
      doCheck = false;

      env = lib.optionalAttrs (commit != null && date != null) {
        KNIT_COMMIT = commit;
        KNIT_DATE = date;
      };

      nativeBuildInputs = [ installShellFiles ];
      postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
        mkdir man
        for program in ${lib.concatStringsSep " " programs}; do
          for shell in bash zsh fish; do
            "$out/bin/$program" completion "$shell" >"$program.$shell"
          done
          installShellCompletion --cmd "$program" \
            --bash "$program.bash" --zsh "$program.zsh" --fish "$program.fish"
          "$out/bin/$program" man man
        done
        installManPage man/*
      '';

      meta = {
        description = "Container orchestrator for Docker hosts in one WireGuard mesh";
        homepage = workspace.repository;
        license = [
          lib.licenses.mit
          lib.licenses.asl20
        ];
        mainProgram = "knit";
        platforms = lib.platforms.linux;
      };
    }
  )
