//! Members that an authority signed, among holders of the secret whom none did.

mod rendezvous;
mod room;

use std::sync::Arc;

use super::*;
use crate::authority::{AuthoritySecret, Certificate, Revocation, Terms};
use crate::envelope::sealed_len;
use crate::signature::Signer;

pub(super) const DAY_SECS: i64 = 86_400;

pub(super) fn authority() -> AuthoritySecret {
    AuthoritySecret::from_random(&[200; 32])
}

pub(super) fn certificate(by: &AuthoritySecret, number: u8, expires: i64) -> Certificate {
    let name = format!("member-{number}");
    let not_before = START.unix - 1_000;
    let terms = Terms { key: key(number), name, not_before, expires, serial: 1 };
    Certificate::sign(by, terms).unwrap()
}

pub(super) fn trust(number: u8, required: bool, certificate: Option<Certificate>) -> Trust {
    Trust {
        authorities: vec![authority().public()],
        required,
        signer: Some(Arc::new(Signer::new(&PrivateKey::from_random([number; 32])))),
        certificate,
        revocations: Vec::new(),
    }
}

pub(super) fn node(number: u8, trust: Trust, cached: &[CachedPeer]) -> Node {
    let mut node = Node::new(number, None);
    let settings = Settings { trust, ..node.mesh.settings.clone() };
    node.mesh = Mesh::new(settings, None, cached, START);
    node
}

/// A member of a mesh that requires to be one.
pub(super) fn member(number: u8) -> Node {
    let own = certificate(&authority(), number, START.unix + DAY_SECS);
    node(number, trust(number, true, Some(own)), &[])
}

/// Has the secret, and a certificate or not.
fn outsider(number: u8, certificate: Option<Certificate>) -> Node {
    let trust =
        Trust { authorities: Vec::new(), required: false, ..trust(number, false, certificate) };
    node(number, trust, &[])
}

fn standing(node: &Node, of: u8) -> Option<Result<String, Refusal>> {
    let standing = node.mesh.peer(&key(of))?.standing?;
    Some(standing.map(|member| member.terms.name.clone()))
}

pub(super) fn kept_out(node: &Node) -> Vec<(PublicKey, Refusal)> {
    node.mesh.kept_out().map(|one| (one.key, one.why)).collect()
}

pub(super) fn plaintext(effect: Effect) -> Vec<u8> {
    match effect {
        Effect::Announce(plaintext) | Effect::Send { plaintext, .. } => plaintext,
        Effect::SetPeer(_)
        | Effect::RemovePeer(_)
        | Effect::Probe { .. }
        | Effect::Routes(_)
        | Effect::MoveAddress(_)
        | Effect::PeersChanged
        | Effect::RevocationsChanged
        | Effect::SecretRotated
        | Effect::Report(_) => panic!("nothing is said by {effect:?}"),
    }
}

#[test]
fn members_mesh_and_tell_each_other_by_name() {
    let mut nodes = [member(1), member(2), member(3)];
    settle(&mut nodes, START, true);
    for node in &nodes {
        assert_eq!(node.configured().len(), 2);
        assert_eq!(kept_out(node), []);
    }
    assert_eq!(standing(&nodes[0], 2), Some(Ok("member-2".to_owned())));
}

