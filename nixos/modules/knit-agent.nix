# The agent: runs what the server assigns to this host.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  helpers = import ./helpers.nix { inherit lib pkgs; };
  cfg = config.services.knit.agent;
  hasSidecar = config.services.knit.wg-mesh.enable or false || helpers.goDaemon config;

  program = lib.getExe' cfg.package "knit-agent";
  configFile = helpers.configFile {
    name = "agent.toml";
    check = cfg.checkConfig;
    inherit program;
    inherit (cfg) settings;
    withoutFiles = settings: removeAttrs settings [ "nats_ca" ];
  };
in
{
  imports = [ ./common.nix ];

  options.services.knit.agent = {
    enable = lib.mkEnableOption "the agent of Knit, which makes this host a node";
    package = helpers.package config;
    checkConfig = helpers.checkConfig;

    tokenFile = mkOption {
      type = types.nullOr helpers.secretPath;
      default = null;
      example = "/run/secrets/knit-join-token";
      description = ''
        File with a join token, from `knit node token`. It is needed until the host has joined, and
        must be there, spent or not, as long as it is named. Without one the host waits until
        `knit node approve` lets it in.
      '';
    };

    settings = mkOption {
      default = { };
      example = {
        labels.zone = "a";
        policy.host_paths = [ "/srv/media" ];
      };
      description = ''
        Contents of {file}`agent.toml`: each flag of `knit-agent run`, dashes as underscores, and the
        tables `labels` and `policy`.
      '';
      type = types.submodule {
        freeformType = helpers.toml.type;
        options.server = mkOption {
          type = types.nonEmptyStr;
          default = "auto";
          example = "http://10.9.240.182:7400";
          description = "The server; `auto` finds it among the hosts of the mesh.";
        };
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = config.virtualisation.docker.enable || cfg.settings ? docker_socket;
        message = "services.knit.agent runs containers with Docker: leave virtualisation.docker.enable on, or name another socket in services.knit.agent.settings.docker_socket.";
      }
      {
        assertion = hasSidecar || cfg.settings ? mesh_socket;
        message = "services.knit.agent waits for a mesh: enable services.knit.wg-mesh or services.wgmesh, or name the socket of another sidecar in services.knit.agent.settings.mesh_socket.";
      }
      (helpers.reservedSettings "services.knit.agent.settings" [
        "state_dir"
        "secrets_dir"
      ] cfg.settings)
    ];
    warnings =
      lib.optional (config.networking.nftables.enable && config.networking.firewall.filterForward)
        "networking.firewall.filterForward drops what Knit's containers send; networking.firewall.extraForwardRules has to accept it.";

    environment.systemPackages = [ cfg.package ];
    virtualisation.docker.enable = lib.mkDefault true;
    # The unit names it, whichever sidecar there is.
    users.groups.wg-mesh = { };

    systemd.services.knit-agent = {
      description = "Knit agent";
      documentation = [ "man:knit-agent(8)" ];
      wantedBy = [ "multi-user.target" ];
      # Not `requires`: a Docker or a mesh that is started again must not take the agent down.
      wants = [
        "network-online.target"
        "docker.service"
      ];
      after = [
        "network-online.target"
        "docker.service"
        "wg-mesh.service"
        "wgmesh.service"
      ];
      # Published ports, and Docker's own chain that lets them pass.
      path = [
        pkgs.nftables
        pkgs.iptables
      ];
      # Containers run on meanwhile, and the shorter the better.
      stopIfChanged = false;
      unitConfig = helpers.startLimit;
      serviceConfig =
        helpers.hardening
        // helpers.supervised
        // {
          ExecStart = "${program} run --config ${configFile}";
          # Without a file it is looked for in /etc/credstore, and need not be there.
          LoadCredential = "join-token:${
            if cfg.tokenFile == null then "knit.join-token" else cfg.tokenFile
          }";
          SupplementaryGroups = "wg-mesh";
          StateDirectory = "knit-agent";
          StateDirectoryMode = "0700";
          RuntimeDirectory = "knit-agent";
          RuntimeDirectoryMode = "0700";
          RuntimeDirectoryPreserve = true;
          KillMode = "mixed";
          CapabilityBoundingSet = "CAP_NET_ADMIN CAP_CHOWN CAP_FOWNER";
          PrivateDevices = true;
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
            "@chown"
          ];
        };
    };
  };
}
