# The mesh sidecar `meshctl join`: WireGuard, its peers, and the socket that the agent and the server
# ask.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  helpers = import ./helpers.nix { inherit lib pkgs; };
  cfg = config.services.knit.wg-mesh;
  interface = cfg.settings.interface;

  program = lib.getExe' cfg.package "meshctl";
  configFile = helpers.configFile {
    name = "mesh.toml";
    check = cfg.checkConfig;
    inherit program;
    inherit (cfg) settings;
    withoutFiles = settings: removeAttrs settings [ "certificate" ];
  };

  # What the secret can make of the exchange port, unless it is known.
  exchange =
    if cfg.exchangePort == null then
      {
        from = 51821;
        to = 52820;
      }
    else
      {
        from = cfg.exchangePort;
        to = cfg.exchangePort;
      };
  # Peers probe each other within the mesh so far above it.
  probe = lib.mapAttrs (_: port: port + 2000) exchange;
  discoveryPort = 51830;
in
{
  imports = [ ./common.nix ];

  options.services.knit.wg-mesh = {
    enable = lib.mkEnableOption "the WireGuard mesh sidecar of Knit";
    package = helpers.package config;
    checkConfig = helpers.checkConfig;

    secretFile = mkOption {
      type = types.nullOr helpers.secretPath;
      default = null;
      example = "/run/secrets/knit-mesh";
      description = ''
        File with the mesh secret, the same on every host; `meshctl init` prints a new one. It is read
        by systemd, so root's alone is right. Until it is there the sidecar stays quiet.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether to open what the mesh itself needs: on every interface WireGuard's port, the exchange
        port and, with discovery on the LAN, its port, all UDP; within the mesh the port by which
        peers probe each other.
      '';
    };

    exchangePort = mkOption {
      type = types.nullOr types.port;
      default = null;
      example = 52001;
      description = ''
        The exchange port, which the secret decides and the sidecar's log names. Without it
        {option}`openFirewall` opens all that it can be, 51821 to 52820.
      '';
    };

    settings = mkOption {
      default = { };
      example = {
        seed = [ "203.0.113.7" ];
        mesh_subnet = "10.9.0.0/16";
      };
      description = ''
        Contents of {file}`mesh.toml`: each flag of `meshctl join`, dashes as underscores.
      '';
      type = types.submodule {
        freeformType = helpers.toml.type;
        options = {
          interface = mkOption {
            type = types.strMatching "[A-Za-z][A-Za-z0-9_-]{0,14}";
            default = config.services.knit.meshInterface;
            defaultText = lib.literalExpression "config.services.knit.meshInterface";
            description = "Name of the WireGuard interface.";
          };
          listen_port = mkOption {
            type = types.port;
            default = 51820;
            description = "UDP port of WireGuard.";
          };
          no_lan_discovery = mkOption {
            type = types.bool;
            default = false;
            description = "Whether peers come from seeds alone.";
          };
        };
      };
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.secretFile != null;
        message = "services.knit.wg-mesh.secretFile is not set: `meshctl init` prints a new mesh secret.";
      }
      {
        assertion = !(helpers.goDaemon config);
        message = "services.knit.wg-mesh and services.wgmesh are two sidecars for one mesh: enable one of them.";
      }
      {
        assertion = interface == config.services.knit.meshInterface;
        message = "services.knit.wg-mesh.settings.interface is ${interface}, services.knit.meshInterface ${config.services.knit.meshInterface}: set the latter alone.";
      }
      {
        assertion =
          !(config.networking.wireguard.interfaces ? ${interface})
          && !(config.networking.wg-quick.interfaces ? ${interface});
        message = "networking.wireguard or networking.wg-quick makes ${interface} too, which is the mesh's: name another in services.knit.meshInterface.";
      }
      (helpers.reservedSettings "services.knit.wg-mesh.settings" [
        "secret_file"
        "state_dir"
        "socket_path"
        "socket_group"
        "config"
      ] cfg.settings)
    ];

    environment.systemPackages = [ cfg.package ];
    boot.kernelModules = [
      "wireguard"
      "tun"
    ];
    users.groups.wg-mesh = { };
    users.users.wg-mesh = {
      isSystemUser = true;
      group = "wg-mesh";
      description = "Knit mesh sidecar";
      home = "/var/lib/wgmesh";
    };

    networking.firewall = lib.mkIf cfg.openFirewall {
      allowedUDPPorts = [
        cfg.settings.listen_port
      ]
      ++ lib.optional (!cfg.settings.no_lan_discovery) discoveryPort;
      allowedUDPPortRanges = [ exchange ];
      interfaces.${interface}.allowedTCPPortRanges = [ probe ];
    };
    # The interface's addresses are the sidecar's to give.
    networking.dhcpcd.denyInterfaces = [ interface ];
    networking.networkmanager.unmanaged = [ "interface-name:${interface}" ];
    systemd.network.networks."50-knit-mesh" = lib.mkIf config.networking.useNetworkd {
      matchConfig.Name = interface;
      linkConfig = {
        Unmanaged = true;
        ActivationPolicy = "manual";
      };
    };

    systemd.services.wg-mesh = {
      description = "WireGuard mesh sidecar of Knit";
      documentation = [ "man:meshctl(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # The Go daemon does the same on the same ports.
      conflicts = [ "wgmesh.service" ];
      # An introducer's rules.
      path = [
        pkgs.nftables
        pkgs.iptables
      ];
      # A switch that comes through the mesh must not be cut off halfway: restart once, at its end.
      stopIfChanged = false;
      unitConfig = helpers.startLimit // {
        ConditionPathExists = cfg.secretFile;
      };
      serviceConfig =
        helpers.hardening
        // helpers.supervised
        // {
          ExecStart = "${program} join --config ${configFile} --socket-path /run/wg-mesh/wgmesh.sock --socket-group wg-mesh";
          LoadCredential = "mesh-secret:${toString cfg.secretFile}";
          User = "wg-mesh";
          Group = "wg-mesh";
          StateDirectory = "wgmesh";
          StateDirectoryMode = "0700";
          RuntimeDirectory = "wg-mesh";
          RuntimeDirectoryMode = "0755";
          RuntimeDirectoryPreserve = "restart";
          AmbientCapabilities = "CAP_NET_ADMIN";
          CapabilityBoundingSet = "CAP_NET_ADMIN";
          DevicePolicy = "closed";
          DeviceAllow = "/dev/net/tun rw";
          ReadWritePaths = "-/proc/sys/net";
          RemoveIPC = true;
          SystemCallFilter = [
            "@system-service"
            "~@privileged @resources"
            "@chown"
          ];
        };
    };
  };
}
