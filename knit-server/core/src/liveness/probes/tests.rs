use knit_rpc::api::NodeState;

use super::*;
use crate::liveness::{Life, STALE_AFTER, judge};
use crate::testing::*;

/// A cluster in which the first node fell silent at [`NOW`] and the others beat at `now`.
fn silent(nodes: u8, now: Timestamp) -> Snapshot {
    let mut snapshot = cluster(nodes);
    beat_all(&mut snapshot, now);
    node_mut(&mut snapshot, 1).last_beat = Some(NOW);
    snapshot
}

fn at(millis: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(millis))
}

fn ids(numbers: &[u8]) -> BTreeSet<NodeId> {
    numbers.iter().map(|n| node_id(*n)).collect()
}

/// Asks `asked` at 3.5 s; then each says at its moment (ms) whether it reaches the silent node.
fn probed(snapshot: &mut Snapshot, asked_peers: &[u8], answers: &[(u8, bool, u64)]) {
    let targets = [(node_id(1), [10, 45, 0, 1].into())].into();
    asked(snapshot, &ProbeRequest { by: ids(asked_peers), targets }, at(3_500));
    for (peer, reached, moment) in answers {
        answer(snapshot, &node_id(*peer), &[(node_id(1), *reached)].into(), at(*moment));
    }
}

#[test]
fn peers_are_asked_once_a_beat_was_missed_and_again_each_second() {
    for (silence, asked_ago, expected) in [
        (3_499, None, false),
        (3_500, None, true),
        (4_000, Some(999), false),
        (4_500, Some(1_000), true),
        (60_000, Some(3_999), false),
        (60_000, Some(4_000), true),
    ] {
        let now = at(silence);
        let mut snapshot = silent(3, now);
        if let Some(ago) = asked_ago {
            probed(&mut snapshot, &[2, 3], &[]);
            let probing = snapshot.probes.get_mut(&node_id(1)).unwrap();
            probing.asked_again_at = at(silence - ago);
        }
        let found = question(&snapshot, None, now);
        assert_eq!(found.is_some(), expected, "{silence} ms, asked {asked_ago:?} ms ago");
        if let Some(found) = found {
            assert_eq!(found.by, ids(&[2, 3]));
            assert_eq!(found.targets.keys().cloned().collect::<BTreeSet<_>>(), ids(&[1]));
        }
    }
}

#[test]
fn nobody_is_asked_about_who_is_lost_or_while_the_server_cannot_hear_or_just_began() {
    let now = at(4_000);
    let mut lost = silent(3, now);
    node_mut(&mut lost, 1).lost = true;
    let mut deaf = silent(3, now);
    deaf.note_bus(false, now);
    let mut begun = silent(3, now);
    (begun.started, begun.first_beat) = (NOW, Some(now));
    node_mut(&mut begun, 1).last_beat = None;
    let mut unknown = silent(3, now);
    node_mut(&mut unknown, 1).facts.mesh_ip = None;
    for (snapshot, why) in
        [(lost, "lost"), (deaf, "deaf"), (begun, "just begun"), (unknown, "no address")]
    {
        assert_eq!(question(&snapshot, None, now), None, "{why}");
    }
}

#[test]
fn the_same_few_peers_are_asked_and_the_servers_own_host_last() {
    let now = at(4_000);
    let snapshot = silent(9, now);
    for (own, expected) in
        [(None, [2, 3, 4, 5, 6]), (Some(3), [2, 4, 5, 6, 7]), (Some(9), [2, 3, 4, 5, 6])]
    {
        let own = own.map(node_id);
        let found = question(&snapshot, own.as_ref(), now).unwrap();
        assert_eq!(found.by, ids(&expected), "{own:?}");
    }
    let few = silent(3, now);
    assert_eq!(
        question(&few, Some(&node_id(3)), now).unwrap().by,
        ids(&[2, 3]),
        "better than none"
    );
    assert_eq!(question(&silent(1, now), None, now), None, "there is nobody");
}

