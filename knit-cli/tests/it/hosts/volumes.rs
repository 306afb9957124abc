//! Data stays where it is, whatever becomes of what uses it.

use serde_json::{Value, json};

use crate::support::{Cluster, IMAGE, host_of, hosts, wait_until};

/// Writes its round to a file on its volume each time it starts.
fn database(round: u64) -> Value {
    json!({
        "name": "db",
        "image": IMAGE,
        "command": ["sh", "-c", "trap 'exit 0' TERM; echo $ROUND >> /data/rounds; sleep 100000 & wait $!"],
        "where": "name != \"node-1\"",
        "env": { "ROUND": round.to_string() },
        "volumes": [{ "name": "data", "path": "/data" }],
        "update": { "bake": "0s", "drain": "0s" },
    })
}

/// What the running container finds on its volume.
#[track_caller]
fn rounds(cluster: &Cluster) -> String {
    let running = cluster.wait_running("db", 1);
    let container = running[0]["container"].as_str().unwrap();
    let read = ["docker", "exec", container, "cat", "/data/rounds"];
    cluster.on(host_of(&running[0]), &read).replace('\n', " ")
}

#[test]
fn data_outlives_updates_its_deployment_and_its_hosts_restart_and_never_begins_anew_elsewhere() {
    let cluster = hosts();
    cluster.roll_out(&database(1));
    let host = host_of(&cluster.wait_running("db", 1)[0]);
    assert_eq!(rounds(&cluster), "1");

    let end = cluster.roll_out(&database(2));
    assert!(end["notes"].to_string().contains("volume"), "the plan says stop-first: {end}");
    assert_eq!(rounds(&cluster), "1 2", "after an update");

    // Lost: it waits for its data.
    for part in ["agent", "mesh", "dockerd"] {
        cluster.kill(host, part);
    }
    cluster.wait_node(host, "lost");
    wait_until("why it waits", || {
        let why = cluster.get("/deployments/db/why")?.to_string();
        let said = why.contains("data") && why.contains(&format!("node-{host}"));
        if said { Ok(()) } else { Err(why) }
    });
    let volume = &cluster.get("/volumes/data.0").unwrap()[0];
    assert_eq!(volume["state"], "lost", "{volume}");
    for other in cluster.nodes().filter(|other| *other != host) {
        assert_eq!(cluster.containers(other), Vec::<String>::new(), "nothing empty on {other}");
    }
    for part in ["dockerd", "mesh", "agent"] {
        cluster.start_part(host, part);
    }
    cluster.wait_node(host, "ready");
    assert_eq!(rounds(&cluster), "1 2 2", "after its host's restart");

    let refused = cluster.ask("DELETE", "/volumes/data.0", &Value::Null).unwrap();
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body["message"].to_string().contains("db"), "{refused:?}");

    cluster.on(1, &["knit", "undeploy", "db"]);
    cluster.roll_out(&database(3));
    assert_eq!(host_of(&cluster.wait_running("db", 1)[0]), host);
    assert_eq!(rounds(&cluster), "1 2 2 3", "deployed anew");

    cluster.on(1, &["knit", "undeploy", "db"]);
    let list = ["docker", "volume", "ls", "-q", "--filter", "name=knit.default.data"];
    assert_eq!(cluster.on(host, &list), "knit.default.data.0", "kept on undeploy");
    cluster.must("DELETE", "/volumes/data.0", &Value::Null);
    wait_until("the volume to be removed", || {
        let left = cluster.on(host, &list);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    wait_until("the server to have forgotten it", || {
        let volumes = cluster.get("/volumes")?;
        if volumes == json!([]) { Ok(()) } else { Err(volumes.to_string()) }
    });
}
