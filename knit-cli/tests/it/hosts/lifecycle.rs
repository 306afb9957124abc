//! What users do to what runs: scale, stop, start, choose a strategy, join networks.

use serde_json::{Value, json};

use super::deploy::web;
use super::soak::page;
use crate::support::{Cluster, IMAGE, host_of, hosts, wait_until};

/// What does not serve anything: several fit on one host.
fn sleeper(name: &str, replicas: u32) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "replicas": replicas,
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait $!"],
        "update": { "bake": "0s", "drain": "0s" },
    })
}

/// Containers of a deployment with when they started, by slot.
#[track_caller]
fn containers_of(cluster: &Cluster, name: &str, count: usize) -> Vec<Value> {
    let running = cluster.wait_running(name, count);
    running.iter().map(|one| json!([one["slot"], one["container"], one["started_at"]])).collect()
}

#[test]
fn scaling_stopping_and_starting_recreate_nothing_that_may_stay() {
    let cluster = hosts();
    cluster.roll_out(&sleeper("scaled", 2));
    let two = containers_of(&cluster, "scaled", 2);
    cluster.must("POST", "/deployments/scaled/scale", &json!({ "replicas": 4 }));
    let four = containers_of(&cluster, "scaled", 4);
    assert_eq!(four[..2], two, "scaled up");
    cluster.must("POST", "/deployments/scaled/scale", &json!({ "replicas": 1 }));
    assert_eq!(containers_of(&cluster, "scaled", 1), two[..1], "scaled down");

    let host = host_of(&cluster.wait_running("scaled", 1)[0]);
    cluster.must("POST", "/deployments/scaled/stop", &Value::Null);
    wait_until("it to be stopped", || {
        let view = cluster.get("/deployments/scaled")?;
        let left: usize = cluster.nodes().map(|node| cluster.containers(node).len()).sum();
        if view["state"] == "stopped" && left == 0 { Ok(()) } else { Err(format!("{left} {view}")) }
    });
    cluster.must("POST", "/deployments/scaled/start", &Value::Null);
    assert_eq!(host_of(&cluster.wait_running("scaled", 1)[0]), host, "where it was");

    let before = containers_of(&cluster, "scaled", 1);
    cluster.must("POST", "/deployments/scaled/restart", &Value::Null);
    wait_until("a new container", || {
        let now = cluster.instances_of("scaled")?;
        let anew =
            now.iter().any(|one| one["phase"] == "running" && one["container"] != before[0][1]);
        if anew { Ok(()) } else { Err(format!("{now:?}")) }
    });
    cluster.wait_running("scaled", 1);
}

#[test]
fn every_node_has_one_also_the_one_that_was_cordoned() {
    let cluster = hosts();
    let mut manifest = sleeper("everywhere", 1);
    manifest.as_object_mut().unwrap().remove("replicas");
    manifest["mode"] = json!("every-node");
    manifest["where"] = json!("name != \"node-1\"");
    cluster.roll_out(&manifest);
    let mut on: Vec<_> = cluster.wait_running("everywhere", 2).iter().map(host_of).collect();
    on.sort_unstable();
    assert_eq!(on, [2, 3]);
    let before = containers_of(&cluster, "everywhere", 2);
    manifest["where"] = json!("name in [\"node-1\", \"node-2\", \"node-3\"]");
    cluster.roll_out(&manifest);
    let after = containers_of(&cluster, "everywhere", 3);
    assert!(before.iter().all(|one| after.contains(one)), "{before:?} {after:?}");
}

