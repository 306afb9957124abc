//! How nodes meet, and what that costs.

use super::*;

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
