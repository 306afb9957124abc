//! The secret changes under a running mesh.

use super::*;
use crate::derive::Pin;

const GRACE_SECS: i64 = 3_600;

fn old() -> Secret {
    Secret::parse("a secret of the tests only").unwrap()
}

fn new() -> Secret {
    let pin = Pin::of(&MeshKeys::derive(&old()));
    Secret::parse("the secret that follows it").unwrap().pinned(pin)
}

fn successor() -> Box<Successor> {
    Box::new(Successor { keys: MeshKeys::derive(&new()), until: START.unix + GRACE_SECS })
}

/// One that came later, with nothing but the new secret.
fn newcomer(number: u8) -> Node {
    let mut node = Node::new(number, None);
    let keys = MeshKeys::derive(&new());
    let settings = Settings { subnet: keys.default_subnet(), keys, ..node.mesh.settings.clone() };
    node.mesh = Mesh::new(settings, None, &[], START);
    node
}

/// Delivers all that is said at `now`, sealed as the speaker seals it.
fn talk(nodes: &mut [Node], first: Vec<(usize, Effect)>, now: Now) -> Vec<(usize, Effect)> {
    let mut done = Vec::new();
    let mut queue = first;
    for (index, node) in nodes.iter_mut().enumerate() {
        queue.extend(node.mesh.handle(Event::Tick, now).into_iter().map(|effect| (index, effect)));
    }
    for _ in 0..10_000 {
        let Some((sender, effect)) = queue.pop() else { return done };
        let (path, to, kind, plaintext) = match &effect {
            Effect::Announce(plaintext) => (Path::Lan, None, Kind::Announce, plaintext.clone()),
            Effect::Send { to, kind, plaintext } => {
                (Path::Exchange, Some(*to), *kind, plaintext.clone())
            }
            Effect::SetPeer(_)
            | Effect::RemovePeer(_)
            | Effect::MoveAddress(_)
            | Effect::Probe { .. }
            | Effect::Routes(_)
            | Effect::PeersChanged
            | Effect::RevocationsChanged
            | Effect::SecretRotated
            | Effect::Report(_) => {
                done.push((sender, effect));
                continue;
            }
        };
        let from = nodes[sender].control();
        for key in nodes[sender].mesh.sealing_keys(to) {
            nodes[sender].nonces += 1;
            let mut nonce = [0; 12];
            nonce[..4].copy_from_slice(&nodes[sender].key().to_bytes()[..4]);
            nonce[4..].copy_from_slice(&nodes[sender].nonces.to_be_bytes());
            let bytes = envelope::seal(&key, nonce, kind, &plaintext);
            for (index, node) in nodes.iter_mut().enumerate() {
                if to.is_none_or(|to| to == node.control()) {
                    let effects = node.hear(path, from, &bytes, now);
                    queue.extend(effects.into_iter().map(|effect| (index, effect)));
                }
            }
        }
    }
    panic!("the nodes never stop talking");
}

fn rotate(nodes: &mut [Node], index: usize, now: Now) -> Vec<(usize, Effect)> {
    let effects = nodes[index].mesh.handle(Event::Rotate(successor()), now);
    talk(nodes, effects.into_iter().map(|effect| (index, effect)).collect(), now)
}

fn removed(effects: &[(usize, Effect)]) -> usize {
    effects.iter().filter(|(_, effect)| matches!(effect, Effect::RemovePeer(_))).count()
}

/// Who has which preshared key on its device with whom.
fn psks(nodes: &[Node]) -> Vec<Vec<bool>> {
    let new = MeshKeys::derive(&new()).psk;
    let row = |node: &Node| {
        node.mesh.configured.values().map(|peer| *peer.psk.expose() == *new).collect()
    };
    nodes.iter().map(row).collect()
}

