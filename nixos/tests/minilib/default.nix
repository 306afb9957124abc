# A small, strict stand-in for the part of nixpkgs' `lib` that the modules use, so that they can be
# evaluated where there is no nixpkgs. Whatever is not defined here is an error: a module cannot
# quietly come to need more. Whoever has nixpkgs evaluates with its lib (see README.md).
let
  basics = import ./basics.nix;
  properties = import ./properties.nix;
  typing = import ./types.nix { inherit basics properties evalModules; };
  evalModules = import ./modules.nix {
    inherit
      lib
      basics
      properties
      typing
      ;
  };
  inherit (typing) types;

  mkOption = a: { _type = "option"; } // a;
  mkEnableOption =
    d:
    mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${d}.";
    };
  mkPackageOption =
    pkgs: name:
    { }:
    mkOption {
      type = types.package;
      default = pkgs.${name} or (throw "pkgs.${name} cannot be found in pkgs");
      defaultText = literalExpression "pkgs.${name}";
      description = "The ${name} package to use.";
    };
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  literalMD = text: {
    _type = "literalMD";
    inherit text;
  };

  lib = {
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elem
      filter
      head
      isList
      length
      mapAttrs
      ;
    inherit (basics)
      filterAttrs
      genAttrs
      getExe
      getExe'
      hasPrefix
      importTOML
      mapAttrsToList
      nameValuePair
      optional
      optionalAttrs
      optionalString
      optionals
      removeSuffix
      throwIf
      unique
      versionOlder
      ;
    inherit (properties)
      mkDefault
      mkForce
      mkIf
      mkMerge
      ;
    inherit
      evalModules
      literalExpression
      literalMD
      mkEnableOption
      mkOption
      mkPackageOption
      types
      ;
    licenses = {
      mit = "mit";
      asl20 = "asl20";
    };
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    optionAttrSetToDocList = docs: docs;
  };
in
lib
