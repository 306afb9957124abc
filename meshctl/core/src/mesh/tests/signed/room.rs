//! What fits a signed message, and what has its turn.

use super::*;

#[test]
fn every_signed_datagram_fits_an_unfragmented_packet() {
    let terms = Terms {
        key: key(1),
        name: "n".repeat(63),
        not_before: START.unix,
        expires: START.unix + DAY_SECS,
        serial: u64::MAX,
    };
    let own = Certificate::sign(&authority(), terms).unwrap();
    let mut trust = trust(1, true, Some(own));
    let revoked = (50..60).map(|number| Revocation::sign(&authority(), key(number), START.unix));
    trust.revocations = revoked.collect();
    let mut one = node(1, trust, &[]);
    one.mesh.settings.hostname = "h".repeat(253);
    for number in 2..12 {
        let mut other = member(number);
        let datagram = other.announce(START);
        one.hear(Path::Lan, other.control(), &datagram, START);
    }
    let to = SocketAddr::from(([192, 0, 2, 2], 52448));
    let said = [
        (Kind::Announce, one.mesh.announce(START)),
        (Kind::Hello, one.mesh.hello(to, START)),
        (Kind::Reply, one.mesh.reply(to, START)),
    ];
    for (kind, effect) in said {
        let len = sealed_len(kind, plaintext(effect).len());
        assert!(len <= 1_200, "{kind:?}: {len}");
    }
}

#[test]
fn every_revocation_has_its_turn() {
    let mut trust = trust(1, true, None);
    let revoked = (50..61).map(|number| Revocation::sign(&authority(), key(number), START.unix));
    trust.revocations = revoked.collect();
    let one = node(1, trust, &[]);
    let mut told = std::collections::BTreeSet::new();
    for turn in 0..11 {
        let text = String::from_utf8(plaintext(one.mesh.announce(later(turn * 5_000)))).unwrap();
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        for text in body["kn"]["revoked"].as_array().unwrap() {
            told.insert(text.as_str().unwrap().to_owned());
        }
    }
    assert_eq!(told.len(), 11);
}

#[test]
fn as_many_routes_as_are_said_to_fit_do() {
    let net =
        |at: usize| -> IpNet { format!("10.{}.{}.0/24", 100 + at / 100, at).parse().unwrap() };
    let own = certificate(&authority(), 1, START.unix + DAY_SECS);
    for (own, introducer, range) in [
        (None, false, 20..=24),
        (None, true, 8..=12),
        (Some(own.clone()), false, 5..=7),
        (Some(own), true, 0..=0),
    ] {
        let settings = |count: usize| {
            let mut settings = Node::new(1, None).mesh.settings;
            settings.trust = trust(1, false, own.clone());
            settings.introducer = introducer;
            settings.relays_ipv6 = introducer;
            settings.ipv6 = Some("fd74:d276:7b07:cdc9:ffff:ffff:ffff:ffff".parse().unwrap());
            settings.routes = (100..100 + count).map(net).collect();
            settings
        };
        let fit = Mesh::new(settings(60), None, &[], START).routes_that_fit();
        assert!(range.contains(&fit), "{fit}, introducer: {introducer}");
        let mut mesh = Mesh::new(settings(fit), None, &[], START);
        assert_eq!(mesh.routes_that_fit(), fit);
        mesh.handle(Event::Ipv6(true), START);
        let v6 = SocketAddr::from(([0xfd00, 1, 2, 3, 0xffff, 0xffff, 0xffff, 0xffff], 65_535));
        for (kind, effect) in [
            (Kind::Announce, mesh.announce(START)),
            (Kind::Hello, mesh.hello(v6, START)),
            (Kind::Reply, mesh.reply(v6, START)),
        ] {
            let len = sealed_len(kind, plaintext(effect).len());
            assert!(len <= 1_200, "{kind:?} of {fit} routes: {len}");
        }
    }
}