#[test]
fn who_is_not_signed_is_kept_out_and_told_nothing() {
    let other = AuthoritySecret::from_random(&[201; 32]);
    let tomorrow = START.unix + DAY_SECS;
    let stolen = Some(certificate(&authority(), 1, tomorrow));
    for (case, own, why) in [
        ("no certificate", None, Refusal::Unsigned),
        ("of another authority", Some(certificate(&other, 9, tomorrow)), Refusal::Authority),
        ("of another key", stolen, Refusal::Certificate),
        ("expired", Some(certificate(&authority(), 9, START.unix)), Refusal::Expired),
    ] {
        let (mut one, mut two) = (member(1), outsider(9, own));
        let Effect::Send { plaintext, .. } = two.mesh.hello(one.control(), START) else { panic!() };
        let hello = two.seal(Kind::Hello, &plaintext);
        let announce = two.announce(START);
        let mut effects = one.hear(Path::Exchange, two.control(), &hello, START);
        // A repeated one is answered only where the first was.
        effects.extend(one.hear(Path::Exchange, two.control(), &hello, later(10)));
        effects.extend(one.hear(Path::Lan, two.control(), &announce, later(20)));
        effects.extend(one.mesh.handle(Event::Device(&[device_peer(&two, Some(10))]), later(30)));
        let told: Vec<&Effect> = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Send { .. } | Effect::SetPeer(_)))
            .collect();
        assert!(told.is_empty(), "{case}: {told:?}");
        assert!(effects.contains(&Effect::RemovePeer(two.key())), "{case}: it was on the device");
        assert_eq!(kept_out(&one), [(two.key(), why)], "{case}");
        assert!(one.mesh.active_peers(later(30)).is_empty() && one.configured().is_empty());
        let reports = effects.iter().filter(|effect| matches!(effect, Effect::Report(_))).count();
        assert_eq!(reports, 1, "{case}: said once");
        one.mesh.handle(Event::Tick, later(400_000));
        assert_eq!(kept_out(&one), [], "{case}: forgotten when it is silent");
    }
}

