//! Where a peer is, by what was said and by what was seen.

use super::*;

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
