# Adds Knit to nixpkgs, under a name that is not taken there.
{
  commit ? null,
  date ? null,
}:
final: _: {
  knit-orchestrator = final.callPackage ./package.nix { inherit commit date; };
}
