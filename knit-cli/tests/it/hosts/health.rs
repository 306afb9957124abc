//! Instances that are not ready, not alive, or both.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Cluster, IMAGE, hosts, wait_until, wait_within};

const HOST: u8 = 2;
const PORT: u16 = 8098;

/// A web server whose probes are files that a test makes and removes.
fn probed(health: &Value) -> Value {
    json!({
        "name": "probed",
        "image": IMAGE,
        "command": ["sh", "-c", "trap 'exit 0' TERM; touch /alive; httpd -f -p 80 -h / & wait $!"],
        "where": format!("name == \"node-{HOST}\""),
        "ports": [{ "container_port": 80, "host_port": PORT }],
        "templates": [{ "destination": "/index.html", "content": "here" }],
        "health": health,
        "update": { "bake": "0s", "drain": "0s" },
    })
}

/// A command in the only container of the deployment.
#[track_caller]
fn exec(cluster: &Cluster, command: &[&str]) {
    let container = wait_until("the container", || {
        let all = cluster.containers(HOST);
        all.first().map(|line| line[..12].to_owned()).ok_or_else(|| "none".to_owned())
    });
    cluster.on(HOST, &[["docker", "exec", &container].as_slice(), command].concat());
}

/// Waits until the deployment's instance is in this phase; it.
#[track_caller]
fn wait_phase(cluster: &Cluster, phase: &str) -> Value {
    wait_until(&format!("the instance to be {phase}"), || {
        let instances = cluster.instances_of("probed")?;
        let found = instances.iter().find(|one| one["phase"] == phase);
        found.cloned().ok_or_else(|| format!("{instances:?}"))
    })
}

#[test]
fn an_instance_is_published_when_it_is_ready_and_only_as_long_as_it_is() {
    let cluster = hosts();
    let ready = json!({
        "ready": { "http": { "port": 80, "path": "/ready" }, "interval": "200ms", "failures": 2 },
    });
    let revision = cluster.submit(&probed(&ready));
    let starting = wait_phase(&cluster, "starting");
    wait_until("what it waits for", || {
        let instances = cluster.instances_of("probed")?;
        let text = instances[0]["message"].to_string();
        if text.contains("/ready") && text.contains("404") { Ok(()) } else { Err(text) }
    });
    assert!(cluster.page(1, HOST, PORT).is_err(), "not published: {starting}");

    exec(&cluster, &["touch", "/ready"]);
    assert_eq!(cluster.rollout_end("probed", revision)["state"], "succeeded");
    assert_eq!(cluster.page(1, HOST, PORT).as_deref(), Ok("here"));
    let before = cluster.containers(HOST);

    exec(&cluster, &["rm", "/ready"]);
    wait_phase(&cluster, "unready");
    assert!(cluster.page(1, HOST, PORT).is_err(), "out of the map");
    exec(&cluster, &["touch", "/ready"]);
    wait_phase(&cluster, "running");
    assert_eq!(cluster.page(1, HOST, PORT).as_deref(), Ok("here"));
    assert_eq!(cluster.containers(HOST), before, "only `alive` restarts");

    // Another policy, the same container.
    let calm = json!({ "ready": { "tcp": 80 } });
    cluster.roll_out(&probed(&calm));
    exec(&cluster, &["rm", "/ready"]);
    cluster.wait_running("probed", 1);
    assert_eq!(cluster.containers(HOST), before, "health needs no new container");
}

#[test]
fn an_instance_that_is_not_alive_is_restarted_within_ten_seconds() {
    let cluster = hosts();
    let alive = json!({ "alive": { "exec": ["test", "-e", "/alive"], "interval": "1s" } });
    cluster.roll_out(&probed(&alive));
    let before = cluster.containers(HOST);
    let start = Instant::now();
    exec(&cluster, &["rm", "/alive"]);
    wait_within(Duration::from_secs(15), "the restart", || {
        let now = cluster.containers(HOST);
        // The same container, started anew.
        let anew = now.len() == 1 && now != before && now[0][..64] == before[0][..64];
        if anew { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let took = start.elapsed();
    println!("not alive: restarted in {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(10), "{took:?}");
    let instance = wait_phase(&cluster, "running");
    assert_eq!(instance["restarts"], 1, "{instance}");
    assert_eq!(cluster.page(1, HOST, PORT).as_deref(), Ok("here"));
}

#[test]
fn an_image_that_is_not_ready_in_time_fails_and_says_what_was_waited_for() {
    let cluster = hosts();
    let never = json!({
        "ready": { "http": { "port": 80, "path": "/never" }, "interval": "200ms" },
        "start_within": "2s",
    });
    let revision = cluster.submit(&probed(&never));
    let end = cluster.rollout_end("probed", revision);
    assert_eq!(end["state"], "failed", "nothing to go back to: {end}");
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("/never") && message.contains("2 s"), "{message}");
}
