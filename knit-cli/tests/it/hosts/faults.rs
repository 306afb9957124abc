//! What dies or is torn away, and what must not notice.

use std::time::Duration;

use serde_json::json;

use super::deploy::web;
use crate::support::{Cluster, IMAGE, hosts, stderr, wait_until, wait_within};

#[track_caller]
fn assert_pages(cluster: &Cluster, port: u16) {
    for node in cluster.nodes() {
        let from = node % 3 + 1;
        assert_eq!(cluster.page(from, node, port), Ok(format!("<p>hi from node-{node}</p>")));
    }
}

fn all_containers(cluster: &Cluster) -> Vec<Vec<String>> {
    cluster.nodes().map(|node| cluster.containers(node)).collect()
}

#[test]
fn a_killed_agent_comes_back_to_untouched_containers() {
    let cluster = hosts();
    cluster.deploy(&web("calm", 3, 8080));
    let before = all_containers(&cluster);
    for node in cluster.nodes() {
        cluster.kill(node, "agent");
    }
    assert_pages(&cluster, 8080);
    for node in cluster.nodes() {
        cluster.start_part(node, "agent");
    }
    cluster.wait_ready();
    assert_pages(&cluster, 8080);
    assert_eq!(all_containers(&cluster), before, "same containers, never restarted");
}

#[test]
fn a_server_killed_in_the_middle_of_a_deploy_resumes() {
    let cluster = hosts();
    let manifest = web("resume", 3, 8080).to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resume.json").display().to_string();
    std::fs::write(&file, manifest).unwrap();
    cluster.on(1, &["knit", "deploy", "--detach", "-f", &file]);
    cluster.kill(1, "server");
    cluster.start_part(1, "server");
    wait_until("the deployment after the server's restart", || {
        let output = cluster.try_on(1, &["knit", "status", "resume"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("3/3") { Ok(()) } else { Err(format!("{text}{}", stderr(&output))) }
    });
    assert_pages(&cluster, 8080);
}

#[test]
fn a_killed_nats_server_is_started_again_and_agents_follow() {
    let cluster = hosts();
    cluster.deploy(&web("before", 3, 8080));
    let before = all_containers(&cluster);
    cluster.kill(1, "nats");
    cluster.deploy(
        &json!({ "name": "after", "image": IMAGE, "command": ["sleep", "10000"], "replicas": 3 }),
    );
    assert_pages(&cluster, 8080);
    let after = all_containers(&cluster);
    for (before, after) in before.iter().zip(&after) {
        assert!(before.iter().all(|container| after.contains(container)), "{before:?} {after:?}");
    }
}

#[test]
fn flushed_rules_are_back_within_seconds() {
    let cluster = hosts();
    cluster.deploy(&web("rules", 3, 8080));
    cluster.on(2, &["nft", "delete", "table", "ip", "knit"]);
    wait_within(Duration::from_secs(15), "the page after the flush", || {
        cluster
            .on(2, &["nft", "list", "tables"])
            .contains("knit")
            .then_some(())
            .ok_or("no table")?;
        cluster.page(1, 2, 8080).map(|_| ())
    });
}

#[test]
fn containers_of_others_are_never_touched() {
    let cluster = hosts();
    cluster.deploy(&web("ours", 3, 8080));
    let labels = |args: &[&str]| {
        cluster
            .on(2, &[["docker", "run", "-d"].as_slice(), args, &[IMAGE, "sleep", "10000"]].concat())
    };
    let own =
        cluster.on(2, &["docker", "ps", "-q", "--no-trunc", "--filter", "label=knit.cluster"]);
    let label = |name: &str| {
        let format = format!("{{{{index .Config.Labels \"{name}\"}}}}");
        format!("{name}={}", cluster.on(2, &["docker", "inspect", "-f", &format, &own]))
    };
    let (cluster_label, node_label) = (label("knit.cluster"), label("knit.node"));
    let strangers = [
        labels(&[]),
        // Another cluster's; a cloned disk's; both with an instance that nobody here wants.
        labels(&[
            "-l",
            "knit.cluster=00000000000000000000000000000000",
            "-l",
            &node_label,
            "-l",
            "knit.instance=0000000000000000",
        ]),
        labels(&[
            "-l",
            &cluster_label,
            "-l",
            "knit.node=00000000000000000000000000000000",
            "-l",
            "knit.instance=0000000000000000",
        ]),
    ];
    cluster.dev(&["restart", "2", "agent"]);
    cluster.wait_ready();
    cluster.on(1, &["knit", "undeploy", "ours"]);
    let running = cluster.on(2, &["docker", "ps", "-q", "--no-trunc"]);
    for stranger in &strangers {
        assert!(running.contains(stranger.as_str()), "{stranger} is gone: {running}");
        cluster.on(2, &["docker", "rm", "-f", stranger]);
    }
}

#[test]
fn a_docker_that_goes_away_is_said_and_converges_when_it_returns() {
    let cluster = hosts();
    cluster.deploy(&web("steady", 3, 8080));
    cluster.kill(2, "dockerd");
    let node = |state: &'static str| {
        let cluster = &cluster;
        move || {
            let nodes = cluster.json(&["knit", "list", "nodes", "-o", "json"]);
            let node =
                nodes.as_array().unwrap().iter().find(|node| node["name"] == "node-2").cloned();
            let node = node.unwrap_or_default();
            if node["state"] == state { Ok(()) } else { Err(node.to_string()) }
        }
    };
    wait_until("node 2 to say that its Docker is gone", node("not-ready"));
    cluster.start_part(2, "dockerd");
    wait_until("node 2 to be ready again", node("ready"));
    wait_until("the page of node 2", || cluster.page(1, 2, 8080).map(|_| ()));
}
