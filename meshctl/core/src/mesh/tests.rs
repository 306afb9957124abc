//! A few nodes on one imagined network, driven by hand.

mod hostile;
mod ipv6;
mod nat;
mod punching;
mod rotation;
mod seen;
mod signed;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::*;
use crate::derive::{MeshKeys, MeshSubnet};
use crate::envelope::{self, Kind};
use crate::key::PrivateKey;
use crate::secret::Secret;
use crate::state_file::CachedPeer;

const START: Now = Now { mono_ms: 86_400_000, unix: 1_800_000_000 };

fn later(ms: u64) -> Now {
    Now { mono_ms: START.mono_ms + ms, unix: START.unix + i64::try_from(ms / 1000).unwrap() }
}

/// A node with its underlay address.
struct Node {
    mesh: Mesh,
    ip: IpAddr,
    nonces: u64,
}

impl Node {
    fn new(number: u8, subnet: Option<&str>) -> Self {
        Self::with_cache(number, subnet, &[])
    }

    fn with_cache(number: u8, subnet: Option<&str>, cached: &[CachedPeer]) -> Self {
        let keys = MeshKeys::derive(&Secret::parse("a secret of the tests only").unwrap());
        let subnet = match subnet {
            Some(net) => MeshSubnet::custom(net.parse().unwrap()).unwrap(),
            None => keys.default_subnet(),
        };
        let settings = Settings {
            public_key: key(number),
            subnet,
            hostname: format!("node-{number}"),
            listen_port: 51820,
            boot: 1,
            routes: Vec::new(),
            accept_routes: Vec::new(),
            lan: true,
            gossip: false,
            ipv6: None,
            no_ipv6: false,
            introducer: false,
            no_punching: false,
            force_relay: false,
            trust: Trust::default(),
            successor: None,
            relays_ipv6: false,
            keys,
        };
        let ip = Ipv4Addr::new(192, 0, 2, number);
        Self { mesh: Mesh::new(settings, None, cached, START), ip: ip.into(), nonces: 0 }
    }

    fn key(&self) -> PublicKey {
        self.mesh.settings.public_key
    }

    fn control(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.mesh.settings.keys.gossip_port)
    }

    fn seal(&mut self, kind: Kind, plaintext: &[u8]) -> Vec<u8> {
        self.nonces += 1;
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.key().to_bytes()[..4]);
        nonce[4..].copy_from_slice(&self.nonces.to_be_bytes());
        envelope::seal(&self.mesh.settings.keys.gossip_key, nonce, kind, plaintext)
    }

    fn announce(&mut self, now: Now) -> Vec<u8> {
        let Effect::Announce(plaintext) = self.mesh.announce(now) else { panic!() };
        self.seal(Kind::Announce, &plaintext)
    }

    fn hear(&mut self, path: Path, from: SocketAddr, bytes: &[u8], now: Now) -> Vec<Effect> {
        self.mesh.handle(Event::Datagram { path, from, bytes }, now)
    }

    fn names(&self, now: Now) -> Vec<String> {
        self.mesh.active_peers(now).into_iter().map(|peer| peer.hostname).collect()
    }

    fn configured(&self) -> Vec<(PublicKey, Option<SocketAddr>)> {
        self.mesh.configured.values().map(|peer| (peer.key, peer.endpoint)).collect()
    }
}

fn key(number: u8) -> PublicKey {
    PrivateKey::from_random([number; 32]).public()
}

