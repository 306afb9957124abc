# What the example sets besides.
{ lib, ... }:
{
  options.networking.hostName = lib.mkOption { type = lib.types.str; };
  options.nixpkgs.hostPlatform = lib.mkOption { type = lib.types.str; };
}
