# Three hosts: one with the server, two that are nodes. They share a LAN, on which the mesh finds its
# members, and an image of their own, for there is no registry.
{ pkgs, module }:
let
  inherit (pkgs) lib;

  # Anybody may know it: it guards nothing.
  meshSecret = pkgs.runCommand "mesh-secret" { } ''
    ${lib.getExe' pkgs.knit-orchestrator "meshctl"} init >$out
  '';
  image = pkgs.dockerTools.buildLayeredImage {
    name = "knit-test";
    tag = "1";
    contents = [ pkgs.busybox ];
    config.Cmd = [
      "/bin/httpd"
      "-f"
      "-p"
      "80"
      "-h"
      "/www"
    ];
  };

  host = {
    imports = [ module ];
    virtualisation.memorySize = 1024;
    virtualisation.diskSize = 4096;
    environment.systemPackages = [ pkgs.curl ];
    environment.etc."knit/mesh.secret".source = meshSecret;
    services.knit.wg-mesh = {
      enable = true;
      secretFile = "/etc/knit/mesh.secret";
      openFirewall = true;
    };
  };
  node = {
    imports = [ host ];
    services.knit.agent = {
      enable = true;
      tokenFile = "/var/lib/knit-test/join";
    };
    # The test starts it, once it has brought the token.
    systemd.services.knit-agent.wantedBy = lib.mkForce [ ];
  };
in
{
  nodes = {
    server = {
      imports = [ host ];
      services.knit.server = {
        enable = true;
        openFirewall = true;
      };
      services.knit.deployments.hello = {
        image = "knit-test:1";
        replicas = 2;
        on_node_loss = "replace";
        ports = [
          {
            container_port = 80;
            host_port = 8080;
          }
        ];
        templates = [
          {
            destination = "/www/index.html";
            content = "{{deployment.name}}.{{slot}} on {{node.name}}\n";
          }
        ];
        update.bake = "1s";
      };
    };
    one = node;
    two = node;
  };

  # What every test begins with. `server`, `one` and `two` are the machines.
  prelude = ''
    import json
    import time

    members = [one, two]


    def knit(command):
        return server.succeed(f"knit {command}")


    def listed(what):
        return json.loads(knit(f"list {what} -o json"))


    def until(what, ask, seconds=180):
        end = time.monotonic() + seconds
        while True:
            found = ask()
            if found:
                return found
            assert time.monotonic() < end, f"still not after {seconds} s: {what}"
            time.sleep(1)


    def ready():
        return sorted(one["name"] for one in listed("nodes") if one["state"] == "ready")


    def running():
        return [one for one in listed("instances") if one["phase"] == "running" and one["wanted"]]


    def containers(machine):
        return machine.succeed("docker ps -q --no-trunc --filter label=knit.deployment=hello").split()


    def start_agent(machine):
        machine.wait_for_unit("docker.service")
        machine.succeed("systemctl start knit-agent")


    start_all()
    server.wait_for_unit("knit-server.service")
    server.wait_until_succeeds("knit list nodes")
    # The first token is root's and the server's to read.
    server.succeed("test $(stat -c %a /var/lib/knit-server/admin.token) = 600")
    server.fail("journalctl -u knit-server | grep -q $(cat /var/lib/knit-server/admin.token)")

    for machine in members:
        machine.wait_for_unit("wg-mesh.service")
        machine.wait_for_unit("docker.service")
        machine.succeed("docker load <${image}")
        token = knit("node token").strip()
        machine.succeed(
            "install -d -m 700 /var/lib/knit-test",
            f"umask 077; echo '{token}' >/var/lib/knit-test/join",
        )
        start_agent(machine)
    until("both are ready", lambda: ready() == ["one", "two"])
    # Declared with the server's host, and applied before there was a node.
    until("hello runs twice", lambda: len(running()) == 2)
    address = {one["node_name"]: one["mesh_ip"] for one in running()}
  '';
}