#[test]
fn three_nodes_change_their_secret_one_by_one_and_stay_a_mesh() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    talk(&mut nodes, Vec::new(), START);
    let addresses: Vec<Ipv4Addr> = nodes.iter().map(|node| node.mesh.mesh_ip()).collect();
    for step in 0..3_u64 {
        let index = usize::try_from(step).unwrap();
        assert_eq!(removed(&rotate(&mut nodes, index, later(1_000 + step * 10_000))), 0);
        assert_eq!(removed(&talk(&mut nodes, Vec::new(), later(7_000 + step * 10_000))), 0);
        for (at, node) in nodes.iter().enumerate() {
            assert_eq!(node.configured().len(), 2);
            for (with, other) in nodes.iter().enumerate().filter(|(with, _)| *with != at) {
                let both = at <= index && with <= index;
                assert_eq!(node.mesh.has_accepted(&other.key()), both, "{at} of {with}");
                // Two that speak agree on the preshared key.
                assert_eq!(node.mesh.psk_with(&other.key()), other.mesh.psk_with(&node.key()));
            }
        }
    }
    assert_eq!(psks(&nodes), [[true; 2]; 3]);
    assert_eq!(nodes[0].mesh.sealing_keys(None).len(), 1, "nobody needs the old one");
    let end = later(u64::try_from(GRACE_SECS).unwrap() * 1_000);
    for node in &mut nodes {
        // They were heard all the time.
        let keys: Vec<PublicKey> = node.mesh.configured.keys().copied().collect();
        for key in keys {
            node.mesh.peers.get_mut(&key).unwrap().heard(end);
        }
    }
    let done = talk(&mut nodes, Vec::new(), end);
    assert_eq!(removed(&done), 0);
    let rotated = |effect: &&(usize, Effect)| effect.1 == Effect::SecretRotated;
    assert_eq!(done.iter().filter(rotated).count(), 3);
    for (node, address) in nodes.iter().zip(addresses) {
        assert_eq!((node.mesh.mesh_ip(), node.configured().len()), (address, 2));
        assert!(
            node.mesh.settings.keys.secret.same_text(&new()) && node.mesh.successor().is_none()
        );
    }
    let mut late = Node::new(9, None);
    let datagram = late.announce(end);
    assert!(
        !nodes[0].hear(Path::Lan, late.control(), &datagram, end).contains(&Effect::PeersChanged)
    );
}

#[test]
fn a_newcomer_and_one_left_behind_are_both_in_the_mesh_until_the_grace_ends() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), newcomer(3)];
    talk(&mut nodes[..2], Vec::new(), START);
    rotate(&mut nodes, 0, later(1_000));
    talk(&mut nodes, Vec::new(), later(8_000));
    assert_eq!(nodes[0].configured().len(), 2, "the first has both secrets");
    assert_eq!(nodes[2].configured().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(1)]);
    assert_eq!(nodes[0].mesh.psk_with(&key(3)), nodes[2].mesh.psk_with(&key(1)));
    assert_eq!(nodes[0].mesh.psk_with(&key(2)), nodes[1].mesh.psk_with(&key(1)));
    let behind = nodes[0].mesh.left_behind(later(8_000));
    assert_eq!(behind, [(key(2), "node-2".to_owned())]);

    let end = later(u64::try_from(GRACE_SECS).unwrap() * 1_000);
    for number in [2, 3] {
        nodes[0].mesh.peers.get_mut(&key(number)).unwrap().heard(end);
    }
    let effects = nodes[0].mesh.handle(Event::Tick, end);
    assert!(effects.contains(&Effect::RemovePeer(key(2))), "{effects:?}");
    let is_told = |effect: &Effect| matches!(effect, Effect::Report(Report::LeftBehind { .. }));
    assert!(effects.iter().any(is_told), "{effects:?}");
    assert_eq!(nodes[0].configured().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(3)]);
}

#[test]
fn without_a_lan_one_exchange_is_enough() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    let seed = nodes[0].control();
    for node in &mut nodes {
        node.mesh.settings.lan = false;
        node.mesh.handle(Event::Seeds(vec![seed]), later(1));
    }
    for step in 1..8 {
        talk(&mut nodes, Vec::new(), later(step * 250));
    }
    rotate(&mut nodes, 0, later(3_000));
    assert_eq!(psks(&nodes), [[false], [false]]);
    rotate(&mut nodes, 1, later(9_000));
    assert_eq!(psks(&nodes), [[true], [true]], "both at once");
}

