//! What stands inside an envelope: announcements, goodbyes, and [`rendezvous`].
//!
//! Invariant: what we send passes the strictest receiver's checks. What we receive is checked
//! field by field, and only the bad part is dropped: one junk known peer must not cost a message.

pub mod rendezvous;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::envelope::PROTOCOL;
use crate::key::PublicKey;
use crate::mesh::NatType;
use crate::mesh::Standing;

pub const HOSTNAME_MAX_BYTES: usize = 253;
const ROUTES_MAX: usize = 100;
const KNOWN_PEERS_MAX: usize = 1000;
/// Revocations in one message.
pub(crate) const REVOKED_MAX: usize = 2;
pub const DEFAULT_LISTEN_PORT: u16 = 51_820;

/// HELLO, REPLY and ANNOUNCE as sent; the field order is the Go daemon's.
#[derive(Debug, Clone, Serialize)]
pub struct Announcement {
    pub protocol: &'static str,
    pub wg_pubkey: PublicKey,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    pub mesh_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_ipv6: Option<String>,
    pub wg_endpoint: String,
    #[serde(skip_serializing_if = "is_false")]
    pub introducer: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routable_networks: Vec<IpNet>,
    pub timestamp: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known_peers: Vec<KnownPeer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_type: Option<&'static str>,
    pub kn: Extension,
}

/// What Go nodes ignore and ours understand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// A number that differs from one start of the daemon to the next: one that has just started
    /// knows nobody, and whoever hears it greets it at once.
    pub boot: u64,
    /// What the message was sent as. The envelope's type stands outside the seal and its path is
    /// anybody's choice: one that says otherwise was overheard and sent on.
    #[serde(rename = "type")]
    pub sent: Sent,
    /// The id of the secret that this node accepts beside the present one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<String>,
    /// An authority's word that this node is a member. A message that has one is signed.
    #[serde(rename = "cert", skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Whom an authority took out again, some at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<String>,
    /// An introducer that relays IPv6 too.
    #[serde(skip_serializing_if = "is_false")]
    pub relay6: bool,
    /// How many peers an introducer knows: who was not told of all of them yet asks on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<usize>,
}

/// What a message was sent as, and on which path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Sent {
    Hello,
    Reply,
    /// In-mesh gossip.
    Announce,
    /// To the multicast group.
    Lan,
}

impl Sent {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "HELLO" => Some(Self::Hello),
            "REPLY" => Some(Self::Reply),
            "ANNOUNCE" => Some(Self::Announce),
            "LAN" => Some(Self::Lan),
            _ => None,
        }
    }
}

/// A peer as another node tells of it: hearsay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownPeer {
    pub wg_pubkey: PublicKey,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    pub mesh_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_ipv6: Option<String>,
    pub wg_endpoint: String,
    #[serde(skip_serializing_if = "is_false")]
    pub introducer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kn: Option<KnownExtension>,
}

/// What our introducers tell of a peer beside the Go daemon's fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownExtension {
    /// It can be relayed to: the teller's tunnel to it stands.
    pub live: bool,
    /// It is one of our nodes.
    pub ours: bool,
    /// Its certificate, told to who asks for it.
    #[serde(rename = "cert", skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Goodbye {
    protocol: &'static str,
    timestamp: i64,
    wg_pubkey: PublicKey,
}

impl Goodbye {
    pub fn new(key: PublicKey, timestamp: i64) -> Self {
        Self { protocol: PROTOCOL, timestamp, wg_pubkey: key }
    }
}

/// An announcement as received, every field checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub key: PublicKey,
    pub hostname: Option<String>,
    pub mesh_ip: Option<IpAddr>,
    pub mesh_ipv6: Option<Ipv6Addr>,
    pub endpoint: Claim,
    pub introducer: bool,
    pub routes: Vec<IpNet>,
    pub known_peers: Vec<HeardOf>,
    pub observed_endpoint: Option<SocketAddr>,
    pub nat_type: Option<NatType>,
    pub boot: Option<u64>,
    pub relays_ipv6: bool,
    /// How many peers it knows; only our introducers say.
    pub peers: Option<u64>,
    /// Absent from a Go node's messages.
    pub sent: Option<Sent>,
    pub accepts: Option<String>,
    pub certificate: Option<String>,
    pub revoked: Vec<String>,
    /// Filled in by who examines the message.
    pub standing: Option<Standing>,
}

