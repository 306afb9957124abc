# The options of the modules as a page, from what they declare.
{ lib, options }:
let
  ours = lib.filter (option: lib.hasPrefix "services.knit" option.name && !(option.internal or false)) (
    lib.optionAttrSetToDocList options
  );
  pretty =
    value:
    if lib.isList value then
      "[ ${lib.concatStringsSep " " (map pretty value)} ]"
    else if builtins.isAttrs value && (value.type or null) != "derivation" then
      if value == { } then
        "{ }"
      else
        "{ ${
          lib.concatStringsSep " " (lib.mapAttrsToList (name: one: "${name} = ${pretty one};") value)
        } }"
    else
      builtins.toJSON value;
  # nixpkgs' lib has made text of it already, ours has not.
  text = value: if value ? text then value.text else pretty value;
  code = title: value: "- ${title}: `${lib.concatStringsSep " " (lib.filter (word: builtins.isString word && word != "") (builtins.split "[ \n]+" value))}`\n";
  # What is written for the manual's own Markdown, as plain Markdown.
  plain =
    value:
    let
      roles = builtins.split "[{](option|file)[}]" value;
    in
    lib.removeSuffix "\n" (lib.concatStringsSep "" (lib.filter builtins.isString roles));
  kind = option: if builtins.isString option.type then option.type else option.type.description;
  default =
    option:
    if option ? defaultText then
      (if option.defaultText._type or "" == "literalMD" then "- default: ${option.defaultText.text}\n" else code "default" option.defaultText.text)
    else if option ? default then
      (if option.default._type or "" == "literalMD" then "- default: ${option.default.text}\n" else code "default" (text option.default))
    else
      "";
  entry =
    option:
    "## `${option.name}`\n\n"
    + "${plain (option.description.text or option.description)}\n\n"
    + "- type: ${kind option}\n"
    + default option
    + (if option ? example then code "example" (text option.example) else "");
in
lib.concatStringsSep "\n" (map entry ours)
