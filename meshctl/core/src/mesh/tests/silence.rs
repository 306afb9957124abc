//! Peers that fall silent, and peers that say goodbye.

use super::*;

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