/// Delivers what nodes send each other until nobody has anything to say at `now`.
fn settle(nodes: &mut [Node], now: Now, lan: bool) {
    let mut queue: Vec<(usize, Effect)> = Vec::new();
    for (index, node) in nodes.iter_mut().enumerate() {
        queue.extend(node.mesh.handle(Event::Tick, now).into_iter().map(|effect| (index, effect)));
    }
    for _ in 0..10_000 {
        let Some((sender, effect)) = queue.pop() else { return };
        let (path, to, kind, plaintext) = match effect {
            Effect::Announce(plaintext) => (Path::Lan, None, Kind::Announce, plaintext),
            Effect::Send { to, kind, plaintext } => (Path::Exchange, Some(to), kind, plaintext),
            Effect::SetPeer(_)
            | Effect::RemovePeer(_)
            | Effect::MoveAddress(_)
            | Effect::Probe { .. }
            | Effect::Routes(_)
            | Effect::PeersChanged
            | Effect::RevocationsChanged
            | Effect::SecretRotated
            | Effect::Report(_) => continue,
        };
        let from = nodes[sender].control();
        let bytes = nodes[sender].seal(kind, &plaintext);
        for (index, node) in nodes.iter_mut().enumerate() {
            let reached = match to {
                None => lan,
                Some(to) => to == node.control(),
            };
            if reached {
                let effects = node.hear(path, from, &bytes, now);
                queue.extend(effects.into_iter().map(|effect| (index, effect)));
            }
        }
    }
    panic!("the nodes never stop talking");
}

fn device_peer(other: &Node, age_ms: Option<u64>) -> DevicePeer {
    DevicePeer {
        key: other.key(),
        endpoint: Some(SocketAddr::new(other.ip, 51820)),
        allowed_ips: vec![ipnet::IpNet::from(IpAddr::V4(other.mesh.mesh_ip()))],
        handshake_age_ms: age_ms,
        rx_bytes: 0,
        tx_bytes: 0,
    }
}

#[test]
fn a_lan_meshes_by_its_first_announces() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    settle(&mut nodes, START, true);
    for node in &nodes {
        assert_eq!(node.configured().len(), 2, "{}", node.mesh.settings.hostname);
    }
    let view = nodes[0].mesh.peer(&key(2)).unwrap();
    assert_eq!(view.endpoint, Some("192.0.2.2:51820".parse().unwrap()));
    assert!(view.discovered_via.contains(&"lan"), "{view:?}");
}

#[test]
fn a_seed_is_enough_and_its_peers_find_each_other() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    let seed = nodes[0].control();
    for node in &mut nodes {
        node.mesh.settings.lan = false;
        // A node may have itself as a seed.
        node.mesh.handle(Event::Seeds(vec![seed]), later(1));
    }
    for step in 1..40 {
        settle(&mut nodes, later(step * 250), false);
    }
    for node in &nodes {
        assert_eq!(node.names(later(10_000)).len(), 2, "{}", node.mesh.settings.hostname);
        assert_eq!(node.configured().len(), 2);
    }
}

#[test]
fn a_silent_peer_is_asked_and_then_dropped_but_a_handshake_keeps_it() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let hellos = |effects: &[Effect]| {
        effects.iter().filter(|e| matches!(e, Effect::Send { kind: Kind::Hello, .. })).count()
    };
    assert_eq!(hellos(&one.mesh.handle(Event::Tick, later(44_000))), 0);
    assert_eq!(hellos(&one.mesh.handle(Event::Tick, later(46_000))), 1);
    assert_eq!(hellos(&one.mesh.handle(Event::Tick, later(47_000))), 0);

    let live = [device_peer(two, Some(20_000))];
    one.mesh.handle(Event::Device(&live), later(290_000));
    one.mesh.handle(Event::Tick, later(400_000));
    assert_eq!(one.names(later(400_000)), ["node-2"]);
    let effects = one.mesh.handle(Event::Tick, later(575_000));
    assert!(effects.contains(&Effect::RemovePeer(two.key())), "{effects:?}");
    assert!(one.names(later(575_000)).is_empty());
    assert!(one.mesh.peer(&two.key()).is_some(), "still known, not active");
    one.mesh.handle(Event::Tick, later(875_000));
    assert!(one.mesh.peer(&two.key()).is_none());
}