#[test]
fn a_question_is_about_some_and_the_next_about_the_others() {
    let now = at(10_000);
    let mut snapshot = cluster(u8::try_from(TARGETS_MAX).unwrap() + 40);
    node_mut(&mut snapshot, 1).last_beat = Some(now);
    let first = question(&snapshot, None, now).unwrap();
    assert_eq!(first.targets.len(), TARGETS_MAX);
    asked(&mut snapshot, &first, now);
    let second = question(&snapshot, None, now).unwrap();
    assert!(second.targets.keys().all(|id| !first.targets.contains_key(id)));
}

#[test]
fn what_peers_say_decides_as_soon_as_the_node_is_stale() {
    const LATER: u64 = 5_500;
    for (case, now, answers, expected) in [
        ("nobody answered", 6_000, &[][..], "stale"),
        ("nobody ever answers, and the mesh does not say so either", 12_000, &[], "unreachable"),
        ("not stale yet", 5_900, &[(2, false, LATER), (3, false, LATER)], "ready"),
        ("all say no", 6_000, &[(2, false, LATER), (3, false, LATER)], "lost"),
        ("one says no, and the other had its time", 6_000, &[(2, false, LATER)], "lost"),
        ("one says yes", 6_000, &[(2, false, LATER), (3, true, LATER)], "stale"),
        ("one says yes on and on", 12_500, &[(2, false, 12_000), (3, true, 12_000)], "unreachable"),
        ("one said yes long ago", 12_500, &[(2, false, 12_000), (3, true, 7_000)], "lost"),
        ("the newest word counts", 6_000, &[(2, true, 4_000), (2, false, LATER)], "lost"),
        ("all words are old", 11_000, &[(2, false, 4_000), (3, false, 4_000)], "stale"),
    ] {
        let mut snapshot = silent(3, at(now));
        probed(&mut snapshot, &[2, 3], answers);
        let verdict = judge(&snapshot, at(now)).nodes[&node_id(1)].clone();
        assert_eq!(verdict.state.as_str(), expected, "{case}: {:?}", verdict.message);
    }
}

#[test]
fn the_first_no_waits_a_moment_for_the_others() {
    // Asked at 3.5 s, as always; here the node is stale before that moment is over.
    for (asked_at, now, expected) in [
        (5_000, 6_000, NodeState::Stale),
        (5_000, 6_499, NodeState::Stale),
        (5_000, 6_500, NodeState::Lost),
    ] {
        let mut snapshot = silent(3, at(now));
        probed(&mut snapshot, &[2, 3], &[(2, false, 5_200)]);
        snapshot.probes.get_mut(&node_id(1)).unwrap().asked_at = at(asked_at);
        assert_eq!(judge(&snapshot, at(now)).state(&node_id(1)), Some(expected), "{now}");
    }
}

#[test]
fn only_who_was_asked_and_lives_may_speak() {
    let now = at(6_000);
    let mut uninvited = silent(3, now);
    probed(&mut uninvited, &[2], &[(3, false, 5_500)]);
    assert_eq!(judge(&uninvited, now).state(&node_id(1)), Some(NodeState::Stale));
    let mut silent_too = silent(3, now);
    probed(&mut silent_too, &[2, 3], &[(2, false, 3_600), (3, true, 3_600)]);
    node_mut(&mut silent_too, 3).last_beat = Some(NOW);
    assert_eq!(judge(&silent_too, now).state(&node_id(1)), Some(NodeState::Lost));
}

#[test]
fn who_beats_again_speaks_for_itself() {
    let mut snapshot = silent(3, at(5_000));
    probed(&mut snapshot, &[2, 3], &[(2, false, 4_000)]);
    assert!(!answer(&mut snapshot, &node_id(1), &BTreeMap::new(), at(5_000)));
    assert!(snapshot.probes.is_empty());
}

