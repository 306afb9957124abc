//! Whatever is killed, in whatever order: the containers do not notice and the cluster comes back.

use super::deploy::web;
use crate::support::{hosts, wait_until};

/// Rounds of the CI tier and of `packaging/test --full`.
const ROUNDS: u64 = 6;
const ROUNDS_FULL: u64 = 100;

/// A small generator (splitmix64), so that a failure can be run again by its seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[test]
fn killing_anything_in_any_order_loses_nothing() {
    let full = std::env::var_os("KNIT_TEST_FULL").is_some();
    let seed = std::env::var("KNIT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("KNIT_TEST_SEED={seed} runs these rounds again");
    let mut draw = Draw(seed);
    let cluster = hosts();
    cluster.deploy(&web("soak", 3, 8080));
    let before: Vec<_> = cluster.nodes().map(|node| cluster.containers(node)).collect();

    for round in 0..if full { ROUNDS_FULL } else { ROUNDS } {
        // One to three programs at once; who is killed stays dead for a moment.
        let mut dead: Vec<(u8, &str)> = Vec::new();
        for _ in 0..=draw.below(3) {
            let victim = match draw.below(5) {
                0 => (1, "server"),
                1 => (1, "nats"),
                2 => (u8::try_from(draw.below(3)).unwrap() + 1, "mesh"),
                _ => (u8::try_from(draw.below(3)).unwrap() + 1, "agent"),
            };
            let gone = dead.iter().any(|(_, part)| *part == "server") && victim.1 == "nats";
            if !dead.contains(&victim) && !gone {
                // nats-server may be between two lives of its own.
                cluster.dev(&["kill", &victim.0.to_string(), victim.1]);
                dead.push(victim);
            }
        }
        for (node, part) in &dead {
            if *part != "nats" {
                cluster.start_part(*node, part);
            }
        }
        cluster.wait_ready();
        for node in cluster.nodes() {
            wait_until(&format!("the page of node {node} in round {round} after {dead:?}"), || {
                let page = cluster.page(node % 3 + 1, node, 8080)?;
                if page == format!("<p>hi from node-{node}</p>") { Ok(()) } else { Err(page) }
            });
        }
    }
    let after: Vec<_> = cluster.nodes().map(|node| cluster.containers(node)).collect();
    assert_eq!(after, before, "seed {seed}: same containers, never restarted\n{}", cluster.logs());
}
