//! Members of a mesh that requires to be one, who never hear each other.

use super::super::signed::{DAY_SECS, authority, certificate, member, node, trust};
use super::*;
use crate::authority::{AuthoritySecret, Certificate, Revocation, Terms};
use crate::message::rendezvous::{Start, StartExtension, read_start};
use crate::message::{KnownExtension, KnownPeer, read_announcement};

const INTRODUCER: usize = 3;

/// Two clients that cannot reach each other, the ninth node that says nothing, and an introducer.
fn apart(second: Node) -> World {
    let mut world = World::of(vec![member(1), second, Node::new(9, None), member(3)], 3);
    world.block(0, 1);
    world.dead.insert(2);
    world
}

#[test]
fn members_that_never_heard_each_other_are_relayed() {
    for symmetric in [false, true] {
        let mut world = apart(member(2));
        if symmetric {
            for node in &mut world.nodes[..2] {
                node.mesh.nat_type = Some(NatType::Symmetric);
            }
        }
        world.live(if symmetric { 6 } else { 15 });
        assert_eq!(
            (world.relay_of(0, 1), world.relay_of(1, 0)),
            (Some(INTRODUCER), Some(INTRODUCER))
        );
        assert!(world.pings(0, 1) && world.pings(1, 0));
        let peer = world.nodes[0].mesh.peer(&world.nodes[1].key()).unwrap();
        assert_eq!(peer.standing.unwrap().unwrap().terms.name, "member-2");
        assert_eq!(peer.hostname, "node-2");
        world.live(900);
        assert!(world.pings(0, 1), "after a quarter of an hour");
        assert_eq!(world.changes.len(), 1, "{:?}", world.changes);
        assert_eq!(world.nodes[0].mesh.counters().found.get("dht-transitive"), Some(&1));
    }
}

#[test]
fn without_punching_they_are_relayed_too() {
    let mut world = apart(member(2));
    for node in &mut world.nodes {
        node.mesh.settings.no_punching = true;
    }
    // One that came first hears of the other at its next HELLO.
    world.live(60);
    assert!(world.pings(0, 1) && world.pings(1, 0));
}

#[test]
fn who_is_revoked_or_expires_is_relayed_no_longer() {
    let mut world = apart(member(2));
    world.live(15);
    assert!(world.pings(0, 1));
    let revocation = Revocation::sign(&authority(), key(2), START.unix);
    let now = world.now();
    // The introducer hears of it and tells.
    let effects = world.nodes[INTRODUCER].mesh.handle(Event::Revoked(Box::new(revocation)), now);
    world.perform(INTRODUCER, effects);
    world.live(60);
    assert!(world.nodes[0].mesh.peer(&key(2)).is_none());
    assert!(!world.pings(0, 1));

    let short = certificate(&authority(), 2, START.unix + 40);
    let mut world = apart(node(2, trust(2, true, Some(short)), &[]));
    world.live(20);
    assert!(world.pings(0, 1));
    world.live(60);
    assert!(world.nodes[0].mesh.peer(&key(2)).is_none());
    assert!(!world.devices[0].contains_key(&key(2)));
}

/// An introducer is a member, and may lie about others all the same.
#[test]
fn no_introducer_makes_a_peer_of_one_that_is_no_member() {
    let tomorrow = START.unix + DAY_SECS;
    let other = AuthoritySecret::from_random(&[201; 32]);
    let sound = certificate(&authority(), 9, tomorrow);
    let mut forged = sound.text().to_owned();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    let early = Terms { not_before: tomorrow, expires: tomorrow + 10, ..sound.terms().clone() };
    let early = Certificate::sign(&authority(), early).unwrap();
    for (case, text, is_let_in) in [
        ("none", None, false),
        ("forged", Some(forged), false),
        ("not one at all", Some("x".repeat(5_000)), false),
        ("of another authority", Some(certificate(&other, 9, tomorrow).text().to_owned()), false),
        ("of another key", Some(certificate(&authority(), 8, tomorrow).text().to_owned()), false),
        ("expired", Some(certificate(&authority(), 9, START.unix + 5).text().to_owned()), false),
        ("not yet", Some(early.text().to_owned()), false),
        ("sound", Some(sound.text().to_owned()), true),
    ] {
        let mut world = apart(member(2));
        world.live(6);
        tell(&mut world, text);
        world.live(20);
        let peer = world.nodes[0].mesh.peer(&key(9));
        assert_eq!(peer.is_some(), is_let_in, "{case}: {peer:?}");
        assert_eq!(world.devices[0].contains_key(&key(9)), is_let_in, "{case}");
        assert_eq!(peer.and_then(|peer| peer.endpoint), None, "{case}");
    }
    let mut world = apart(member(2));
    world.live(6);
    let revocation = Revocation::sign(&authority(), key(9), START.unix);
    let now = world.now();
    world.nodes[0].mesh.handle(Event::Revoked(Box::new(revocation)), now);
    tell(&mut world, Some(sound.text().to_owned()));
    world.live(20);
    assert!(world.nodes[0].mesh.peer(&key(9)).is_none(), "revoked");
}