#[test]
fn what_peers_say_beats_what_they_said_by_themselves() {
    let now = at(6_000);
    let mut snapshot = silent(2, now);
    node_mut(&mut snapshot, 2).facts.unheard.insert("key1".to_owned());
    assert_eq!(judge(&snapshot, now).state(&node_id(1)), Some(NodeState::Lost));
    probed(&mut snapshot, &[2], &[(2, true, 5_500)]);
    assert_eq!(judge(&snapshot, now).state(&node_id(1)), Some(NodeState::Stale));
}

#[test]
fn a_node_that_died_while_the_server_was_down_is_given_up_when_peers_say_so() {
    let mut snapshot = cluster(2);
    snapshot.started = NOW;
    snapshot.first_beat = Some(at(1_000));
    node_mut(&mut snapshot, 1).last_beat = None;
    for (now, expected) in [(5_900, NodeState::Joining), (6_000, NodeState::Lost)] {
        node_mut(&mut snapshot, 2).last_beat = Some(at(now));
        snapshot.probes.clear();
        probed(&mut snapshot, &[2], &[(2, false, now - 100)]);
        assert_eq!(judge(&snapshot, at(now)).state(&node_id(1)), Some(expected), "{now}");
    }
}

#[test]
fn a_mass_loss_stays_frozen_whatever_peers_say_until_it_is_none() {
    let now = at(8_000);
    let mut snapshot = cluster(6);
    for n in 4..=6 {
        node_mut(&mut snapshot, n).last_beat = Some(now);
    }
    for target in 1..=3 {
        let targets = [(node_id(target), [10, 45, 0, target].into())].into();
        asked(&mut snapshot, &ProbeRequest { by: ids(&[4, 5]), targets }, at(3_500));
        for peer in [4, 5] {
            answer(&mut snapshot, &node_id(peer), &[(node_id(target), false)].into(), at(7_000));
        }
    }
    let frozen = judge(&snapshot, now);
    assert!(frozen.frozen.is_some());
    for n in 1..=3 {
        assert_eq!(frozen.state(&node_id(n)), Some(NodeState::Unreachable));
    }
    let mut heard = snapshot.clone();
    node_mut(&mut heard, 1).last_beat = Some(now);
    let mut removed = snapshot;
    removed.nodes.remove(&node_id(1));
    for (snapshot, case) in [(heard, "one is heard"), (removed, "one is removed")] {
        let thawed = judge(&snapshot, now);
        assert_eq!(thawed.frozen, None, "{case}");
        assert_eq!(thawed.state(&node_id(2)), Some(NodeState::Lost), "{case}");
    }
}

#[test]
fn who_died_alone_before_is_no_part_of_a_mass_loss_and_stays_lost() {
    let now = at(9_000);
    let mut snapshot = cluster(6);
    beat_all(&mut snapshot, now);
    node_mut(&mut snapshot, 1).lost = true;
    node_mut(&mut snapshot, 1).last_beat = Some(at(1_000));
    // Two more right after it: together they would be three.
    for n in 2..=3 {
        node_mut(&mut snapshot, n).last_beat = Some(at(2_900));
    }
    let verdicts = judge(&snapshot, now);
    assert_eq!(verdicts.frozen, None);
    assert_eq!(verdicts.state(&node_id(1)), Some(NodeState::Lost));
    node_mut(&mut snapshot, 4).last_beat = Some(at(2_900));
    let verdicts = judge(&snapshot, now);
    assert!(verdicts.frozen.unwrap().starts_with("3 of 6 nodes"), "the other three are frozen");
    assert_eq!(judge(&snapshot, now).state(&node_id(1)), Some(NodeState::Lost));
}

#[test]
fn a_host_that_was_booted_anew_is_told_from_an_agent_that_was() {
    let life = |boot: &str, start| Life { boot: boot.into(), agent_start: at(start) };
    let mut lives = crate::liveness::Lives::default();
    for (boot, start, rebooted) in
        [("a", 1, false), ("a", 1, false), ("a", 2, false), ("b", 3, true), ("b", 4, false)]
    {
        assert_eq!(lives.note(life(boot, start), NOW), rebooted, "{boot} {start}");
    }
    assert!(STALE_AFTER > ASK_AFTER, "answers have time to come before a node is stale");
}
