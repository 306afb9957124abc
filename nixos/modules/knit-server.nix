# The control plane: REST API, planner, and the nats-server that it runs as its child.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  helpers = import ./helpers.nix { inherit lib pkgs; };
  cfg = config.services.knit.server;

  program = lib.getExe' cfg.package "knit-server";
  configFile = helpers.configFile {
    name = "server.toml";
    check = cfg.checkConfig;
    inherit program;
    inherit (cfg) settings;
    withoutFiles =
      settings:
      removeAttrs settings [
        "master_key_file"
        "nats_tls_cert"
        "nats_tls_key"
        "nats_tls_ca"
      ]
      // lib.optionalAttrs (settings ? oidc) {
        oidc = removeAttrs settings.oidc [ "client_secret_file" ];
      };
  };
  # The first token stays in admin.token, which only root and the server can read: what this prints
  # would stand in the journal.
  init = pkgs.writeShellScript "knit-server-init" ''
    if [ ! -e "$STATE_DIRECTORY/identity.json" ]; then
      exec ${program} init --config ${configFile} >/dev/null
    fi
  '';
  secrets =
    # Without a file the master key is looked for in /etc/credstore, and need not be there.
    [ "master-key:${if cfg.masterKeyFile == null then "knit.master-key" else cfg.masterKeyFile}" ]
    ++ lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
  isEverywhere = address: address == "0.0.0.0" || address == "::";
in
{
  imports = [
    ./common.nix
    ./deployments.nix
  ];

  options.services.knit.server = {
    enable = lib.mkEnableOption "the server of a Knit cluster. Exactly one host of a cluster runs it";
    package = helpers.package config;
    checkConfig = helpers.checkConfig;

    makeCluster = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether to make a new cluster, with its keys and a first admin token, where there is none.
        The token is left in {file}`/var/lib/knit-server/admin.token`, readable by root and the
        server. Switch it off on a host that is to get a cluster's state from a backup: the server
        then stays quiet until it is there.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to open the REST API and NATS on {option}`services.knit.meshInterface`, and nowhere
        else. Nodes need both.
      '';
    };

    masterKeyFile = mkOption {
      type = types.nullOr helpers.secretPath;
      default = null;
      example = "/run/secrets/knit-master-key";
      description = ''
        File with the key that seals what is kept secret: 64 hex digits. Without one the server makes
        its own, beside its database.
      '';
    };

    credentials = mkOption {
      type = types.attrsOf helpers.secretPath;
      default = { };
      example = {
        oidc = "/run/secrets/knit-oidc";
      };
      description = ''
        Files with secrets that settings name, for example the key of NATS' certificate. The server
        finds them as {file}`/run/credentials/knit-server.service/NAME`.
      '';
    };

    settings = mkOption {
      default = { };
      example = {
        public_url = "https://knit.example.com";
        admit = "asked";
      };
      description = ''
        Contents of {file}`server.toml`: each flag of `knit-server run`, dashes as underscores, and
        the table `oidc`.
      '';
      type = types.submodule {
        freeformType = helpers.toml.type;
        options = {
          listen = mkOption {
            type = types.listOf types.str;
            default = [ ];
            example = [ "10.9.240.182" ];
            description = "Addresses to listen on instead of loopback and the mesh address.";
          };
          port = mkOption {
            type = types.port;
            default = 7400;
            description = "Port of the REST API.";
          };
          nats_port = mkOption {
            type = types.port;
            default = 7422;
            description = "Port of NATS for agents.";
          };
        };
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion =
          config.services.knit.wg-mesh.enable or false
          || cfg.settings.listen != [ ]
          || cfg.settings ? mesh_socket;
        message =
          "services.knit.server has no address: enable services.knit.wg-mesh"
          + lib.optionalString (helpers.goDaemon config) " (the socket of services.wgmesh is open to root alone, and the server is not root)"
          + ", or name this host's mesh address in services.knit.server.settings.listen.";
      }
      {
        assertion = cfg.settings.port != cfg.settings.nats_port;
        message = "services.knit.server.settings: port and nats_port are both ${toString cfg.settings.port}.";
      }
      {
        assertion = !(cfg.credentials ? master-key);
        message = "services.knit.server.credentials.master-key is what masterKeyFile is for.";
      }
      (helpers.reservedSettings "services.knit.server.settings" [
        "state_dir"
        "socket"
      ] cfg.settings)
      (helpers.settingOutsideStore "services.knit.server.settings.master_key_file" (
        cfg.settings.master_key_file or null
      ))
      (helpers.settingOutsideStore "services.knit.server.settings.nats_tls_key" (
        cfg.settings.nats_tls_key or null
      ))
      (helpers.settingOutsideStore "services.knit.server.settings.oidc.client_secret_file" (
        cfg.settings.oidc.client_secret_file or null
      ))
    ];
    warnings = lib.optional (lib.any isEverywhere cfg.settings.listen) ''
      services.knit.server.settings.listen names every address of this host: the API and NATS answer
      outside the mesh too, where nothing encrypts them but what you put before them.
    '';

    environment.systemPackages = [ cfg.package ];
    users.users.knit-server = {
      isSystemUser = true;
      group = "knit-server";
      description = "Knit server";
      home = "/var/lib/knit-server";
    };
    users.groups.knit-server = { };
    # The unit names it, whichever sidecar there is.
    users.groups.wg-mesh = { };

    networking.firewall.interfaces.${config.services.knit.meshInterface} = lib.mkIf cfg.openFirewall {
      allowedTCPPorts = [
        cfg.settings.port
      ]
      ++ lib.optional (!(cfg.settings ? nats_url)) cfg.settings.nats_port;
    };

    systemd.services.knit-server = {
      description = "Knit server";
      documentation = [ "man:knit-server(8)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "wg-mesh.service"
        "wgmesh.service"
      ];
      path = [ pkgs.nats-server ];
      stopIfChanged = false;
      unitConfig =
        helpers.startLimit
        // lib.optionalAttrs (!cfg.makeCluster) {
          ConditionPathExists = "/var/lib/knit-server/identity.json";
        };
      serviceConfig =
        helpers.hardening
        // helpers.supervised
        // {
          ExecStartPre = lib.mkIf cfg.makeCluster "${init}";
          ExecStart = "${program} run --config ${configFile}";
          LoadCredential = secrets;
          User = "knit-server";
          Group = "knit-server";
          SupplementaryGroups = "wg-mesh";
          StateDirectory = "knit-server";
          StateDirectoryMode = "0700";
          RuntimeDirectory = "knit";
          RuntimeDirectoryMode = "0755";
          LimitNOFILE = 16384;
          CapabilityBoundingSet = "";
          PrivateDevices = true;
          ProcSubset = "pid";
          RemoveIPC = true;
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
          ];
        };
    };
  };
}
