use knit_rpc::api::NodeState;
use proptest::prelude::*;

use super::*;
use crate::testing::*;

fn states(snapshot: &Snapshot, now: Timestamp) -> Vec<&'static str> {
    judge(snapshot, now).nodes.values().map(|verdict| verdict.state.as_str()).collect()
}

/// Node 1 goes on beating, the others fell silent at [`NOW`].
fn after_silence(seconds: u64, nodes: u8, unheard: &[&str]) -> Vec<&'static str> {
    let mut snapshot = cluster(nodes);
    let now = after(seconds);
    node_mut(&mut snapshot, 1).last_beat = Some(now);
    node_mut(&mut snapshot, 1).facts.unheard = unheard.iter().map(|k| (*k).to_owned()).collect();
    states(&snapshot, now)
}

#[test]
fn silence_makes_stale_and_then_lost() {
    for (seconds, unheard, expected) in [
        (5, &[][..], "ready"),
        (6, &[], "stale"),
        (11, &[], "stale"),
        (12, &[], "unreachable"),
        (600, &[], "unreachable"),
        (5, &["key2"], "ready"),
        (6, &["key2"], "lost"),
        (60, &["key2"], "lost"),
    ] {
        assert_eq!(after_silence(seconds, 2, unheard)[1], expected, "{seconds} s, {unheard:?}");
    }
}

#[test]
fn without_a_peer_to_ask_silence_alone_decides() {
    let mut snapshot = cluster(1);
    for (seconds, expected) in [(5, "ready"), (6, "stale"), (12, "lost")] {
        assert_eq!(states(&snapshot, after(seconds)), [expected]);
    }
    // A peer that itself is silent has nothing to say.
    add_node(&mut snapshot, 2, &[]);
    assert_eq!(states(&snapshot, after(12)), ["lost", "lost"]);
}

#[test]
fn many_that_vanish_at_once_are_the_servers_own_trouble() {
    let all = ["key2", "key3", "key4"];
    assert_eq!(after_silence(8, 4, &all), ["ready", "unreachable", "unreachable", "unreachable"]);
    assert_eq!(after_silence(8, 3, &all), ["ready", "lost", "lost"], "two are too few");

    let mut snapshot = cluster(10);
    beat_all(&mut snapshot, after(20));
    for n in 2..=4 {
        node_mut(&mut snapshot, n).last_beat = Some(NOW);
    }
    let verdicts = judge(&snapshot, after(20));
    assert_eq!(verdicts.state(&node_id(2)), Some(NodeState::Unreachable), "heard by peers");
    assert_eq!(verdicts.frozen, None, "three of ten are not over a third");
    node_mut(&mut snapshot, 5).last_beat = Some(NOW.plus(Duration::from_secs(2)));
    let frozen = judge(&snapshot, after(20)).frozen.unwrap();
    assert!(frozen.starts_with("4 of 10 nodes fell silent at once"), "{frozen}");
    node_mut(&mut snapshot, 5).last_beat = Some(after(10));
    assert_eq!(judge(&snapshot, after(20)).frozen, None, "one by one is not at once");
}

#[test]
fn the_first_to_go_stale_is_not_lost_while_others_are_about_to() {
    let mut snapshot = cluster(4);
    let all = ["key2", "key3", "key4"].map(str::to_owned);
    node_mut(&mut snapshot, 1).last_beat = Some(after(6));
    node_mut(&mut snapshot, 1).facts.unheard = all.into();
    for n in 3..=4 {
        node_mut(&mut snapshot, n).last_beat = Some(NOW.plus(Duration::from_millis(1_900)));
    }
    assert_eq!(states(&snapshot, after(6)), ["ready", "unreachable", "ready", "ready"]);
}

#[test]
fn after_a_restart_nodes_are_judged_once_the_first_have_had_time_to_beat() {
    let mut snapshot = cluster(2);
    snapshot.started = NOW;
    for n in 1..=2 {
        node_mut(&mut snapshot, n).last_beat = None;
    }
    snapshot.first_beat = None;
    assert_eq!(states(&snapshot, after(600)), ["joining", "joining"], "nobody beats: it is us");

    snapshot.first_beat = Some(after(60));
    node_mut(&mut snapshot, 1).last_beat = Some(after(65));
    node_mut(&mut snapshot, 1).facts.unheard.insert("key2".to_owned());
    assert_eq!(states(&snapshot, after(64)), ["ready", "joining"]);
    assert_eq!(states(&snapshot, after(65)), ["ready", "lost"]);
}

#[test]
fn a_lost_node_stays_lost_over_a_restart() {
    let mut snapshot = cluster(1);
    let node = node_mut(&mut snapshot, 1);
    (node.lost, node.last_beat) = (true, None);
    assert_eq!(states(&snapshot, NOW), ["lost"]);
}

