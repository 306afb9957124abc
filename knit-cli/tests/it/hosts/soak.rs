//! Whatever is killed, in whatever order: neither containers nor clients notice, while one revision
//! after the other is rolled out.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::deploy::web;
use crate::support::{Cluster, Draw, IMAGE, Load, hosts, is_full, wait_until};

/// Rounds of the CI tier and of `packaging/test --full`, each with one rollout.
const ROUNDS: u64 = 10;
const ROUNDS_FULL: u64 = 100;
/// New connections that clients open in a second; a busy machine must manage the second number.
const RATE: u32 = 1300;
const RATE_MIN: u64 = 1000;
/// The host whose one-replica service is updated again and again.
const HOST: u8 = 2;
const PORT: u16 = 8090;

/// A one-replica service on one host, fast enough for the load.
pub(super) fn page(name: &str, host: u8, port: u16, round: u64) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "command": ["sh", "-c", "trap 'exit 0' TERM; page-server & wait $!"],
        "where": format!("name == \"node-{host}\""),
        "ports": [{ "container_port": 80, "host_port": port }],
        "env": { "ROUND": round.to_string() },
        "templates": [{ "destination": "/www/index.html", "content": "round {{env.ROUND}}" }],
        "update": { "bake": "300ms" },
    })
}

/// Kills one to three programs, the agent of the updated host among them if `agent`, and starts
/// them again.
fn kill_some(cluster: &Cluster, draw: &mut Draw, agent: bool) -> Vec<(u8, &'static str)> {
    let mut dead: Vec<(u8, &str)> = Vec::new();
    let any = |draw: &mut Draw| u8::try_from(draw.below(3)).unwrap() + 1;
    for count in 0..=draw.below(3) {
        let victim = match draw.below(5) {
            _ if agent && count == 0 => (HOST, "agent"),
            0 => (1, "server"),
            1 => (1, "nats"),
            2 => (any(draw), "mesh"),
            _ => (any(draw), "agent"),
        };
        let gone = dead.iter().any(|(_, part)| *part == "server") && victim.1 == "nats";
        if !dead.contains(&victim) && !gone {
            // nats-server may be between two lives of its own.
            cluster.dev(&["kill", &victim.0.to_string(), victim.1]);
            dead.push(victim);
        }
    }
    for (node, part) in dead.iter().filter(|(_, part)| *part != "nats") {
        cluster.start_part(*node, part);
    }
    dead
}

#[test]
fn rollouts_and_killing_anything_in_any_order_lose_no_container_and_no_request() {
    let seed = std::env::var("KNIT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("KNIT_TEST_SEED={seed} runs these rounds again");
    let mut draw = Draw(seed);
    let cluster = hosts();
    cluster.roll_out(&web("soak", 3, 8080));
    cluster.roll_out(&page("turn", HOST, PORT, 0));
    let untouched = |cluster: &Cluster| -> Vec<_> {
        let instances = cluster.instances_of("soak").unwrap();
        instances.iter().map(|one| (one["container"].clone(), one["started_at"].clone())).collect()
    };
    let before = untouched(&cluster);
    let load = Load::start(&cluster, HOST, HOST, PORT, RATE);

    for round in 1..=if is_full() { ROUNDS_FULL } else { ROUNDS } {
        let revision = cluster.submit(&page("turn", HOST, PORT, round));
        // Somewhere between the first decision and the last removal.
        thread::sleep(Duration::from_millis(u64::try_from(draw.below(2000)).unwrap()));
        let dead = kill_some(&cluster, &mut draw, round % 2 == 1);
        let end = cluster.rollout_end("turn", revision);
        assert_eq!(end["state"], "succeeded", "round {round} after {dead:?}: {end}");
        cluster.wait_ready();
        for node in cluster.nodes() {
            wait_until(&format!("the page of node {node} in round {round} after {dead:?}"), || {
                let page = cluster.page(node % 3 + 1, node, 8080)?;
                if page == format!("<p>hi from node-{node}</p>") { Ok(()) } else { Err(page) }
            });
        }
    }
    cluster.wait_running("turn", 1);
    let tally = load.stop();
    println!("{tally}");
    assert_eq!(tally.failed, 0, "seed {seed}: {tally}\n{}", cluster.logs());
    assert!(tally.rate() >= RATE_MIN, "{tally}");
    let after = untouched(&cluster);
    assert_eq!(after, before, "seed {seed}: same containers, never restarted\n{}", cluster.logs());
}