#[test]
fn containers_on_a_network_of_knits_find_each_other_by_name() {
    let cluster = hosts();
    cluster.must("POST", "/networks", &json!({ "name": "back" }));
    let mut server = sleeper("server", 1);
    server["networks"] = json!(["back"]);
    server["where"] = json!("name == \"node-2\"");
    cluster.roll_out(&server);
    let mut client = server.clone();
    client["name"] = json!("client");
    cluster.roll_out(&client);
    let container = cluster.wait_running("client", 1)[0]["container"].as_str().unwrap().to_owned();
    let server = cluster.wait_running("server", 1);
    let address = server[0]["address"].as_str().unwrap();
    let answer = cluster.on(2, &["docker", "exec", &container, "nslookup", "server"]);
    assert!(answer.contains(address), "{address}: {answer}");

    let network = cluster.get("/networks/back").unwrap();
    assert_eq!(network["nodes"], json!(["node-2"]), "{network}");
    let refused = cluster.ask("DELETE", "/networks/back", &Value::Null).unwrap();
    assert_eq!(refused.status, 409, "{refused:?}");
    cluster.on(1, &["knit", "undeploy", "client"]);
    cluster.on(1, &["knit", "undeploy", "server"]);
    cluster.must("DELETE", "/networks/back", &Value::Null);
    wait_until("Docker's network to be removed", || {
        let left =
            cluster.on(2, &["docker", "network", "ls", "-q", "--filter", "name=knit.default.back"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_canary_waits_to_be_promoted_and_goes_back_when_told() {
    let cluster = hosts();
    let canary = |round: &str| {
        let mut manifest = sleeper("canary", 3);
        manifest["env"] = json!({ "ROUND": round });
        manifest["update"]["strategy"] = json!("canary");
        manifest
    };
    cluster.roll_out(&canary("1"));
    let before = containers_of(&cluster, "canary", 3);
    let paused = |revision: u64| {
        cluster.submit(&canary(&revision.to_string()));
        wait_until("the canary to wait", || {
            let rollout = cluster.get("/deployments/canary/rollout")?;
            if rollout["state"] == "paused" { Ok(()) } else { Err(rollout.to_string()) }
        });
        let instances = cluster.instances_of("canary").unwrap();
        let new = instances.iter().filter(|one| one["revision"] == revision).count();
        assert_eq!((new, instances.len()), (1, 3), "{instances:?}");
    };
    paused(2);
    cluster.must("POST", "/deployments/canary/rollout/abort", &Value::Null);
    assert_eq!(cluster.rollout_end("canary", 3)["state"], "rolled-back");
    assert_eq!(cluster.revision("canary", 2)["state"], "rolled-back");
    let after = containers_of(&cluster, "canary", 3);
    assert_eq!(after[1..], before[1..], "only the canary changed");
    paused(4);
    cluster.must("POST", "/deployments/canary/rollout/promote", &Value::Null);
    assert_eq!(cluster.rollout_end("canary", 4)["state"], "succeeded");
    let instances = cluster.wait_running("canary", 3);
    assert!(instances.iter().all(|one| one["revision"] == 4), "{instances:?}");
}

#[test]
fn blue_green_moves_all_ports_at_once_when_all_new_ones_are_ready() {
    let cluster = hosts();
    let manifest = |round: u64| {
        let mut manifest = page("colours", 0, 8099, round);
        manifest.as_object_mut().unwrap().remove("where");
        manifest["replicas"] = json!(3);
        manifest["update"]["strategy"] = json!("blue-green");
        // The new ones are ready when the test says so.
        if round > 0 {
            manifest["health"] = json!({
                "ready": { "exec": ["test", "-e", "/go"], "interval": "200ms" },
            });
        }
        manifest
    };
    cluster.roll_out(&manifest(0));
    let revision = cluster.submit(&manifest(1));
    let new = wait_until("the new ones beside the old ones", || {
        let instances = cluster.instances_of("colours")?;
        let new: Vec<Value> = instances
            .into_iter()
            .filter(|one| one["revision"] == revision && one["container"].is_string())
            .collect();
        if new.len() == 3 { Ok(new) } else { Err(format!("{new:?}")) }
    });
    let pages = || -> Vec<_> {
        cluster.nodes().map(|node| cluster.page(node, node, 8099).unwrap()).collect()
    };
    for (count, instance) in new.iter().enumerate() {
        assert_eq!(pages(), ["round 0"; 3], "{count} of them are ready");
        let container = instance["container"].as_str().unwrap();
        cluster.on(host_of(instance), &["docker", "exec", container, "touch", "/go"]);
    }
    assert_eq!(cluster.rollout_end("colours", revision)["state"], "succeeded");
    wait_until("every host to show the new page", || {
        let pages = pages();
        if pages == ["round 1"; 3] { Ok(()) } else { Err(format!("{pages:?}")) }
    });
    cluster.wait_running("colours", 3);
}

#[test]
fn a_port_that_a_host_has_given_away_sends_the_instance_elsewhere_or_says_who_has_it() {
    let cluster = hosts();
    let listener = ["sh", "-c", "busybox nc -ll -p 8087 -e true >/dev/null 2>&1 & echo $!"];
    let pids: Vec<String> = [1, 2].map(|node| cluster.on(node, &listener)).into();
    let mut manifest = web("elsewhere", 1, 8087);
    manifest["update"] = json!({ "bake": "0s", "drain": "0s" });
    cluster.submit(&manifest);
    let seen = wait_until("it to run elsewhere, or to say who has its port", || {
        let view = cluster.get("/deployments/elsewhere")?;
        let instances = view["instances"].as_array().cloned().unwrap_or_default();
        let well = |one: &Value| {
            let runs = one["phase"] == "running" && host_of(one) == 3;
            let told = one["phase"] == "failed" && one["message"].to_string().contains("busybox");
            runs || told
        };
        instances.iter().find(|one| well(one)).cloned().ok_or_else(|| view.to_string())
    });
    let asked = format!("/deployments/elsewhere/why-not?node=node-{}", host_of(&seen));
    let why = cluster.get(&asked).unwrap();
    for pid in &pids {
        cluster.on(1, &["kill", pid]);
    }
    if seen["phase"] == "failed" {
        let reasons = why["reasons"].to_string();
        assert!(reasons.contains("8087") && reasons.contains("busybox"), "{why}");
    }
    // The moment the port is free it is taken.
    wait_until("it to run", || {
        let view = cluster.get("/deployments/elsewhere")?;
        if view["running"] == 1 { Ok(()) } else { Err(view.to_string()) }
    });
}