#[test]
fn nobody_speaks_in_a_members_name() {
    for required in [true, false] {
        let own = certificate(&authority(), 1, START.unix + DAY_SECS);
        let mut one = node(1, trust(1, required, Some(own)), &[]);
        let (mut two, mut thief) = (member(2), outsider(9, None));
        let datagram = two.announce(START);
        one.hear(Path::Lan, two.control(), &datagram, START);
        let before = one.mesh.peer(&two.key()).unwrap();
        let signed = plaintext(two.mesh.announce(later(1_000)));
        let text = String::from_utf8(signed.clone()).unwrap();
        let ip = two.mesh.mesh_ip().to_string();
        let sig = text.find(r#","sig""#).unwrap();
        let cert = text.find(r#","cert""#).unwrap();
        for forged in [
            text.replace(&ip, "10.1.2.3"),
            text.replace("51820", "51821"),
            text.replace(
                r#""timestamp":18"#,
                r#""routable_networks":["10.9.0.0/16"],"timestamp":18"#,
            ),
            format!("{}}}}}", &text[..sig]).replace(&ip, "10.1.2.3"),
            format!("{}}}}}", &text[..cert]).replace(&ip, "10.1.2.3"),
            format!("{} ", text.replace(&ip, "10.1.2.3")),
        ] {
            assert_ne!(forged, text);
            let datagram = thief.seal(Kind::Announce, forged.as_bytes());
            one.hear(Path::Lan, thief.control(), &datagram, later(2_000));
            if required {
                one.mesh.handle(Event::Tick, later(2_100));
            }
            let now = one.mesh.peer(&two.key());
            assert_eq!(now.as_ref(), Some(&before), "required: {required}: {forged}");
        }
        // The very words, sealed anew by somebody else, under a nonce that nobody has seen.
        let datagram = two.seal(Kind::Announce, &signed);
        one.hear(Path::Lan, two.control(), &datagram, later(2_500));
        let again = thief.seal(Kind::Announce, &signed);
        one.hear(Path::Lan, thief.control(), &again, later(3_000));
        assert_eq!(one.mesh.peer(&two.key()).unwrap().endpoint, before.endpoint);
    }
}

#[test]
fn another_certificate_lets_nobody_speak_in_a_members_name() {
    let mut one = node(1, trust(1, false, None), &[]);
    let (mut two, mut thief) = (member(2), outsider(9, None));
    let datagram = two.announce(START);
    one.hear(Path::Lan, two.control(), &datagram, START);
    let before = one.mesh.peer(&two.key()).unwrap();
    let text = String::from_utf8(plaintext(two.mesh.announce(later(1_000)))).unwrap();
    let text = text.replace(&two.mesh.mesh_ip().to_string(), "10.1.2.3");
    let own = two.mesh.own_certificate().unwrap().text().to_owned();
    let strange = AuthoritySecret::from_random(&[201; 32]);
    for other in [
        certificate(&authority(), 2, START.unix - 1),
        certificate(&strange, 2, START.unix + DAY_SECS),
    ] {
        let forged = text.replace(&own, other.text());
        assert_ne!(forged, text);
        let datagram = thief.seal(Kind::Announce, forged.as_bytes());
        one.hear(Path::Lan, thief.control(), &datagram, later(2_000));
        assert_eq!(one.mesh.peer(&two.key()), Some(before.clone()));
    }
    // Its own word that it has another one is heard.
    let expired = certificate(&authority(), 2, START.unix - 1);
    two.mesh.handle(Event::Certificate(Box::new(expired)), later(3_000));
    let datagram = two.announce(later(3_000));
    one.hear(Path::Lan, two.control(), &datagram, later(3_000));
    assert_eq!(standing(&one, 2), Some(Err(Refusal::Expired)));
}

#[test]
fn a_forged_goodbye_of_a_member_is_not_heard() {
    let (mut one, mut two) = (member(1), member(2));
    let datagram = two.announce(START);
    one.hear(Path::Lan, two.control(), &datagram, START);
    let goodbye = serde_json::to_vec(&crate::message::Goodbye::new(two.key(), START.unix)).unwrap();
    let forged = two.seal(Kind::Goodbye, &goodbye);
    let from = two.control();
    assert_eq!(one.hear(Path::Exchange, from, &forged, later(10)), []);
    let mut said = Vec::new();
    let datagram = one.announce(later(20));
    two.hear(Path::Lan, one.control(), &datagram, later(20));
    two.mesh.say_goodbye(later(30), &mut said);
    let true_one = plaintext(said.pop().unwrap());
    let datagram = two.seal(Kind::Goodbye, &true_one);
    let effects = one.hear(Path::Exchange, from, &datagram, later(40));
    assert!(matches!(effects[..], [Effect::Send { kind: Kind::Hello, .. }]), "{effects:?}");
}

#[test]
fn a_member_goes_when_its_certificate_ends_and_comes_with_a_new_one() {
    let mut one = member(1);
    let short = certificate(&authority(), 2, START.unix + 60);
    let mut two = node(2, trust(2, true, Some(short)), &[]);
    let datagram = two.announce(START);
    one.hear(Path::Lan, two.control(), &datagram, START);
    one.mesh.handle(Event::Tick, later(59_000));
    assert_eq!(one.configured().len(), 1);
    let effects = one.mesh.handle(Event::Tick, later(60_000));
    assert!(effects.contains(&Effect::RemovePeer(two.key())), "{effects:?}");
    assert_eq!(kept_out(&one), [(two.key(), Refusal::Expired)]);
    let told = two.mesh.handle(Event::Tick, later(61_000));
    let is_warning = |effect: &Effect| {
        matches!(effect, Effect::Report(Report::OwnCertificate { why: Refusal::Expired }))
    };
    assert!(told.iter().any(is_warning), "{told:?}");

    let renewed = certificate(&authority(), 2, START.unix + DAY_SECS);
    two.mesh.handle(Event::Certificate(Box::new(renewed)), later(62_000));
    let datagram = two.announce(later(62_000));
    one.hear(Path::Lan, two.control(), &datagram, later(62_000));
    assert_eq!((one.configured().len(), kept_out(&one).len()), (1, 0));
}

#[test]
fn a_revocation_spreads_through_a_third_node_and_outlives_a_restart() {
    let mut nodes = [member(1), member(2), member(3)];
    settle(&mut nodes, START, true);
    let revocation = Revocation::sign(&authority(), key(3), START.unix + 1);
    let forged = Revocation::sign(&AuthoritySecret::from_random(&[9; 32]), key(2), START.unix);
    let [one, two, three] = &mut nodes;
    one.mesh.handle(Event::Revoked(Box::new(forged)), later(1_000));
    assert_eq!(one.configured().len(), 2);
    let effects = one.mesh.handle(Event::Revoked(Box::new(revocation)), later(1_000));
    assert!(effects.contains(&Effect::RemovePeer(three.key())), "{effects:?}");
    assert!(effects.contains(&Effect::RevocationsChanged));
    let news = effects.iter().filter(|effect| matches!(effect, Effect::Announce(_))).count();
    assert_eq!(news, 1, "the LAN hears of it at once");

    let datagram = one.announce(later(1_000));
    let effects = two.hear(Path::Lan, one.control(), &datagram, later(1_100));
    assert!(effects.contains(&Effect::RemovePeer(three.key())), "{effects:?}");
    let again = three.announce(later(2_000));
    assert!(
        !two.hear(Path::Lan, three.control(), &again, later(2_000))
            .iter()
            .any(|effect| { matches!(effect, Effect::Send { .. } | Effect::SetPeer(_)) })
    );
    assert_eq!(kept_out(two), [(three.key(), Refusal::Revoked)]);

    // One that was away, and knows the third as its peer, hears it from the second long after.
    let kept = two.mesh.revocations().cloned().collect();
    let settings = &two.mesh.settings;
    let trust = Trust { revocations: kept, ..settings.trust.clone() };
    let mut restarted = node(2, trust, &[]);
    let mut away = member(4);
    away.hear(Path::Lan, three.control(), &again, later(2_000));
    assert_eq!(away.configured().len(), 1);
    let datagram = restarted.announce(later(200_000));
    away.hear(Path::Lan, restarted.control(), &datagram, later(200_000));
    assert_eq!(kept_out(&away), [(three.key(), Refusal::Revoked)]);
}

#[test]
fn what_an_earlier_run_left_needs_a_certificate_too() {
    let cached = |number: u8, certificate: Option<Certificate>| CachedPeer {
        wg_pubkey: key(number),
        hostname: format!("node-{number}"),
        mesh_ipv6: None,
        mesh_ip: IpAddr::V4(Node::new(number, None).mesh.mesh_ip()),
        endpoint: Some(SocketAddr::from(([192, 0, 2, number], 51820))),
        routable_networks: Vec::new(),
        last_seen: START.unix - 10,
        certificate: certificate.map(|own| own.text().to_owned()),
    };
    let tomorrow = START.unix + DAY_SECS;
    let left = [
        cached(2, Some(certificate(&authority(), 2, tomorrow))),
        cached(3, None),
        cached(4, Some(certificate(&authority(), 2, tomorrow))),
        cached(5, Some(certificate(&authority(), 5, START.unix))),
    ];
    let mut one = node(1, trust(1, true, None), &left);
    let leftovers: Vec<DevicePeer> =
        (2..=6).map(|number| device_peer(&Node::new(number, None), Some(10))).collect();
    let effects = one.mesh.handle(Event::Device(&leftovers), later(10));
    for number in 2..=6 {
        let removed = effects.contains(&Effect::RemovePeer(key(number)));
        assert_eq!(removed, number != 2, "{number}");
    }
    assert_eq!(one.configured().iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(2)]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::SetPeer(_))), "{effects:?}");
    assert_eq!(one.mesh.cached_peers()[0].certificate, left[0].certificate);
}

