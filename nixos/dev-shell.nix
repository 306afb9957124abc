# What building Knit and its tests by hand takes.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo
    pkgs.clippy
    pkgs.rustc
    pkgs.rustfmt
    pkgs.rust-analyzer
    pkgs.nats-server
    pkgs.nftables
    pkgs.iptables
    pkgs.docker
    pkgs.shellcheck
  ];
}
