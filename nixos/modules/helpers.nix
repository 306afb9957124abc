# What the modules share and users do not see.
{ lib, pkgs }:
let
  inherit (lib) types;
in
rec {
  toml = pkgs.formats.toml { };

  # A file outside the store: everybody on the host can read what is in the store, and whoever gets a
  # copy of it as well.
  secretPath = types.pathWith {
    inStore = false;
    absolute = true;
  };

  package =
    config:
    lib.mkOption {
      type = types.package;
      default = config.services.knit.package;
      defaultText = lib.literalExpression "config.services.knit.package";
      description = "The package with the program.";
    };

  checkConfig = lib.mkOption {
    type = types.bool;
    default = true;
    description = ''
      Whether the program itself checks its configuration while the system is built. It cannot where
      the system is built for another processor.
    '';
  };

  # The configuration file, which `check-config` of the program has seen but for what names files:
  # those are on the host, not where the system is built.
  configFile =
    {
      name,
      program,
      settings,
      check,
      withoutFiles,
    }:
    let
      file = toml.generate name settings;
      checked = toml.generate name (withoutFiles settings);
      canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
    in
    if !(check && canRun) then
      file
    else
      pkgs.runCommand "checked-${name}" { } ''
        ${program} check-config ${checked}
        cp ${file} $out
      '';

  # Settings that the unit decides: a key of the file would be overruled, or lead out of its sandbox.
  reservedSettings = option: reserved: settings: {
    assertion = !(lib.any (key: settings ? ${key}) reserved);
    message = "${option}: ${lib.concatStringsSep ", " reserved} are the unit's own to decide.";
  };

  # Secrets that a setting names by path. A path literal would be copied into the store.
  settingOutsideStore =
    option: value: {
      assertion =
        value == null
        || !(builtins.isPath value || lib.hasPrefix builtins.storeDir (toString value));
      message = "${option} lies in the Nix store, where every user can read it; name a file elsewhere, as text.";
    };

  goDaemon = config: config.services.wgmesh.enable or false;

  # What keeps each daemon to its work; the units of packaging/systemd say why.
  hardening = {
    UMask = "0077";
    NoNewPrivileges = true;
    ProtectSystem = "strict";
    ProtectHome = true;
    PrivateTmp = true;
    PrivateMounts = true;
    ProtectClock = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectControlGroups = true;
    ProtectProc = "invisible";
    RestrictAddressFamilies = [
      "AF_INET"
      "AF_INET6"
      "AF_UNIX"
      "AF_NETLINK"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
  };

  # A daemon that says when it is ready, and is started again when it ends or hangs.
  supervised = {
    Type = "notify";
    NotifyAccess = "main";
    Restart = "on-failure";
    RestartSec = "2s";
    WatchdogSec = "60s";
    SyslogIdentifier = "%N";
  };

  startLimit = {
    StartLimitIntervalSec = 60;
    StartLimitBurst = 10;
  };
}