#[test]
fn who_goes_back_to_the_old_secret_is_spoken_to_by_it() {
    let mut nodes = [Node::new(1, None), Node::new(2, None)];
    talk(&mut nodes, Vec::new(), START);
    rotate(&mut nodes, 0, later(1_000));
    rotate(&mut nodes, 1, later(2_000));
    assert_eq!(psks(&nodes), [[true], [true]]);
    nodes[1] = Node::new(2, None);
    nodes[1].nonces = 1_000;
    talk(&mut nodes, Vec::new(), later(8_000));
    assert_eq!(psks(&nodes), [[false], [false]]);
    assert_eq!(nodes[0].mesh.left_behind(later(8_000)).len(), 1);
}

#[test]
fn only_a_new_secret_of_the_same_mesh_follows() {
    let mut node = Node::new(1, None);
    assert_eq!(node.mesh.may_rotate(&old()), Err(RotationRefusal::Same));
    let stray = Secret::parse("the secret that follows it").unwrap();
    assert_eq!(node.mesh.may_rotate(&stray), Err(RotationRefusal::OtherMesh));
    assert_eq!(node.mesh.may_rotate(&new()), Ok(()));
    let foreign = Successor { keys: MeshKeys::derive(&stray), until: i64::MAX };
    node.mesh.handle(Event::Rotate(Box::new(foreign)), START);
    assert!(node.mesh.successor().is_none());
    node.mesh.handle(Event::Rotate(successor()), START);
    assert_eq!(node.mesh.may_rotate(&new()), Err(RotationRefusal::Same));
    let third = Secret::parse("yet another secret").unwrap().pinned(new().pin().unwrap());
    assert_eq!(node.mesh.may_rotate(&third), Err(RotationRefusal::UnderWay));
}

#[test]
fn a_restart_in_the_middle_goes_on_and_sets_every_preshared_key_anew() {
    let two = Node::new(2, None);
    let one = Node::new(1, None);
    let settings = Settings { successor: Some(*successor()), ..one.mesh.settings.clone() };
    let cached = CachedPeer {
        wg_pubkey: key(2),
        hostname: "node-2".into(),
        mesh_ip: IpAddr::V4(two.mesh.mesh_ip()),
        mesh_ipv6: None,
        endpoint: None,
        routable_networks: Vec::new(),
        last_seen: START.unix - 10,
        certificate: None,
    };
    let mut again = Mesh::new(settings, None, &[cached], START);
    let left = [device_peer(&two, Some(1_000))];
    let effects = again.handle(Event::Device(&left), later(10));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::SetPeer(_))), "{effects:?}");
    let effects = again.handle(Event::Device(&left), later(1_010));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SetPeer(_))), "{effects:?}");
}

/// The old secret may be changed because somebody has it who should not.
#[test]
fn who_has_only_the_old_secret_takes_nobody_back_to_it() {
    let mut nodes = [Node::new(1, None), Node::new(2, None), Node::new(3, None)];
    talk(&mut nodes[..2], Vec::new(), START);
    let seen = [device_peer(&nodes[1], Some(10))];
    nodes[0].mesh.handle(Event::Device(&seen), later(500));
    let before = nodes[1].mesh.announce(later(900));
    rotate(&mut nodes[..2], 0, later(1_000));
    rotate(&mut nodes[..2], 1, later(2_000));
    assert!(nodes[0].mesh.has_accepted(&key(2)));
    let Effect::Announce(plaintext) = before else { panic!() };
    let forged = nodes[2].seal(Kind::Announce, &plaintext);
    let from = nodes[2].control();
    nodes[0].hear(Path::Lan, from, &forged, later(3_000));
    assert!(nodes[0].mesh.has_accepted(&key(2)), "its tunnel stands by the new secret");
}

#[test]
fn names_without_a_place_among_the_peers_are_not_kept() {
    let mut node = Node::new(1, None);
    node.mesh.handle(Event::Rotate(successor()), START);
    for number in 2..=60_u8 {
        let mut other = newcomer(number);
        let datagram = other.announce(later(1));
        node.hear(Path::Lan, other.control(), &datagram, later(1));
    }
    assert!(node.mesh.has_accepted(&key(60)));
    // They fall silent, and the grace is still on.
    node.mesh.handle(Event::Tick, later(700_000));
    assert!(node.mesh.peer(&key(60)).is_none() && !node.mesh.has_accepted(&key(60)));
}