/// The introducer tells the first node of the ninth, with this certificate.
fn tell(world: &mut World, certificate: Option<String>) {
    let now = world.now();
    let told = KnownPeer {
        wg_pubkey: key(9),
        hostname: "node-9".to_owned(),
        mesh_ip: Node::new(9, None).mesh.mesh_ip().to_string(),
        mesh_ipv6: None,
        wg_endpoint: "198.51.100.9:51820".to_owned(),
        introducer: false,
        nat_type: None,
        kn: Some(KnownExtension { live: true, ours: true, certificate }),
    };
    let extension = StartExtension { peer: Some(told), relay: None };
    let keys = (key(1), key(9), key(3));
    let times = (now.unix, now.unix * 1000);
    let start = Start::new(keys, Vec::new(), times, Some(extension));
    let plaintext = world.nodes[INTRODUCER].mesh.word(&start);
    let to = world.nodes[0].control();
    world.send(INTRODUCER, to, Kind::Start, &plaintext);
}

/// A later mention without it, or with a bad one, takes no certificate back.
#[test]
fn a_certificate_that_counted_is_not_displaced() {
    let mut world = apart(member(2));
    world.live(6);
    let sound = certificate(&authority(), 9, START.unix + DAY_SECS).text().to_owned();
    tell(&mut world, Some(sound));
    tell(&mut world, Some("rubbish".to_owned()));
    tell(&mut world, None);
    world.live(20);
    assert!(world.nodes[0].mesh.peer(&key(9)).is_some());
}

#[test]
fn the_longest_certificate_is_told_in_an_unfragmented_packet() {
    let terms = Terms {
        key: key(2),
        name: "n".repeat(63),
        not_before: START.unix,
        expires: START.unix + DAY_SECS,
        serial: u64::MAX,
    };
    let own = Certificate::sign(&authority(), terms).unwrap();
    let mut second = node(2, trust(2, true, Some(own.clone())), &[]);
    second.mesh.settings.hostname = "h".repeat(253);
    second.mesh.settings.ipv6 = Some("fd74:d276:7b07:cdc9:ffff:ffff:ffff:ffff".parse().unwrap());
    let mut world = apart(second);
    world.live(6);
    let now = world.now();
    let to = world.nodes[0].control();
    let offer = crate::message::rendezvous::Offer::for_certificate(key(1), key(2), now.unix);
    let offer = world.nodes[0].mesh.word(&offer);
    let datagram = world.nodes[0].seal(Kind::Offer, &offer);
    let answer = world.nodes[INTRODUCER].hear(Path::Exchange, to, &datagram, now);
    let Some(Effect::Send { kind: Kind::Start, plaintext, .. }) = answer.first() else {
        panic!("{answer:?}")
    };
    assert!(envelope::sealed_len(Kind::Start, plaintext.len()) <= 1200);
    let body = serde_json::from_slice(plaintext).unwrap();
    let told = read_start(&body, &key(1)).unwrap().told.unwrap();
    assert_eq!(told.certificate.as_deref(), Some(own.text()));
    assert!(read_announcement(&body).is_none(), "it is nothing else");
}

#[test]
fn many_members_out_of_reach_all_get_their_certificates() {
    let mut world = World::of((1..=13).map(member).collect(), 12);
    for one in 0..12 {
        for other in one + 1..12 {
            world.block(one, other);
        }
    }
    world.live(60);
    let pairs = (0..12).flat_map(|one| (one + 1..12).map(move |other| (one, other)));
    let lost: Vec<_> =
        pairs.filter(|(one, other)| world.relay_of(*one, *other).is_none()).collect();
    assert!(lost.is_empty(), "not relayed after a minute: {lost:?}");
}

/// A signed REPLY has little room: the longest host name must not fill it.
#[test]
fn a_signed_introducer_tells_of_those_with_long_names_too() {
    let mut nodes: Vec<Node> = (1..=4).map(member).collect();
    for node in &mut nodes {
        node.mesh.settings.hostname = "h".repeat(64);
    }
    let mut world = World::of(nodes, 3);
    world.live(10);
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        assert!(world.pings(one, other), "{one} and {other}");
    }
}
