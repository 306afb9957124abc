//! Rendezvous: an OFFER asks an introducer for a peer, a START tells both when and where to try.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{HeardOf, KnownPeer, known_peer_of, list, text};
use crate::derive::pair_id;
use crate::envelope::PROTOCOL;
use crate::key::PublicKey;

/// More are not tried.
pub const CANDIDATES_MAX: usize = 8;
/// A START further ahead than this is refused.
const START_AHEAD_MAX_MS: i64 = 5_000;

/// From a client to an introducer.
#[derive(Debug, Clone, Serialize)]
pub struct Offer {
    protocol: &'static str,
    timestamp: i64,
    from_pubkey: PublicKey,
    target_pubkey: PublicKey,
    pair_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kn: Option<OfferExtension>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum OfferExtension {
    Relay { relay: bool },
    Certificate { cert: bool },
}

impl Offer {
    /// `relay` is no request to meet, but a word to the target: whether the sender wants to be
    /// relayed to it. Only our introducers hand it on.
    pub fn new(from: PublicKey, to: PublicKey, relay: Option<bool>, timestamp: i64) -> Self {
        Self {
            protocol: PROTOCOL,
            timestamp,
            from_pubkey: from,
            target_pubkey: to,
            pair_id: pair_id(&from, &to),
            kn: relay.map(|relay| OfferExtension::Relay { relay }),
        }
    }

