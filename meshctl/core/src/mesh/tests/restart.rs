//! What a run begins with: the peers and the device that an earlier one left.

use super::*;

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
