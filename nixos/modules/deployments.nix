# Deployments that the server applies when it starts.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  json = pkgs.formats.json { };
  declared = config.services.knit.deployments;

  # A DNS label, as manifests want it.
  label = types.strMatching "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
  manifest = types.submodule (
    { name, ... }:
    {
      freeformType = json.type;
      options = {
        name = mkOption {
          type = label;
          default = name;
          defaultText = lib.literalMD "the attribute's name";
          description = "The deployment's name, unique within its project.";
        };
        project = mkOption {
          type = label;
          default = "default";
          description = "The project that it is in; made when it is missing.";
        };
        image = mkOption {
          type = types.nonEmptyStr;
          example = "registry.example/shop:4.2";
          description = "What its containers are made from.";
        };
      };
    }
  );

  names = lib.attrNames declared;
  file = name: "${name}.json";
  manifests = pkgs.linkFarm "knit-manifests" (
    map (name: {
      name = file name;
      path = json.generate (file name) declared.${name};
    }) names
  );

  whose = name: "${declared.${name}.project}/${declared.${name}.name}";
  isPlain = name: builtins.match "[A-Za-z0-9_][A-Za-z0-9._-]*" name != null;
in
{
  options.services.knit.deployments = mkOption {
    type = types.attrsOf manifest;
    default = { };
    example = lib.literalExpression ''
      {
        shop = {
          image = "registry.example/shop:4.2";
          replicas = 3;
          ports = [ { container_port = 8080; host_port = 80; } ];
          secrets = [ { name = "db"; file = "/run/secrets/db"; } ];
        };
      }
    '';
    description = ''
      Deployments, each a manifest as an attribute set. The server applies them when it starts, those
      that differ from what it has. One that is taken out of here runs on until `knit undeploy`. They
      are in the Nix store, where every user can read them: what is secret belongs into `secrets`.
    '';
  };

  config = lib.mkIf (declared != { }) {
    assertions = [
      {
        assertion = config.services.knit.server.enable;
        message = "services.knit.deployments are applied by the server: declare them on the host with services.knit.server.enable.";
      }
      {
        assertion = lib.all isPlain names;
        message = "services.knit.deployments: the names ${lib.concatStringsSep ", " (lib.filter (name: !isPlain name) names)} make no file names; set `name` within instead.";
      }
      {
        assertion = lib.length (lib.unique (map whose names)) == lib.length names;
        message = "services.knit.deployments declares one of ${lib.concatStringsSep ", " (map whose names)} twice.";
      }
    ];
    services.knit.server.settings.manifests_dir = "${manifests}";
  };
}