#[test]
fn a_replayed_announce_from_elsewhere_moves_nothing() {
    let (mut one, mut two) = (Node::new(1, None), Node::new(2, None));
    let datagram = two.announce(START);
    one.hear(Path::Lan, two.control(), &datagram, START);
    let endpoint = Some("192.0.2.2:51820".parse().unwrap());
    assert_eq!(one.configured(), [(two.key(), endpoint)]);
    let attacker: SocketAddr = "192.0.2.66:4444".parse().unwrap();
    for path in [Path::Lan, Path::Exchange] {
        let effects = one.hear(path, attacker, &datagram, later(30_000));
        let quiet = |e: &Effect| matches!(e, Effect::Announce(_) | Effect::Probe { .. });
        assert!(effects.iter().all(quiet), "{effects:?}");
    }
    assert_eq!(one.configured(), [(two.key(), endpoint)]);
}

#[test]
fn a_hello_sent_twice_is_answered_twice_and_counts_once() {
    let (mut one, mut two) = (Node::new(1, None), Node::new(2, None));
    let Effect::Send { plaintext, .. } = two.mesh.hello(one.control(), START) else { panic!() };
    let datagram = two.seal(Kind::Hello, &plaintext);
    let reply = |effects: &[Effect]| {
        effects.iter().any(|e| matches!(e, Effect::Send { kind: Kind::Reply, .. }))
    };
    assert!(reply(&one.hear(Path::Exchange, two.control(), &datagram, START)));
    let again = one.hear(Path::Exchange, two.control(), &datagram, later(100));
    assert!(reply(&again));
    assert!(!again.iter().any(|e| matches!(e, Effect::PeersChanged)), "{again:?}");
}

#[test]
fn a_live_endpoint_is_protected_and_a_roamed_one_adopted() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let mut live = device_peer(two, Some(1_000));
    one.mesh.handle(Event::Device(std::slice::from_ref(&live)), later(1_000));
    two.ip = "192.0.2.99".parse().unwrap();
    let mut announce = || two.announce(later(2_000));
    let from: SocketAddr = "192.0.2.99:4000".parse().unwrap();
    let datagram = announce();
    let effects = one.hear(Path::Lan, from, &datagram, later(2_000));
    assert!(!effects.iter().any(|e| matches!(e, Effect::SetPeer(_))), "{effects:?}");

    live.endpoint = Some("192.0.2.99:51820".parse().unwrap());
    let effects = one.mesh.handle(Event::Device(&[live]), later(3_000));
    assert!(!effects.iter().any(|e| matches!(e, Effect::SetPeer(_))), "{effects:?}");
    assert_eq!(one.configured()[0].1, Some("192.0.2.99:51820".parse().unwrap()));

    let datagram = announce();
    let effects = one.hear(Path::Lan, two.control(), &datagram, later(200_000));
    assert!(!effects.iter().any(|e| matches!(e, Effect::RemovePeer(_))), "{effects:?}");
}

#[test]
fn no_endpoint_lies_inside_the_mesh() {
    let (mut one, mut two) = (Node::new(1, None), Node::new(2, None));
    let Effect::Send { plaintext, .. } = two.mesh.hello(one.control(), START) else { panic!() };
    let datagram = two.seal(Kind::Hello, &plaintext);
    let through_tunnel = SocketAddr::new(IpAddr::V4(two.mesh.mesh_ip()), 52448);
    one.hear(Path::Exchange, through_tunnel, &datagram, START);
    assert_eq!(one.configured(), [(two.key(), None)], "configured, to be reached by its handshake");
}