/// One known peer of an announcement, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardOf {
    pub key: PublicKey,
    pub hostname: Option<String>,
    pub mesh_ip: Option<IpAddr>,
    pub mesh_ipv6: Option<Ipv6Addr>,
    pub endpoint: Claim,
    pub nat_type: Option<NatType>,
    /// Absent when a Go node tells.
    pub live: Option<bool>,
    pub ours: Option<bool>,
    pub certificate: Option<String>,
}

/// What a peer says of its WireGuard endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// "Where this message came from", with this port.
    Source(u16),
    Address(SocketAddr),
    Unusable,
}

impl Claim {
    fn parse(text: &str) -> Self {
        if let Ok(address) = text.parse::<SocketAddr>() {
            // A mapped address must not slip past checks of IPv4 ranges.
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            return match (address.port(), address.ip().is_unspecified()) {
                (0, _) => Self::Unusable,
                (port, true) => Self::Source(port),
                (_, false) => Self::Address(address),
            };
        }
        // An empty host, and a DNS name too: the sender's own address is the better guess.
        match text.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) {
            Some(0) | None => Self::Unusable,
            Some(port) => Self::Source(port),
        }
    }

    /// The port this claim names, or WireGuard's usual one.
    pub fn port(self) -> u16 {
        match self {
            Self::Source(port) => port,
            Self::Address(address) => address.port(),
            Self::Unusable => DEFAULT_LISTEN_PORT,
        }
    }
}

/// Reads an announcement; `None` when nobody can be said to have sent it, and when it is a goodbye
/// that somebody relabelled.
pub fn read_announcement(body: &Map<String, Value>) -> Option<Heard> {
    if !body.contains_key("mesh_ip") {
        return None;
    }
    let extension = |field: &str| body.get("kn").and_then(|kn| kn.get(field));
    Some(Heard {
        key: key_of(body)?,
        hostname: text(body, "hostname").filter(|name| is_hostname(name)).map(str::to_owned),
        mesh_ip: text(body, "mesh_ip").and_then(|ip| ip.parse().ok()),
        mesh_ipv6: text(body, "mesh_ipv6").and_then(|ip| ip.parse().ok()),
        endpoint: claim_of(body),
        introducer: body.get("introducer").and_then(Value::as_bool).unwrap_or(false),
        routes: list(body, "routable_networks", ROUTES_MAX)
            .filter_map(|route| route.as_str()?.parse::<IpNet>().ok())
            .map(|route| route.trunc())
            .collect(),
        known_peers: list(body, "known_peers", KNOWN_PEERS_MAX).filter_map(known_peer_of).collect(),
        observed_endpoint: text(body, "observed_endpoint").and_then(|text| text.parse().ok()),
        nat_type: text(body, "nat_type").and_then(NatType::parse),
        boot: extension("boot").and_then(Value::as_u64),
        peers: extension("peers").and_then(Value::as_u64),
        relays_ipv6: extension("relay6").and_then(Value::as_bool).unwrap_or(false),
        sent: extension("type").and_then(Value::as_str).and_then(Sent::parse),
        accepts: extension("accepts").and_then(Value::as_str).map(str::to_owned),
        certificate: extension("cert").and_then(Value::as_str).map(str::to_owned),
        revoked: extension("revoked")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .take(REVOKED_MAX)
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect(),
        standing: None,
    })
}

