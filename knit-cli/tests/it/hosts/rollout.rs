//! Rollouts while something goes wrong.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::deploy::web;
use super::soak::page;
use crate::support::{BadWires, Badness, Cluster, Load, host_of, hosts, wait_until};

/// A page on every host, which says `greeting`; one slot after the other is updated.
fn greeting(name: &str, greeting: &str) -> Value {
    let mut manifest = web(name, 3, 8080);
    manifest["env"]["GREETING"] = json!(greeting);
    manifest["update"] = json!({ "wave": 1, "bake": "300ms", "drain": "500ms" });
    manifest
}

#[track_caller]
fn assert_greeting(cluster: &Cluster, greeting: &str) {
    for node in cluster.nodes() {
        let page = cluster.page(node % 3 + 1, node, 8080);
        assert_eq!(page, Ok(format!("<p>{greeting} from node-{node}</p>")), "{}", cluster.logs());
    }
}

/// Waits until the first slot is updated and the last is not.
#[track_caller]
fn wait_for_the_middle(cluster: &Cluster, name: &str, revision: u64) -> Value {
    wait_until(&format!("the middle of the rollout of {name}"), || {
        let instances = cluster.instances_of(name)?;
        let new =
            instances.iter().find(|one| one["revision"] == revision && one["phase"] == "running");
        new.cloned().ok_or_else(|| format!("{instances:?}"))
    })
}

/// What containers a host's Docker made since then.
fn made_since(cluster: &Cluster, node: u8, since: &str) -> usize {
    let filters = ["--filter", "event=create", "--filter", "type=container"];
    let window = ["docker", "events", "--since", since, "--until", "0s"];
    cluster.on(node, &[window.as_slice(), &filters].concat()).lines().count()
}

#[test]
fn a_rollout_over_wires_that_delay_and_lose_ends_well() {
    let cluster = hosts();
    cluster.roll_out(&greeting("far", "hi"));
    let badness = Badness {
        delay: Duration::from_millis(150),
        jitter: Duration::from_millis(50),
        loss_percent: 5,
    };
    let wires = BadWires::between_all(&cluster, badness);
    let start = Instant::now();
    cluster.roll_out(&greeting("far", "bye"));
    println!("a rollout of 3 over bad wires took {:.1} s", start.elapsed().as_secs_f64());
    for node in cluster.nodes() {
        assert_eq!(cluster.node_view(node).unwrap()["state"], "ready");
    }
    let carried = wires.mend();
    assert!(carried > 20, "{carried} packets took the bad way");
    assert_greeting(&cluster, "bye");
}

#[test]
fn a_server_killed_in_the_middle_of_a_rollout_goes_on_and_makes_nothing_twice() {
    let cluster = hosts();
    cluster.roll_out(&greeting("steady", "hi"));
    let since = cluster.on(1, &["date", "+%s.%N"]);
    let revision = cluster.submit(&greeting("steady", "bye"));
    let first = wait_for_the_middle(&cluster, "steady", revision);
    cluster.kill(1, "server");
    cluster.start_part(1, "server");
    let end = cluster.rollout_end("steady", revision);
    assert_eq!(end["state"], "succeeded", "{end}");
    let instances = cluster.wait_running("steady", 3);
    let same = instances.iter().find(|one| one["slot"] == first["slot"]).unwrap();
    assert_eq!(same["container"], first["container"], "{same}");
    let made: Vec<_> = cluster.nodes().map(|node| made_since(&cluster, node, &since)).collect();
    assert_eq!(made, [1, 1, 1], "one new container for each slot");
    assert_greeting(&cluster, "bye");
}

#[test]
fn a_docker_restarted_in_the_middle_of_a_rollout_delays_it_and_no_more() {
    let cluster = hosts();
    cluster.roll_out(&greeting("patient", "hi"));
    let revision = cluster.submit(&greeting("patient", "bye"));
    let first = wait_for_the_middle(&cluster, "patient", revision);
    // One whose turn has not come yet.
    let node = if host_of(&first) == 3 { "2" } else { "3" };
    let output = cluster.dev(&["restart", node, "dockerd"]);
    assert!(output.status.success(), "{output:?}");
    let end = cluster.rollout_end("patient", revision);
    assert_eq!(end["state"], "succeeded", "{end}");
    cluster.wait_running("patient", 3);
    assert_greeting(&cluster, "bye");
}

#[test]
fn an_image_that_crashes_is_rolled_back_and_the_old_one_serves_all_the_time() {
    const HOST: u8 = 2;
    let cluster = hosts();
    cluster.roll_out(&page("sound", HOST, 8091, 0));
    let before = cluster.wait_running("sound", 1)[0]["container"].clone();
    let load = Load::start(&cluster, HOST, HOST, 8091, 200);

    let mut broken = page("sound", HOST, 8091, 1);
    broken["command"] = json!(["sh", "-c", "echo cannot find the database; exit 3"]);
    let start = Instant::now();
    let revision = cluster.submit(&broken);
    let end = cluster.rollout_end("sound", revision + 1);
    println!("a crashing image was rolled back in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(end["state"], "rolled-back", "{end}");
    assert_eq!(end["cause"]["automatic"], true, "{end}");
    let given_up = cluster.revision("sound", revision);
    assert_eq!(given_up["state"], "rolled-back", "{given_up}");
    assert_eq!(given_up["log"][0], "cannot find the database", "{given_up}");
    let message = given_up["message"].as_str().unwrap();
    assert!(message.contains("sound.0 on node-2") && message.contains('3'), "{message}");
    for (command, words) in [
        ("history", ["rolled-back", "ended 3 times in a row"]),
        ("status", ["rolled-back", "cannot find the database"]),
    ] {
        let shown = cluster.on(1, &["knit", command, "sound"]);
        for word in words {
            assert!(shown.contains(word), "{word:?} is not in `knit {command}`:\n{shown}");
        }
    }

    let after = cluster.wait_running("sound", 1)[0]["container"].clone();
    assert_eq!(after, before, "the old container was never touched");
    let tally = load.stop();
    println!("{tally}");
    assert_eq!(tally.failed, 0, "{tally}");
}

#[test]
fn an_image_that_cannot_be_pulled_in_the_middle_of_a_rollout_is_rolled_back_at_once() {
    let cluster = hosts();
    cluster.roll_out(&greeting("partial", "hi"));
    let last = &cluster.wait_running("partial", 3)[2];
    assert_eq!(last["slot"], 2, "{last}");
    for node in cluster.nodes().filter(|node| *node != host_of(last)) {
        cluster.on(node, &["docker", "tag", crate::support::IMAGE, "knit-test-partial:1"]);
    }
    let mut manifest = greeting("partial", "bye");
    manifest["image"] = json!("knit-test-partial:1");
    let start = Instant::now();
    let revision = cluster.submit(&manifest);
    let end = cluster.rollout_end("partial", revision + 1);
    let took = start.elapsed();
    println!("an image that is missing on the third host was rolled back in {took:?}");
    assert_eq!(end["state"], "rolled-back", "{end}");
    let given_up = cluster.revision("partial", revision);
    assert_eq!(given_up["state"], "rolled-back", "{given_up}");
    let message = given_up["message"].as_str().unwrap();
    assert!(message.contains("partial.2 on") && message.contains("knit-test-partial"), "{message}");
    assert!(took < Duration::from_secs(30), "{took:?}, and the deadline is five minutes");
    cluster.wait_running("partial", 3);
    assert_greeting(&cluster, "hi");
}