#[test]
fn a_goodbye_is_a_hint_that_an_answer_undoes() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let goodbye = serde_json::to_vec(&crate::message::Goodbye::new(two.key(), START.unix)).unwrap();
    let stranger: SocketAddr = "192.0.2.66:52448".parse().unwrap();
    let datagram = two.seal(Kind::Goodbye, &goodbye);
    assert_eq!(one.hear(Path::Exchange, stranger, &datagram, later(100)), []);

    let datagram = two.seal(Kind::Goodbye, &goodbye);
    let effects = one.hear(Path::Exchange, two.control(), &datagram, later(200));
    let Some(Effect::Send { to, kind: Kind::Hello, plaintext }) = effects.into_iter().next() else {
        panic!("who says goodbye is asked")
    };
    assert_eq!(to, two.control());
    let hello = one.seal(Kind::Hello, &plaintext);
    let from = one.control();
    for effect in two.hear(Path::Exchange, from, &hello, later(300)) {
        if let Effect::Send { kind, plaintext, .. } = effect {
            let answer = two.seal(kind, &plaintext);
            one.hear(Path::Exchange, two.control(), &answer, later(300));
        }
    }
    one.mesh.handle(Event::Tick, later(4_000));
    assert_eq!(one.names(later(4_000)), ["node-2"], "it answered, so it has not left");

    let datagram = two.seal(Kind::Goodbye, &goodbye);
    one.hear(Path::Exchange, two.control(), &datagram, later(5_000));
    let effects = one.mesh.handle(Event::Tick, later(7_100));
    assert!(effects.contains(&Effect::RemovePeer(two.key())), "{effects:?}");
    assert!(one.mesh.peer(&two.key()).is_none());
}

#[test]
fn the_larger_key_yields_a_contested_address() {
    // Two hosts in a /30: every address is one of two.
    let (subnet, mut numbers) = ("10.9.8.4/30", (1..250_u8).collect::<Vec<_>>());
    numbers.retain(|number| Node::new(*number, Some(subnet)).mesh.mesh_ip().octets()[3] == 5);
    let mut nodes: Vec<Node> =
        numbers[..2].iter().map(|number| Node::new(*number, Some(subnet))).collect();
    nodes.sort_by_key(Node::key);
    let contested = nodes[0].mesh.mesh_ip();
    assert_eq!(contested, nodes[1].mesh.mesh_ip());
    settle(&mut nodes, START, true);
    assert_eq!(nodes[0].mesh.mesh_ip(), contested);
    assert_eq!(nodes[1].mesh.mesh_ip(), Ipv4Addr::new(10, 9, 8, 6));
    settle(&mut nodes, later(200), true);
    assert_eq!(
        nodes[0].mesh.peer(&nodes[1].key()).unwrap().mesh_ip,
        Some("10.9.8.6".parse().unwrap())
    );
    assert_eq!((nodes[0].configured().len(), nodes[1].configured().len()), (1, 1));
}

#[test]
fn the_smaller_key_yields_to_one_that_never_moves() {
    let (mut one, mut other) = (Node::new(1, None), Node::new(2, None));
    if other.key() < one.key() {
        std::mem::swap(&mut one, &mut other);
    }
    other.mesh.ip = one.mesh.mesh_ip();
    let contested = one.mesh.mesh_ip();
    for ms in (0..40_000).step_by(5_000) {
        let datagram = other.announce(later(ms));
        one.hear(Path::Lan, other.control(), &datagram, later(ms));
        assert_eq!(one.mesh.mesh_ip() == contested, ms < 30_000, "after {ms} ms");
    }
}

#[test]
fn one_address_is_routed_to_one_peer_and_the_live_one_keeps_it() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    nodes[2].mesh.ip = nodes[1].mesh.mesh_ip();
    let contested = nodes[1].mesh.mesh_ip();
    let [one, two, three] = &mut nodes;
    for first_is_live in [true, false] {
        for node in [&mut *two, &mut *three] {
            let datagram = node.announce(later(1));
            one.hear(Path::Lan, node.control(), &datagram, later(1));
        }
        let owners: Vec<_> =
            one.mesh.configured.values().filter(|peer| peer.mesh_ip == contested).collect();
        assert_eq!(owners.len(), 1, "{owners:?}");
        if first_is_live {
            let loser = if owners[0].key == two.key() { &*three } else { &*two };
            assert_eq!(owners[0].key, two.key(), "who came first keeps it");
            let live = [DevicePeer { key: loser.key(), ..device_peer(loser, Some(5)) }];
            one.mesh.handle(Event::Device(&live), later(2));
            assert!(one.mesh.configured.contains_key(&loser.key()), "the live one has it now");
        }
    }
}

