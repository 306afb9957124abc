use knit_rpc::api::NodeState;

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
