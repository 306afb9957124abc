//! Sealed messages: ours equal the Go daemon's byte for byte, and theirs open.

use std::net::SocketAddr;

use meshctl_core::derive::MeshKeys;
use meshctl_core::envelope::{self, BadEnvelope, Kind};

use meshctl_core::message::rendezvous::{self, Offer, Start};
use meshctl_core::message::{self, Claim};
use meshctl_core::secret::Secret;

use crate::{text, vectors};

const SENT_AT: i64 = 1_800_000_000;
const NONCE: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

fn gossip_key() -> [u8; 32] {
    let vectors = vectors();
    let secret = Secret::parse(text(&vectors["secrets"]["S1"], "typed")).unwrap();
    *MeshKeys::derive(&secret).gossip_key
}

#[test]
fn messages_are_sealed_byte_for_byte() {
    let vectors = vectors();
    for kind in [Kind::Announce, Kind::Hello, Kind::Reply, Kind::Goodbye, Kind::Offer, Kind::Start]
    {
        let vector = &vectors["messages"][kind.as_str()];
        let plaintext = text(vector, "plaintext");
        let sealed = envelope::seal(&gossip_key(), NONCE, kind, plaintext.as_bytes());
        assert_eq!(String::from_utf8_lossy(&sealed), text(vector, "envelope"), "{kind:?}");
        assert_eq!(vector["datagram_len"], sealed.len(), "{kind:?}");
        assert_eq!(envelope::sealed_len(kind, plaintext.len()), sealed.len(), "{kind:?}");
    }
}

#[test]
fn messages_are_opened_and_read() {
    let vectors = vectors();
    let open = |name: &str| {
        let datagram = text(&vectors["messages"][name], "envelope");
        envelope::open(&gossip_key(), datagram.as_bytes(), SENT_AT).unwrap()
    };
    for name in vectors["messages"].as_object().unwrap().keys() {
        let opened = open(name);
        assert_eq!((opened.nonce, opened.timestamp), (NONCE, SENT_AT), "{name}");
        assert_eq!(opened.kind.map(Kind::as_str), Some(name.as_str()));
    }
    let hello = message::read_announcement(&open("HELLO").body).unwrap();
    assert_eq!(hello.hostname.as_deref(), Some("node-a"));
    assert_eq!(hello.mesh_ip, Some("10.45.75.206".parse().unwrap()));
    assert_eq!(hello.endpoint, Claim::Address("203.0.113.5:51820".parse().unwrap()));
    assert_eq!(hello.routes, ["192.168.10.0/24".parse().unwrap()]);
    assert_eq!(hello.known_peers.len(), 1);
    let reply = message::read_announcement(&open("REPLY").body).unwrap();
    assert_eq!(reply.observed_endpoint, Some("203.0.113.5:52448".parse().unwrap()));
    assert!(reply.introducer);
    assert!(message::read_goodbye(&open("GOODBYE").body).is_some());
    assert!(message::read_goodbye(&open("ANNOUNCE").body).is_none());
}

#[test]
fn a_rendezvous_is_written_byte_for_byte_and_read() {
    let vectors = vectors();
    let plaintext = |name: &str| text(&vectors["messages"][name], "plaintext").to_owned();
    let [a, b, c] = ["A", "B", "C"].map(crate::derivation::key);
    let offer = Offer::new(a, b, None, SENT_AT);
    assert_eq!(serde_json::to_string(&offer).unwrap(), plaintext("RENDEZVOUS_OFFER"));
    let ports = [52448, 52447, 52449, 52446, 52450];
    let candidates = ports.map(|port| SocketAddr::from(([198, 51, 100, 7], port)));
    let times = (SENT_AT, SENT_AT * 1000 + 1800);
    let start = Start::new((a, b, c), candidates.to_vec(), times, None);
    assert_eq!(serde_json::to_string(&start).unwrap(), plaintext("RENDEZVOUS_START"));

    let body = |name: &str| serde_json::from_str(&plaintext(name)).unwrap();
    let heard = rendezvous::read_offer(&body("RENDEZVOUS_OFFER")).unwrap();
    assert_eq!((heard.from, heard.target, heard.relay), (a, b, None));
    let heard = rendezvous::read_start(&body("RENDEZVOUS_START"), &a).unwrap();
    assert_eq!((heard.peer, heard.start_in_ms), (b, 1800));
    assert_eq!(heard.candidates, candidates);
}

#[test]
fn what_is_not_ours_or_out_of_time_is_refused() {
    let vectors = vectors();
    let key = gossip_key();
    let datagram = text(&vectors["messages"]["ANNOUNCE"], "envelope").as_bytes();
    let open = |bytes: &[u8], now| envelope::open(&key, bytes, now).map(|_| ());
    for (now, expected) in [
        (SENT_AT + 590, Ok(())),
        (SENT_AT - 590, Ok(())),
        (SENT_AT + 610, Err(BadEnvelope::Clock(-610))),
        (SENT_AT - 610, Err(BadEnvelope::Clock(610))),
    ] {
        assert_eq!(open(datagram, now), expected);
    }
    let seal = |plaintext: &str| envelope::seal(&key, NONCE, Kind::Hello, plaintext.as_bytes());
    for (plaintext, expected) in [
        (r#"{"protocol":"wgmesh-v1","timestamp":1800000000}"#, Ok(())),
        (r#" {"timestamp":1800000000,"new":{"a":1},"protocol":"wgmesh-v1"} "#, Ok(())),
        (r#"{"protocol":"wgmesh-v1","timestamp":1800000000.0}"#, Err(BadEnvelope::Protocol)),
        (r#"{"protocol":"wgmesh-v1","timestamp":1.8e9}"#, Err(BadEnvelope::Protocol)),
        (r#"{"protocol":"wgmesh-v2","timestamp":1800000000}"#, Err(BadEnvelope::Protocol)),
        (r#"{"protocol":"wgmesh-v1"}"#, Err(BadEnvelope::Protocol)),
        ("[]", Err(BadEnvelope::Protocol)),
    ] {
        assert_eq!(open(&seal(plaintext), SENT_AT), expected, "{plaintext}");
    }
    assert_eq!(envelope::open(&[0; 32], datagram, SENT_AT), Err(BadEnvelope::Seal));
    for junk in ["", "null", "{}", r#"{"type":"HELLO","nonce":"AAAA","ciphertext":"AAAA"}"#] {
        assert_eq!(open(junk.as_bytes(), SENT_AT), Err(BadEnvelope::Shape), "{junk}");
    }
}