#[test]
fn a_restart_takes_over_what_was_heard_lately() {
    let other = Node::new(2, None);
    let cached = |age_secs: i64| CachedPeer {
        wg_pubkey: other.key(),
        hostname: "node-2".into(),
        mesh_ip: IpAddr::V4(other.mesh.mesh_ip()),
        mesh_ipv6: None,
        endpoint: Some("192.0.2.2:51820".parse().unwrap()),
        routable_networks: Vec::new(),
        last_seen: START.unix - age_secs,
        certificate: None,
    };
    let mut fresh = Node::with_cache(1, None, &[cached(20)]);
    let effects = fresh.mesh.handle(Event::Device(&[]), START);
    assert!(effects.iter().any(|e| matches!(e, Effect::SetPeer(_))), "{effects:?}");

    let mut old = Node::with_cache(1, None, &[cached(3_600)]);
    let effects = old.mesh.handle(Event::Device(&[]), START);
    assert!(!effects.iter().any(|e| matches!(e, Effect::SetPeer(_))), "{effects:?}");
    let hello = |effects: &[Effect]| {
        effects.iter().any(|e| matches!(e, Effect::Send { to, .. } if *to == other.control()))
    };
    assert!(hello(&effects), "an old peer is greeted: {effects:?}");

    let mut ancient = Node::with_cache(1, None, &[cached(100_000)]);
    assert!(!hello(&ancient.mesh.handle(Event::Tick, START)));
}

#[test]
fn a_kernel_device_is_taken_over_as_it_stands_and_drift_repaired() {
    let other = Node::new(2, None);
    let mut node = Node::new(1, None);
    let live = [device_peer(&other, Some(60_000))];
    let effects = node.mesh.handle(Event::Device(&live), START);
    let touched = |e: &Effect| matches!(e, Effect::SetPeer(_) | Effect::RemovePeer(_));
    assert!(!effects.iter().any(touched), "a live session is not touched: {effects:?}");
    let effects = node.mesh.handle(Event::Device(&[]), later(1_000));
    assert!(
        effects.iter().any(|e| matches!(e, Effect::SetPeer(_))),
        "removed by hand: {effects:?}"
    );
    let stranger = DevicePeer { key: key(9), handshake_age_ms: None, ..live[0].clone() };
    let effects = node.mesh.handle(Event::Device(&[stranger]), later(2_000));
    assert!(effects.contains(&Effect::RemovePeer(key(9))), "{effects:?}");
}

#[test]
fn every_datagram_fits_and_every_peer_is_told_of_in_turn() {
    let mut node = Node::new(1, None);
    let mut keys = std::collections::BTreeSet::new();
    for number in 2..60 {
        let mut other = Node::new(number, None);
        let datagram = other.announce(START);
        node.hear(Path::Lan, other.control(), &datagram, START);
        keys.insert(other.key().to_string());
    }
    for _ in 0..40 {
        let to = "192.0.2.2:1".parse().unwrap();
        let Effect::Send { kind, plaintext, .. } = node.mesh.hello(to, START) else { panic!() };
        assert!(envelope::sealed_len(kind, plaintext.len()) <= 1200);
        let hello: serde_json::Value = serde_json::from_slice(&plaintext).unwrap();
        for peer in hello["known_peers"].as_array().unwrap() {
            keys.remove(peer["wg_pubkey"].as_str().unwrap());
        }
    }
    assert!(keys.is_empty(), "never told of: {keys:?}");
}

#[test]
fn a_member_that_left_says_nothing_more() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let goodbyes = one.mesh.handle(Event::Leave, later(100));
    assert!(
        matches!(&goodbyes[..], [Effect::Send { to, kind: Kind::Goodbye, .. }] if *to == two.control()),
        "{goodbyes:?}"
    );
    assert_eq!(one.mesh.handle(Event::Tick, later(10_000)), []);
}

