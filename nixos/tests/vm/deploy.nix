# A declared deployment runs, and what people deploy beside it is reached through the mesh alone.
{ cluster }:
{
  name = "knit-deploy";
  inherit (cluster) nodes;
  testScript = cluster.prelude + ''
    assert sorted(address) == ["one", "two"], address
    for name in address:
        for machine in [server, one, two]:
            page = machine.wait_until_succeeds(f"curl -fsS -m 5 http://{address[name]}:8080/")
            assert page.rstrip().endswith(f"on {name}"), page

    with subtest("a published port is the mesh's"):
        one.fail("curl -fsS -m 3 http://two:8080/")
        server.fail("curl -fsS -m 3 http://two:8080/")

    with subtest("the API is open within the mesh and closed outside of it"):
        mesh_ip = json.loads(server.succeed("meshctl status -o json"))["mesh_ip"]
        one.succeed(f"curl -fsS -m 5 http://{mesh_ip}:7400/ping")
        one.fail("curl -fsS -m 3 http://server:7400/ping")

    with subtest("a change rolls out, and a start of the server takes it back to what is declared"):
        knit("scale hello=1")
        until("one is left", lambda: len(running()) == 1)
        server.succeed("systemctl restart knit-server")
        until("two run again", lambda: len(running()) == 2)

    with subtest("what is broken is told with its line, and nothing is deployed"):
        server.succeed("printf 'name: web\\nimag: x\\n' >/tmp/web.yaml")
        status, told = server.execute("knit deploy -f /tmp/web.yaml 2>&1")
        assert status != 0 and "web.yaml:2:1: imag" in told, told
  '';
}
