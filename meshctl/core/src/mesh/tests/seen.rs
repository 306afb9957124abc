//! What a person is shown of the peers.

use super::*;
use crate::mesh::PeerState;

fn shown(node: &Node, ms: u64) -> (PeerState, Option<String>) {
    let peers = node.mesh.peer_details(later(ms));
    let peer = peers.into_iter().find(|peer| peer.view.key == key(2)).unwrap();
    (peer.state, peer.why)
}

#[test]
fn a_peer_goes_from_never_to_up_to_silent_to_stale_and_each_time_it_is_said_why() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let (state, why) = shown(one, 0);
    assert_eq!(state, PeerState::Never);
    let why = why.unwrap();
    assert!(why.starts_with("no handshake yet with 192.0.2.2:51820: is UDP port 51820"), "{why}");

    let seen = DevicePeer { rx_bytes: 500, tx_bytes: 700, ..device_peer(two, Some(1_000)) };
    one.mesh.handle(Event::Device(&[seen]), later(2_000));
    assert_eq!(shown(one, 2_000), (PeerState::Up, None));
    let details = one.mesh.peer_details(later(2_500));
    let peer = &details[0];
    assert_eq!(peer.handshake_age_ms, Some(1_500));
    let traffic = peer.traffic.unwrap();
    assert_eq!((traffic.rx_bytes, traffic.tx_bytes), (500, 700));
    assert_eq!((peer.endpoint_source, peer.is_knit), (Some("lan"), true));
    assert_eq!(peer.clock_offset_secs, Some(0));

    one.mesh.handle(Event::Probed { key: key(2), outcome: Probe::Silence }, later(8_000));
    let (state, why) = shown(one, 8_000);
    assert_eq!(state, PeerState::Silent);
    assert!(why.unwrap().contains("does not answer the probe"));

    // It speaks again, by its own clock ahead of ours, while its tunnel has long ceased.
    let mut ahead = later(250_000);
    ahead.unix += 90;
    two.mesh.handle(Event::Tick, later(249_000));
    let datagram = two.announce(ahead);
    one.hear(Path::Lan, two.control(), &datagram, later(250_000));
    let (state, why) = shown(one, 250_000);
    assert_eq!(state, PeerState::Stale);
    assert!(why.unwrap().starts_with("no handshake any more with"));
    let seen = device_peer(two, Some(100));
    one.mesh.handle(Event::Device(&[seen]), later(250_100));
    let (state, why) = shown(one, 250_100);
    assert_eq!(state, PeerState::Up);
    assert_eq!(why.unwrap(), "its clock is 90 s ahead of this host's: set the time on one of them");
}

/// On a LAN its announces are heard also when it has thrown us off its device.
#[test]
fn a_peer_that_is_heard_beside_a_dead_tunnel_is_not_called_up() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let (mut states, mut unheard) = (Vec::new(), 0);
    for sec in 1..=60_u64 {
        let now = later(sec * 1_000);
        // It answers for ten seconds, then only the LAN tells of it.
        let rx_bytes = sec.min(10);
        let seen = DevicePeer { rx_bytes, ..device_peer(two, Some(sec * 1_000)) };
        let mut effects = one.mesh.handle(Event::Device(&[seen]), now);
        effects.extend(one.mesh.handle(Event::Tick, now));
        if sec % 5 == 0 {
            let datagram = two.announce(now);
            one.hear(Path::Lan, two.control(), &datagram, now);
        }
        if effects.iter().any(|effect| matches!(effect, Effect::Probe { .. })) {
            let outcome = if sec < 10 { Probe::Pong { micros: 1 } } else { Probe::Silence };
            one.mesh.handle(Event::Probed { key: key(2), outcome }, later(sec * 1_000 + 900));
        }
        unheard += one.mesh.unheard_peers(later(sec * 1_000 + 950)).len();
        if !states.contains(&shown(one, sec * 1_000 + 950)) {
            states.push(shown(one, sec * 1_000 + 950));
        }
    }
    let why = "it is heard, but nothing comes through its tunnel: is the way cut, or is this node kept out there?";
    let last = states.pop().unwrap();
    assert_eq!(last, (PeerState::Silent, Some(why.to_owned())), "after {states:?}");
    assert_eq!(states[0], (PeerState::Up, None));
    assert_eq!(unheard, 1, "between two announces, and never again");
}

#[test]
fn a_peer_that_cannot_be_configured_says_what_is_in_the_way() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let own = one.mesh.mesh_ip();
    for (ip, expected) in [
        (own.to_string(), "it claims this node's mesh address"),
        ("192.168.1.1".to_owned(), "lies outside"),
    ] {
        one.mesh.peers.get_mut(&two.key()).unwrap().mesh_ip = ip.parse().ok();
        let why = shown(one, 100).1.unwrap();
        assert!(why.contains(expected), "{ip}: {why}");
    }
}

#[test]
fn what_is_not_taken_in_is_counted_by_its_reason() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let datagram = two.announce(later(1_000));
    let elsewhere = "192.0.2.66:1".parse().unwrap();
    one.hear(Path::Lan, two.control(), &datagram, later(1_000));
    one.hear(Path::Lan, elsewhere, &datagram, later(1_000));
    one.hear(Path::Exchange, elsewhere, b"of another mesh", later(1_000));
    let late = two.announce(later(2_000));
    one.hear(Path::Lan, two.control(), &late, later(2_000_000));
    for _ in 0..30 {
        one.hear(Path::Exchange, elsewhere, b"flood", later(2_000_100));
    }
    let counters = one.mesh.counters();
    assert!(counters.taken > 0);
    assert_eq!(counters.found.get("lan"), Some(&1));
    for (reason, at_least) in [("replayed", 1), ("foreign", 2), ("clock", 1), ("rate", 10)] {
        let count = counters.dropped.get(reason).copied().unwrap_or_default();
        assert!(count >= at_least, "{reason}: {counters:?}");
    }
}