#[test]
fn a_peer_that_has_just_started_is_greeted_although_it_is_known() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let greets = |effects: &[Effect]| {
        effects.iter().any(|e| matches!(e, Effect::Send { kind: Kind::Hello, .. }))
    };
    let datagram = two.announce(later(6_000));
    assert!(!greets(&one.hear(Path::Lan, two.control(), &datagram, later(6_000))));
    two.mesh.settings.boot = 2;
    let datagram = two.announce(later(12_000));
    assert!(greets(&one.hear(Path::Lan, two.control(), &datagram, later(12_000))));
    // It starts again: too soon for its first announce, and not for the second.
    two.mesh.settings.boot = 3;
    let mut greeted = Vec::new();
    for ms in [12_100, 12_300, 12_600] {
        let datagram = two.announce(later(ms));
        greeted.push(greets(&one.hear(Path::Lan, two.control(), &datagram, later(ms))));
    }
    assert_eq!(greeted, [false, true, false]);
}

#[test]
fn a_silent_peer_is_probed_and_told_of_within_five_seconds() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let mut pending: Vec<u64> = Vec::new();
    let mut probes = 0;
    let mut told = None;
    // The first three seconds bring bytes, then the peer dies; probes find nobody.
    for ms in (0..12_000).step_by(100) {
        let seen = DevicePeer { rx_bytes: ms.min(3_000), ..device_peer(two, Some(1_000 + ms)) };
        let mut effects = one.mesh.handle(Event::Tick, later(ms));
        if ms % 1_000 == 0 {
            effects.extend(one.mesh.handle(Event::Device(&[seen]), later(ms)));
        }
        if let Some(index) = pending.iter().position(|began| began + PROBE_MAX_MS <= ms) {
            pending.remove(index);
            let silence = Event::Probed { key: two.key(), outcome: Probe::Silence };
            effects.extend(one.mesh.handle(silence, later(ms)));
        }
        for effect in effects {
            if let Effect::Probe { key, ip } = effect {
                assert_eq!((key, ip), (two.key(), two.mesh.mesh_ip()));
                pending.push(ms);
                probes += 1;
            }
        }
        if one.mesh.unheard_peers(later(ms)) == [two.key()] {
            told.get_or_insert(ms);
        }
    }
    let after = told.unwrap() - 3_000;
    assert!((3_400..5_000).contains(&after), "told after {after} ms");
    assert!(probes < 6, "{probes} probes");
    assert_eq!(one.names(later(12_000)), ["node-2"], "it stays a peer");

    let datagram = two.announce(later(12_500));
    one.hear(Path::Lan, two.control(), &datagram, later(12_500));
    assert_eq!(one.mesh.unheard_peers(later(12_500)), []);
}

#[test]
fn a_goodbye_is_undone_by_an_answer_through_the_tunnel() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    settle(&mut nodes, START, true);
    let [one, two] = &mut nodes;
    let goodbye = serde_json::to_vec(&crate::message::Goodbye::new(two.key(), START.unix)).unwrap();
    let datagram = two.seal(Kind::Goodbye, &goodbye);
    one.hear(Path::Exchange, two.control(), &datagram, later(100));
    let pong = || Event::Probed { key: two.key(), outcome: Probe::Pong { micros: 1_400 } };
    one.mesh.handle(pong(), later(200));
    assert!(one.mesh.peers.get(&two.key()).unwrap().leaving_since.is_some(), "it may be ending");
    let effects = one.mesh.handle(Event::Tick, later(900));
    assert!(effects.iter().any(|e| matches!(e, Effect::Probe { .. })), "{effects:?}");
    one.mesh.handle(pong(), later(950));
    one.mesh.handle(Event::Tick, later(5_000));
    assert_eq!(one.names(later(5_000)), ["node-2"]);
}