#[test]
fn two_hosts_with_one_id_alternate() {
    let life = |n: u64| Life { boot: n.to_string(), agent_start: Timestamp::from_millis(n) };
    for (lives, expected) in [
        (&[1, 1, 1][..], "ready"),
        (&[1, 2, 2], "ready"),
        (&[1, 2, 3], "ready"),
        (&[1, 2, 1], "duplicate"),
        (&[1, 2, 1, 2, 1], "duplicate"),
    ] {
        let mut snapshot = cluster(1);
        let node = node_mut(&mut snapshot, 1);
        for n in lives {
            node.lives.note(life(*n), NOW);
        }
        assert_eq!(states(&snapshot, NOW), [expected], "{lives:?}");
        let later = after(DUPLICATE_FOR.as_secs());
        beat_all(&mut snapshot, later);
        assert_eq!(states(&snapshot, later), ["ready"], "it passes: {lives:?}");
    }
}

#[test]
fn two_ids_with_one_key_are_duplicates_while_both_beat() {
    let mut snapshot = cluster(3);
    node_mut(&mut snapshot, 2).facts.wg_pubkey = "key1".to_owned();
    assert_eq!(states(&snapshot, NOW), ["duplicate", "duplicate", "ready"]);
    node_mut(&mut snapshot, 1).last_beat = Some(after(7));
    assert_eq!(states(&snapshot, after(7))[0], "ready", "the host was set up anew");
}

#[test]
fn a_node_without_docker_is_not_ready_and_says_why() {
    let mut snapshot = cluster(1);
    node_mut(&mut snapshot, 1).facts.trouble = Some("Docker does not answer".to_owned());
    let verdict = judge(&snapshot, NOW).nodes[&node_id(1)].clone();
    assert_eq!(verdict.state, NodeState::NotReady);
    assert_eq!(verdict.message.as_deref(), Some("Docker does not answer"));
}

#[test]
fn nobody_is_lost_by_silence_while_the_server_cannot_hear() {
    // Two nodes that last beat at 0; the bus is down from 3 s to 100 s.
    for (seconds, expected, down) in [
        (2, "ready", false),
        (3, "ready", true),
        (50, "ready", true),
        (99, "ready", true),
        (100, "ready", false),
        (105, "ready", false),
        (106, "stale", false),
        (111, "stale", false),
        (112, "lost", false),
    ] {
        let mut snapshot = cluster(2);
        for tick in 0..=seconds {
            snapshot.note_bus(!(3..100).contains(&tick), after(tick));
        }
        let verdicts = judge(&snapshot, after(seconds));
        assert_eq!(states(&snapshot, after(seconds)), [expected; 2], "{seconds} s");
        let message = verdicts.nodes[&node_id(1)].message.as_deref();
        let told = message == Some("the server's own NATS connection is down");
        assert_eq!(told, down, "{seconds} s: {message:?}");
    }
}

#[test]
fn what_a_node_was_before_the_server_went_deaf_it_stays() {
    let mut snapshot = cluster(3);
    let now = after(20);
    node_mut(&mut snapshot, 1).facts.trouble = Some("Docker does not answer".to_owned());
    node_mut(&mut snapshot, 1).last_beat = Some(now);
    node_mut(&mut snapshot, 1).facts.unheard.insert("key2".to_owned());
    node_mut(&mut snapshot, 2).lost = true;
    let before = ["not-ready", "lost", "unreachable"];
    assert_eq!(states(&snapshot, now), before);
    snapshot.note_bus(false, now);
    assert_eq!(states(&snapshot, after(600)), before);
    let verdicts = judge(&snapshot, after(600));
    let message = verdicts.nodes[&node_id(1)].message.as_deref();
    assert_eq!(message, Some("Docker does not answer"), "its own trouble is said");

    snapshot.note_bus(true, after(600));
    assert_eq!(states(&snapshot, after(601))[1], "lost", "it was not heard since");
    node_mut(&mut snapshot, 2).last_beat = Some(after(602));
    node_mut(&mut snapshot, 2).lost = false;
    assert_eq!(states(&snapshot, after(602))[1], "ready");
}

proptest! {
    #[test]
    fn no_silence_loses_a_node_while_deaf_and_right_after(
        nodes in 1..6u8,
        beats in proptest::collection::vec(0..6u64, 6),
        down in 0..600u64,
        heard_for in 0..STALE_AFTER.as_secs(),
    ) {
        let mut snapshot = cluster(nodes);
        for (n, beat) in (1..=nodes).zip(beats) {
            node_mut(&mut snapshot, n).last_beat = Some(after(beat));
        }
        let from = after(5);
        snapshot.note_bus(true, NOW);
        let before = states(&snapshot, from);
        snapshot.note_bus(false, from);
        let end = from.plus(Duration::from_secs(down));
        prop_assert_eq!(&states(&snapshot, end), &before);
        snapshot.note_bus(true, end);
        let later = end.plus(Duration::from_secs(heard_for));
        prop_assert_eq!(states(&snapshot, later), before);
    }
}
