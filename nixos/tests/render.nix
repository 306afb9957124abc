# A service as the unit file that NixOS makes of it, without what NixOS adds to every unit.
{ lib }:
let
  text = value: if value == true then "true" else if value == false then "false" else toString value;
  lines =
    key: value:
    if value == null then
      [ ]
    else if lib.isList value then
      map (one: "${key}=${text one}") value
    else
      [ "${key}=${text value}" ];
  section = name: values: [ "[${name}]" ] ++ lib.concatLists (lib.mapAttrsToList lines values);
  words =
    values: lib.filterAttrs (_: value: value != "") (lib.mapAttrs (_: lib.concatStringsSep " ") values);
in
{
  unit =
    service:
    lib.concatStringsSep "\n" (
      section "Unit" (
        {
          Description = service.description;
        }
        // words {
          Documentation = service.documentation;
          After = service.after;
          Before = service.before;
          Conflicts = service.conflicts;
          Requires = service.requires;
          Wants = service.wants;
        }
        // lib.optionalAttrs (!service.stopIfChanged) { X-StopIfChanged = false; }
        // service.unitConfig
      )
      ++ [ "" ]
      ++ section "Service" (
        service.environment
        // lib.optionalAttrs (service.path != [ ]) {
          # Comes to PATH.
          X-Path = lib.concatStringsSep " " (map (one: one.name) service.path);
        }
        // service.serviceConfig
      )
      ++ [ "" ]
      ++ section "Install" (words {
        WantedBy = service.wantedBy;
      })
      ++ [ "" ]
    );
}