#[test]
fn gossip_goes_through_the_tunnel_with_an_endpoint_and_is_heard() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    nodes[0].mesh.settings.gossip = true;
    settle(&mut nodes[..2], START, true);
    let [one, two, three] = &mut nodes;
    // The third knows the first alone.
    let datagram = one.announce(later(100));
    three.hear(Path::Lan, one.control(), &datagram, later(100));
    let effects = one.mesh.handle(Event::Tick, later(10_000));
    let gossip = effects.into_iter().find_map(|effect| match effect {
        Effect::Send { to, kind: Kind::Announce, plaintext } => Some((to, plaintext)),
        Effect::Send { .. }
        | Effect::Announce(_)
        | Effect::SetPeer(_)
        | Effect::RemovePeer(_)
        | Effect::Probe { .. }
        | Effect::Routes(_)
        | Effect::MoveAddress(_)
        | Effect::PeersChanged
        | Effect::RevocationsChanged
        | Effect::SecretRotated
        | Effect::Report(_) => None,
    });
    let (to, plaintext) = gossip.unwrap();
    assert_eq!(to.ip(), IpAddr::V4(two.mesh.mesh_ip()));
    let bytes = one.seal(Kind::Announce, &plaintext);
    let from = SocketAddr::new(IpAddr::V4(one.mesh.mesh_ip()), 52_448);
    let effects = three.hear(Path::Exchange, from, &bytes, later(10_000));
    let control = two.control();
    assert!(
        effects.iter().any(|e| matches!(e, Effect::Send { to, .. } if *to == control)),
        "the second is told of, and greeted: {effects:?}"
    );
    let view = three.mesh.peer(&one.key()).unwrap();
    assert!(view.discovered_via.contains(&"gossip"), "{view:?}");
    assert_eq!(view.endpoint, Some("192.0.2.1:51820".parse().unwrap()));
}

#[test]
fn two_hundred_idle_peers_cost_a_bounded_number_of_messages_and_probes() {
    let mut node = Node::new(1, None);
    let keys = node.mesh.settings.keys.clone();
    let mut others: Vec<Node> = (0..200_u16)
        .map(|number| {
            let mut other = Node::new(2, None);
            let mut bytes = [9; 32];
            bytes[8..10].copy_from_slice(&number.to_be_bytes());
            other.mesh.settings.public_key = PrivateKey::from_random(bytes).public();
            let number = u32::from(number) + 256;
            let net = u32::from(other.mesh.settings.subnet.net().network());
            other.mesh.ip = Ipv4Addr::from(net + number);
            other.ip = Ipv4Addr::from(0xc612_0000 + number).into();
            other
        })
        .collect();
    node.mesh.ip = Ipv4Addr::from(u32::from(node.mesh.ip) | 0xf000);
    let (mut sent, mut probes) = (0, 0);
    for ms in (0..15_000_u64).step_by(100) {
        let now = later(ms);
        let mut effects = node.mesh.handle(Event::Tick, now);
        // Each announces every five seconds.
        for index in (usize::try_from(ms / 100).unwrap() % 50..200).step_by(50) {
            let from = SocketAddr::new(others[index].ip, keys.gossip_port);
            let datagram = others[index].announce(now);
            effects.extend(node.hear(Path::Lan, from, &datagram, now));
        }
        if ms % 1_000 == 0 {
            let seen: Vec<DevicePeer> =
                others.iter().map(|other| device_peer(other, Some(ms % 120_000))).collect();
            effects.extend(node.mesh.handle(Event::Device(&seen), now));
        }
        for effect in effects {
            if let Effect::Probe { key, .. } = effect {
                probes += 1;
                let pong = Event::Probed { key, outcome: Probe::Pong { micros: 1_400 } };
                node.mesh.handle(pong, now);
            } else if matches!(effect, Effect::Send { .. } | Effect::Announce(_)) {
                sent += 1;
            }
        }
    }
    assert_eq!(node.configured().len(), 200);
    assert_eq!(node.mesh.unheard_peers(later(15_000)), []);
    // One HELLO for each as it is found on the device, one as it speaks; an announce a second at most.
    assert!(sent <= 2 * 200 + 15, "{sent} datagrams in 15 s");
    // One for its latency, and one between two of its announces.
    assert!(probes <= 4 * 200, "{probes} probes in 15 s");
}
