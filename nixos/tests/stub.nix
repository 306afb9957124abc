# Stand-ins for the NixOS options that the modules set or read. What is not here is an error, and types
# follow NixOS' where it matters: lists join, two texts conflict.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  list =
    type:
    mkOption {
      type = types.listOf type;
      default = [ ];
    };
  flag =
    default:
    mkOption {
      type = types.bool;
      inherit default;
    };
  text =
    default:
    mkOption {
      type = types.str;
      inherit default;
    };
  attrs =
    type:
    mkOption {
      type = types.attrsOf type;
      default = { };
    };
  module = options: types.submodule { inherit options; };

  range = module {
    from = mkOption { type = types.port; };
    to = mkOption { type = types.port; };
  };
  # A network interface's own rules, and those of all.
  ports = {
    allowedTCPPorts = list types.port;
    allowedUDPPorts = list types.port;
    allowedTCPPortRanges = list range;
    allowedUDPPortRanges = list range;
  };
  unitValue =
    let
      atom = types.nullOr (
        types.oneOf [
          types.bool
          types.int
          types.float
          types.str
          types.path
          types.package
        ]
      );
    in
    types.either atom (types.listOf atom);
in
{
  options = {
    assertions = list types.unspecified;
    warnings = list types.str;
    boot.kernelModules = list types.str;
    environment.systemPackages = list types.package;

    networking = {
      dhcpcd.denyInterfaces = list types.str;
      firewall = ports // {
        enable = flag true;
        filterForward = flag false;
        interfaces = attrs (module ports);
      };
      networkmanager.unmanaged = list types.str;
      nftables.enable = flag false;
      useNetworkd = flag false;
      wireguard.interfaces = attrs types.unspecified;
      wg-quick.interfaces = attrs types.unspecified;
    };
    virtualisation.docker.enable = flag false;

    users.groups = attrs (module {
      members = list types.str;
    });
    users.users = attrs (module {
      isSystemUser = flag false;
      group = text "";
      description = text "";
      home = text "/var/empty";
      extraGroups = list types.str;
    });

    systemd.network.networks = attrs (module {
      matchConfig = attrs unitValue;
      linkConfig = attrs unitValue;
    });
    systemd.services = attrs (module {
      description = text "";
      documentation = list types.str;
      wantedBy = list types.str;
      wants = list types.str;
      requires = list types.str;
      after = list types.str;
      before = list types.str;
      conflicts = list types.str;
      path = list types.package;
      restartTriggers = list types.unspecified;
      stopIfChanged = flag true;
      environment = attrs (types.nullOr types.str);
      unitConfig = attrs unitValue;
      serviceConfig = attrs unitValue;
    });
  };
}