#[test]
fn a_stranger_at_a_seeds_address_hears_of_no_member() {
    let mut nodes = [member(1), member(2)];
    settle(&mut nodes, START, true);
    let one = &mut nodes[0];
    let names = |plaintext: Vec<u8>| String::from_utf8(plaintext).unwrap().contains("node-2");
    let stranger: SocketAddr = "198.51.100.1:52448".parse().unwrap();
    assert!(!names(plaintext(one.mesh.hello(stranger, later(10)))));
    let to = SocketAddr::from(([192, 0, 2, 2], 52448));
    assert!(names(plaintext(one.mesh.hello(to, later(10)))));
}

#[test]
fn without_requiring_it_the_mesh_is_shown_as_it_is() {
    let mut one = node(1, trust(1, false, None), &[]);
    let (mut two, mut nine) = (member(2), outsider(9, None));
    let datagram = two.announce(START);
    one.hear(Path::Lan, two.control(), &datagram, START);
    let datagram = nine.announce(START);
    one.hear(Path::Lan, nine.control(), &datagram, START);
    assert_eq!(one.configured().len(), 2);
    assert_eq!(standing(&one, 2), Some(Ok("member-2".to_owned())));
    assert_eq!(standing(&one, 9), Some(Err(Refusal::Unsigned)));
    let mut plain = Node::new(7, None);
    let datagram = two.announce(START);
    plain.hear(Path::Lan, two.control(), &datagram, START);
    assert_eq!(plain.mesh.peer(&key(2)).unwrap().standing, None, "no authority, no opinion");
}