fn known_peer_of(peer: &Value) -> Option<HeardOf> {
    let peer = peer.as_object()?;
    let extension = |field: &str| peer.get("kn").and_then(|kn| kn.get(field));
    Some(HeardOf {
        key: key_of(peer)?,
        hostname: text(peer, "hostname").filter(|name| is_hostname(name)).map(str::to_owned),
        mesh_ip: text(peer, "mesh_ip").and_then(|ip| ip.parse().ok()),
        mesh_ipv6: text(peer, "mesh_ipv6").and_then(|ip| ip.parse().ok()),
        endpoint: claim_of(peer),
        nat_type: text(peer, "nat_type").and_then(NatType::parse),
        live: extension("live").and_then(Value::as_bool),
        ours: extension("ours").and_then(Value::as_bool),
        certificate: extension("cert").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Reads a goodbye. One that carries `mesh_ip` is an announcement that somebody relabelled.
pub fn read_goodbye(body: &Map<String, Value>) -> Option<PublicKey> {
    if body.contains_key("mesh_ip") { None } else { key_of(body) }
}

/// Makes a host name that every receiver accepts.
pub fn sanitize_hostname(name: &str) -> String {
    let printable = name.chars().filter(|char| (' '..='~').contains(char));
    printable.take(HOSTNAME_MAX_BYTES).collect()
}

fn is_hostname(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= HOSTNAME_MAX_BYTES
        && name.bytes().all(|byte| (32..=126).contains(&byte))
}

fn key_of(body: &Map<String, Value>) -> Option<PublicKey> {
    text(body, "wg_pubkey")?.parse().ok()
}

fn claim_of(body: &Map<String, Value>) -> Claim {
    Claim::parse(text(body, "wg_endpoint").unwrap_or_default())
}

fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}

fn list<'a>(
    body: &'a Map<String, Value>,
    field: &str,
    max: usize,
) -> impl Iterator<Item = &'a Value> {
    body.get(field).and_then(Value::as_array).into_iter().flatten().take(max)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=";

    fn body(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn endpoint_claims() {
        let address = |text: &str| Claim::Address(text.parse().unwrap());
        for (claim, expected) in [
            ("203.0.113.5:51820", address("203.0.113.5:51820")),
            ("[2001:db8::1]:4444", address("[2001:db8::1]:4444")),
            ("0.0.0.0:51821", Claim::Source(51821)),
            ("[::]:51821", Claim::Source(51821)),
            (":4444", Claim::Source(4444)),
            ("node.example:4444", Claim::Source(4444)),
            ("[::ffff:10.1.2.3]:4444", address("10.1.2.3:4444")),
            ("[::ffff:0.0.0.0]:4444", Claim::Source(4444)),
            ("203.0.113.5:0", Claim::Unusable),
            ("203.0.113.5", Claim::Unusable),
            ("rubbish", Claim::Unusable),
            ("", Claim::Unusable),
        ] {
            assert_eq!(Claim::parse(claim), expected, "{claim:?}");
        }
    }

    #[test]
    fn only_the_bad_part_of_an_announcement_is_dropped() {
        let long = "x".repeat(254);
        let heard = read_announcement(&body(&format!(
            r#"{{"wg_pubkey":"{KEY}","hostname":"{long}","mesh_ip":"xx","routable_networks":["zz","10.9.2.7/24",3],
                "known_peers":[{{"wg_pubkey":"abc"}},7,{{"wg_pubkey":"{KEY}","wg_endpoint":"192.0.2.1:1"}}],"introducer":"yes"}}"#
        )))
        .unwrap();
        assert_eq!(heard.hostname, None);
        assert_eq!(heard.mesh_ip, None);
        assert_eq!(heard.endpoint, Claim::Unusable);
        assert_eq!(heard.routes, ["10.9.2.0/24".parse::<IpNet>().unwrap()]);
        assert_eq!(heard.known_peers.len(), 1);
        assert!(!heard.introducer);

        let short = r#"{"wg_pubkey":"test-pubkey","mesh_ip":"10.0.0.1"}"#;
        assert_eq!(read_announcement(&body(short)), None);
        let hostile = format!(r#"{{"wg_pubkey":"{KEY}","mesh_ip":"","hostname":"a\nb"}}"#);
        assert_eq!(read_announcement(&body(&hostile)).unwrap().hostname, None);
    }

    #[test]
    fn an_announcement_is_no_goodbye_and_a_goodbye_no_announcement() {
        let goodbye = format!(r#"{{"wg_pubkey":"{KEY}","timestamp":1}}"#);
        assert!(read_goodbye(&body(&goodbye)).is_some());
        assert_eq!(read_announcement(&body(&goodbye)), None);
        let relabelled = format!(r#"{{"wg_pubkey":"{KEY}","mesh_ip":"10.1.2.3"}}"#);
        assert_eq!(read_goodbye(&body(&relabelled)), None);
    }

    #[test]
    fn own_host_names_are_made_acceptable() {
        assert_eq!(sanitize_hostname("no\u{e9}d\n-1"), "nod-1");
        assert_eq!(sanitize_hostname(&"x".repeat(300)).len(), HOSTNAME_MAX_BYTES);
    }
}
