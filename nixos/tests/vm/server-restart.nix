# Without its server a cluster runs on, and the server finds it as it is.
{ cluster }:
{
  name = "knit-server-restart";
  inherit (cluster) nodes;
  testScript = cluster.prelude + ''
    before = {machine.name: containers(machine) for machine in members}
    one.succeed(
        "systemd-run --unit=load /run/current-system/sw/bin/bash -c '"
        f"while :; do curl -fsS -m 5 http://{address['two']}:8080/ >/dev/null || echo failed >>/var/lib/failures; "
        "echo asked >>/var/lib/asked; sleep 0.1; done'"
    )
    one.wait_until_succeeds("test -s /var/lib/asked")

    with subtest("a restart"):
        server.succeed("systemctl restart knit-server")
        until("both are ready", lambda: ready() == ["one", "two"])

    with subtest("a crash of its host"):
        server.crash()
        time.sleep(20)
        for machine in members:
            assert containers(machine) == before[machine.name], "containers changed without a server"
        server.start()
        server.wait_for_unit("knit-server.service")
        server.wait_until_succeeds("knit list nodes")
        until("both are ready", lambda: ready() == ["one", "two"])

    for machine in members:
        assert containers(machine) == before[machine.name], "a container was replaced"
    one.fail("test -e /var/lib/failures")
    deployments = listed("deployments")
    assert [one["revision"] for one in deployments] == [1], "a start made a revision"
    knit("scale hello=1")
    until("it decides again", lambda: len(running()) == 1)
  '';
}
