# All of Knit: what each host needs of it is enabled there.
{
  imports = [
    ./wg-mesh.nix
    ./knit-agent.nix
    ./knit-server.nix
  ];
}