    /// No request to meet either: the introducer is to tell the target's certificate.
    pub fn for_certificate(from: PublicKey, to: PublicKey, timestamp: i64) -> Self {
        let kn = Some(OfferExtension::Certificate { cert: true });
        Self { kn, ..Self::new(from, to, None, timestamp) }
    }
}

/// From an introducer to both of a pair.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are the wire's")]
pub struct Start {
    protocol: &'static str,
    timestamp: i64,
    pair_id: String,
    peer_pubkey: PublicKey,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peer_candidates: Vec<SocketAddr>,
    start_at_unix_ms: i64,
    introducer_key: PublicKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    kn: Option<StartExtension>,
}

/// What a START tells our nodes beside the Go daemon's fields.
#[derive(Debug, Clone, Serialize)]
pub struct StartExtension {
    /// The peer as the introducer knows it: with that it can be relayed to.
    pub peer: Option<KnownPeer>,
    /// Whether the peer wants to be relayed; there is nothing to meet for then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<bool>,
}

impl Start {
    pub fn new(
        (to, peer, introducer): (PublicKey, PublicKey, PublicKey),
        candidates: Vec<SocketAddr>,
        (timestamp, start_at_unix_ms): (i64, i64),
        kn: Option<StartExtension>,
    ) -> Self {
        Self {
            protocol: PROTOCOL,
            timestamp,
            pair_id: pair_id(&to, &peer),
            peer_pubkey: peer,
            peer_candidates: candidates,
            start_at_unix_ms,
            introducer_key: introducer,
            kn,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardOffer {
    pub from: PublicKey,
    pub target: PublicKey,
    pub relay: Option<bool>,
    pub wants_certificate: bool,
}

/// Reads an OFFER whose pair is what it says.
pub fn read_offer(body: &Map<String, Value>) -> Option<HeardOffer> {
    let key = |field: &str| text(body, field)?.parse::<PublicKey>().ok();
    let (from, target) = (key("from_pubkey")?, key("target_pubkey")?);
    let is_pair = from != target && text(body, "pair_id")? == pair_id(&from, &target);
    let extension =
        |field: &str| body.get("kn").and_then(|kn| kn.get(field)).and_then(Value::as_bool);
    let relay = extension("relay");
    let wants_certificate = extension("cert").unwrap_or(false);
    is_pair.then_some(HeardOffer { from, target, relay, wants_certificate })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardStart {
    pub peer: PublicKey,
    pub candidates: Vec<SocketAddr>,
    /// By the introducer's own clock, so that a clock that is off matters to nobody.
    pub start_in_ms: u64,
    pub told: Option<HeardOf>,
    pub relay: Option<bool>,
}

/// Reads a START for `own`: at most [`CANDIDATES_MAX`] candidates, at most 5 s ahead.
pub fn read_start(body: &Map<String, Value>, own: &PublicKey) -> Option<HeardStart> {
    let peer: PublicKey = text(body, "peer_pubkey")?.parse().ok()?;
    if peer == *own || text(body, "pair_id")? != pair_id(own, &peer) {
        return None;
    }
    let sent_at_ms = body.get("timestamp")?.as_i64()?.checked_mul(1000)?;
    let ahead_ms = body.get("start_at_unix_ms")?.as_i64()?.checked_sub(sent_at_ms)?;
    // The time of sending has whole seconds.
    let start_in_ms =
        u64::try_from(ahead_ms.max(0)).ok().filter(|_| ahead_ms < START_AHEAD_MAX_MS + 1000)?;
    let extension = body.get("kn");
    let told = extension.and_then(|kn| kn.get("peer")).and_then(known_peer_of);
    Some(HeardStart {
        peer,
        candidates: list(body, "peer_candidates", CANDIDATES_MAX)
            .filter_map(|candidate| candidate.as_str()?.parse::<SocketAddr>().ok())
            .map(|candidate| SocketAddr::new(candidate.ip().to_canonical(), candidate.port()))
            .filter(|candidate| candidate.port() != 0)
            .collect(),
        start_in_ms,
        told: told.filter(|told| told.key == peer),
        relay: extension.and_then(|kn| kn.get("relay")).and_then(Value::as_bool),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn body(of: &impl Serialize) -> Map<String, Value> {
        serde_json::to_value(of).unwrap().as_object().unwrap().clone()
    }

    #[test]
    fn an_offer_is_read_when_its_pair_is_one() {
        let offer = body(&Offer::new(key(1), key(2), Some(true), 7));
        let heard = HeardOffer {
            from: key(1),
            target: key(2),
            relay: Some(true),
            wants_certificate: false,
        };
        assert_eq!(read_offer(&offer), Some(heard.clone()));
        let asked = body(&Offer::for_certificate(key(1), key(2), 7));
        let wants = HeardOffer { relay: None, wants_certificate: true, ..heard };
        assert_eq!(read_offer(&asked), Some(wants));
        for (field, value) in
            [("pair_id", "83c7f84e91dc6640"), ("from_pubkey", "x"), ("target_pubkey", "")]
        {
            let mut bad = offer.clone();
            bad.insert(field.to_owned(), value.into());
            assert_eq!(read_offer(&bad), None, "{field}");
        }
        assert_eq!(read_offer(&body(&Offer::new(key(1), key(1), None, 7))), None);
    }

    #[test]
    fn a_start_is_bounded_in_time_and_candidates() {
        let candidates: Vec<SocketAddr> =
            (1..20).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let start = |start_at| {
            let keys = (key(1), key(2), key(3));
            body(&Start::new(keys, candidates.clone(), (1_800_000_000, start_at), None))
        };
        let heard = read_start(&start(1_800_000_001_800), &key(1)).unwrap();
        assert_eq!((heard.peer, heard.start_in_ms), (key(2), 1_800));
        assert_eq!(heard.candidates, candidates[..CANDIDATES_MAX]);
        assert_eq!(read_start(&start(1_800_000_001_800), &key(3)), None, "of another pair");
        for (start_at, expected) in [
            (1_800_000_005_999, Some(5_999)),
            (1_800_000_006_000, None),
            (1_700_000_000_000, Some(0)),
            (i64::MAX, None),
            (i64::MIN, None),
        ] {
            let heard = read_start(&start(start_at), &key(1));
            assert_eq!(heard.map(|heard| heard.start_in_ms), expected, "{start_at}");
        }
    }
}
