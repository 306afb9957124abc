//! What a START or an OFFER may make a node do, whoever sends it.

use super::*;
use crate::message::rendezvous::{Offer, Start};

/// A client, its introducer and a member that is none; the target is heard of alone.
struct Scene {
    client: Node,
    introducer: Node,
    member: Node,
    target: Node,
}

fn scene() -> Scene {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    nodes[1].mesh.settings.introducer = true;
    settle(&mut nodes, START, true);
    let [client, introducer, member] = nodes;
    Scene { client, introducer, member, target: Node::new(4, None) }
}

fn addresses(count: u16) -> Vec<SocketAddr> {
    (1..=count).map(|port| SocketAddr::from(([198, 51, 100, 9], port))).collect()
}

fn start(to: &Node, peer: &Node, candidates: Vec<SocketAddr>, ahead_ms: i64) -> Vec<u8> {
    let keys = (to.key(), peer.key(), to.key());
    let times = (START.unix, START.unix * 1000 + ahead_ms);
    serde_json::to_vec(&Start::new(keys, candidates, times, None)).unwrap()
}

/// How many HELLOs go where in the twelve seconds after a START.
fn punched(scene: &mut Scene, from: SocketAddr, starts: &[Vec<u8>]) -> Vec<SocketAddr> {
    for plaintext in starts {
        let datagram = scene.introducer.seal(Kind::Start, plaintext);
        scene.client.hear(Path::Exchange, from, &datagram, later(10));
    }
    let mut hellos = Vec::new();
    for ms in (100..12_000).step_by(100) {
        for effect in scene.client.mesh.handle(Event::Tick, later(ms)) {
            if let Effect::Send { to, kind: Kind::Hello, .. } = effect
                && to.ip() != scene.introducer.ip
                && to.ip() != scene.member.ip
            {
                hellos.push(to);
            }
        }
    }
    hellos
}

#[test]
fn only_an_introducer_that_is_known_is_followed() {
    let sources = {
        let scene = scene();
        [
            (scene.introducer.control(), true),
            (SocketAddr::new(IpAddr::V4(scene.introducer.mesh.mesh_ip()), 52_448), true),
            (scene.member.control(), false),
            ("192.0.2.66:52448".parse().unwrap(), false),
        ]
    };
    for (from, is_followed) in sources {
        let mut scene = scene();
        let plaintext = start(&scene.client, &scene.target, addresses(1), 1_800);
        let hellos = punched(&mut scene, from, &[plaintext]);
        assert_eq!(!hellos.is_empty(), is_followed, "{from}: {hellos:?}");
    }
    let mut scene = scene();
    scene.client.mesh.settings.no_punching = true;
    let plaintext = start(&scene.client, &scene.target, addresses(1), 1_800);
    let from = scene.introducer.control();
    assert_eq!(punched(&mut scene, from, &[plaintext]), [], "--no-punching");
}

#[test]
fn a_start_aims_nobody_at_many_hosts_for_long_or_at_the_mesh() {
    let mut scene = scene();
    let from = scene.introducer.control();
    let far = start(&scene.client, &scene.target, addresses(1), 8_000);
    assert_eq!(punched(&mut scene, from, &[far]), [], "too far ahead");

    let mut scene = self::scene();
    let inside = SocketAddr::new(IpAddr::V4(scene.member.mesh.mesh_ip()), 52_448);
    let candidates: Vec<SocketAddr> =
        vec![inside, "127.0.0.1:22".parse().unwrap(), "239.1.2.3:9".parse().unwrap()];
    let bad = start(&scene.client, &scene.target, candidates, 0);
    assert_eq!(punched(&mut scene, from, &[bad]), [], "nothing that is no underlay");

    let mut scene = self::scene();
    let many: Vec<Vec<u8>> = (10..250)
        .map(|number| start(&scene.client, &Node::new(number, None), addresses(100), 0))
        .collect();
    let hellos = punched(&mut scene, from, &many);
    let hosts: std::collections::BTreeSet<_> = hellos.iter().collect();
    assert!(hosts.len() <= 8, "{hosts:?}");
    assert!(hellos.len() <= 16 + 12 * 20, "{} HELLOs in twelve seconds", hellos.len());
}

#[test]
fn an_offer_moves_an_introducer_alone_and_for_members_alone() {
    let Scene { mut client, mut introducer, mut member, target } = scene();
    let offer = |from: &Node, to: &Node| {
        serde_json::to_vec(&Offer::new(from.key(), to.key(), None, START.unix)).unwrap()
    };
    let starts = |effects: &[Effect]| -> Vec<SocketAddr> {
        let mut starts = Vec::new();
        for effect in effects {
            if let Effect::Send { to, kind: Kind::Start, .. } = effect {
                starts.push(*to);
            }
        }
        starts
    };
    let from = client.control();
    let mut heard = |node: &mut Node, plaintext: &[u8], ms: u64| {
        let datagram = client.seal(Kind::Offer, plaintext);
        starts(&node.hear(Path::Exchange, from, &datagram, later(ms)))
    };
    let sound = offer(&Node::new(1, None), &member);
    assert_eq!(heard(&mut member, &sound, 10), [], "no introducer");
    assert_eq!(heard(&mut introducer, &sound, 20), [from, member.control()]);
    assert_eq!(heard(&mut introducer, &sound, 5_000), [], "once in eight seconds");
    assert_eq!(heard(&mut introducer, &sound, 9_000).len(), 2);
    let unknown = offer(&Node::new(1, None), &target);
    assert_eq!(heard(&mut introducer, &unknown, 9_100), [], "nobody knows the target");
    let stranger = offer(&target, &member);
    assert_eq!(heard(&mut introducer, &stranger, 9_200), [], "nor the one that asks");
}
