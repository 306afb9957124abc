//! A host that dies, one that is cut off, and one that comes back.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::soak::page;
use crate::support::{Cluster, Cut, IMAGE, host_of, hosts, wait_until, wait_within};

/// From the cut until the replacement runs, when peers confirm that nobody hears the node.
const REPLACED_MAX: Duration = Duration::from_secs(8);
/// As above, when there is nobody to ask.
const REPLACED_ALONE_MAX: Duration = Duration::from_secs(15);
const DOCKERD_AGENT_SIDECAR: [&str; 3] = ["dockerd", "agent", "mesh"];

/// One replica, anywhere but beside the server.
fn mobile(name: &str, port: u16) -> Value {
    let mut manifest = page(name, 0, port, 0);
    manifest["where"] = json!("name != \"node-1\"");
    manifest
}

/// Kills all of a host at once, as a power cut does.
fn kill_host(cluster: &Cluster, node: u8) {
    thread::scope(|scope| {
        for part in DOCKERD_AGENT_SIDECAR {
            scope.spawn(move || cluster.kill(node, part));
        }
    });
}

fn start_host(cluster: &Cluster, node: u8) {
    for part in DOCKERD_AGENT_SIDECAR {
        cluster.start_part(node, part);
    }
}

/// Waits until the only instance of a deployment runs on another host; the time since `cut`.
#[track_caller]
fn wait_replaced(cluster: &Cluster, name: &str, lost: u8, cut: Instant) -> Duration {
    wait_until(&format!("the replacement of {name}"), || {
        let instances = cluster.instances_of(name)?;
        let well = |one: &Value| host_of(one) != lost && one["phase"] == "running";
        if instances.iter().any(well) { Ok(()) } else { Err(format!("{instances:?}")) }
    });
    cut.elapsed()
}

#[test]
fn what_ran_on_a_dead_host_runs_elsewhere_within_eight_seconds() {
    let cluster = hosts();
    cluster.roll_out(&mobile("mobile", 8092));
    let lost = host_of(&cluster.wait_running("mobile", 1)[0]);
    let other = if lost == 2 { 3 } else { 2 };
    let cut = Instant::now();
    kill_host(&cluster, lost);
    let took = wait_replaced(&cluster, "mobile", lost, cut);
    println!("node loss, confirmed by peers: replaced in {:.2} s", took.as_secs_f64());
    assert_eq!(cluster.page(1, other, 8092).as_deref(), Ok("round 0"));
    assert_eq!(cluster.wait_node(lost, "lost")["name"], format!("node-{lost}"));
    assert!(took <= REPLACED_MAX, "{took:?}\n{}", cluster.logs());

    start_host(&cluster, lost);
    cluster.wait_node(lost, "ready");
    wait_until("the duplicate to be removed", || {
        let left = cluster.on(lost, &["docker", "ps", "-aq", "--filter", "label=knit.cluster"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    assert_eq!(host_of(&cluster.wait_running("mobile", 1)[0]), other);
}

#[test]
fn with_nobody_to_ask_a_dead_hosts_work_runs_elsewhere_within_fifteen_seconds() {
    let cluster = Cluster::start(&format!("t{}-two", std::process::id()), 2);
    cluster.load_image();
    cluster.set_availability(1, "cordoned");
    let mut manifest = page("mobile", 0, 8092, 0);
    manifest["where"] = Value::Null;
    manifest.as_object_mut().unwrap().remove("where");
    cluster.roll_out(&manifest);
    cluster.set_availability(1, "active");
    assert_eq!(host_of(&cluster.wait_running("mobile", 1)[0]), 2);
    let cut = Instant::now();
    kill_host(&cluster, 2);
    let took = wait_replaced(&cluster, "mobile", 2, cut);
    println!("node loss, nobody to ask: replaced in {:.2} s", took.as_secs_f64());
    assert!(took <= REPLACED_ALONE_MAX, "{took:?}\n{}", cluster.logs());
}

#[test]
fn a_host_that_only_the_server_does_not_hear_keeps_its_work() {
    let cluster = hosts();
    cluster.roll_out(&mobile("kept", 8093));
    let host = host_of(&cluster.wait_running("kept", 1)[0]);
    let before = cluster.containers(host);
    assert_eq!(before.len(), 1);
    let cut = Cut::between(&cluster, host, 1);
    let view = cluster.wait_node(host, "unreachable");
    assert!(view["message"].is_string(), "{view}");
    let instances = cluster.instances_of("kept").unwrap();
    assert_eq!(instances.len(), 1, "{instances:?}");
    assert_eq!(host_of(&instances[0]), host, "{instances:?}");
    let other = if host == 2 { 3 } else { 2 };
    assert_eq!(cluster.page(other, host, 8093).as_deref(), Ok("round 0"), "it serves its peers");
    drop(cut);
    cluster.wait_node(host, "ready");
    cluster.wait_running("kept", 1);
    assert_eq!(cluster.containers(host), before, "same container, never restarted");
}

#[test]
fn the_duplicate_on_a_host_that_returns_goes_once_its_replacement_is_healthy() {
    let cluster = hosts();
    // Ready at once on the first host, elsewhere when somebody says so.
    let manifest = |host: u8| {
        let ready = "test $HOST = {{node.name}}";
        json!({
            "name": "twice",
            "image": IMAGE,
            "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait $!"],
            "where": "name != \"node-1\"",
            "env": { "HOST": format!("node-{host}") },
            "templates": [{ "destination": "/ready", "content": ready }],
            "health": {
                "ready": { "exec": ["sh", "-c", "sh /ready || test -e /go"], "interval": "500ms" },
                "start_within": "2m",
            },
            "update": { "bake": "0s", "drain": "0s" },
        })
    };
    // The one that is free to take it.
    cluster.set_availability(2, "cordoned");
    cluster.roll_out(&manifest(3));
    cluster.set_availability(2, "active");
    let original = cluster.containers(3);
    assert_eq!(original.len(), 1);

    // Its Docker and its containers live on: a host that was only out of reach.
    cluster.kill(3, "agent");
    cluster.kill(3, "mesh");
    cluster.wait_node(3, "lost");
    let replacement = wait_until("the replacement to have started", || {
        let instances = cluster.instances_of("twice")?;
        let found = instances.iter().find(|one| host_of(one) == 2 && one["container"].is_string());
        found.cloned().ok_or_else(|| format!("{instances:?}"))
    });
    cluster.start_part(3, "mesh");
    cluster.start_part(3, "agent");
    cluster.wait_node(3, "ready");
    // Longer than the server and the agent need to do what they have decided.
    let settled = Instant::now() + Duration::from_secs(4);
    wait_within(Duration::from_secs(10), "some time to pass", || {
        assert_eq!(cluster.containers(3), original, "kept while the replacement is not ready");
        if Instant::now() > settled { Ok(()) } else { Err(String::new()) }
    });
    let container = replacement["container"].as_str().unwrap();
    cluster.on(2, &["docker", "exec", container, "touch", "/go"]);
    let left = cluster.wait_running("twice", 1);
    assert_eq!(left[0]["container"], replacement["container"], "{left:?}");
    wait_until("the duplicate to be removed", || {
        let left = cluster.containers(3);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}
