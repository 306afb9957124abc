# What a lost node ran runs elsewhere, and the node that returns lets go of it.
{ cluster }:
{
  name = "knit-node-loss";
  inherit (cluster) nodes;
  testScript = cluster.prelude + ''
    knit("scale hello=1")
    until("one is left", lambda: len(running()) == 1 and len(listed("instances")) == 1)
    lost, other = (one, two) if running()[0]["node_name"] == "one" else (two, one)

    lost.crash()
    until("the node is lost", lambda: ready() == [other.name])
    until("it runs on the other", lambda: [i["node_name"] for i in running()] == [other.name])
    server.wait_until_succeeds(f"curl -fsS -m 5 http://{address[other.name]}:8080/")
    moved = containers(other)

    lost.start()
    start_agent(lost)
    until("it is back", lambda: ready() == ["one", "two"])
    until("it has let go of what it ran", lambda: containers(lost) == [])
    assert containers(other) == moved, "what had moved was moved again"
  '';
}
