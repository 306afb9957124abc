//! What a node is to do.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::membership::Refusal;
use super::rotation::Psk;
use super::routes::RouteRefusal;
use crate::envelope::Kind;
use crate::key::PublicKey;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Seal as ANNOUNCE, once for each interface, and send to the multicast group.
    Announce(Vec<u8>),
    /// Seal and send from the exchange socket.
    Send {
        to: SocketAddr,
        kind: Kind,
        plaintext: Vec<u8>,
    },
    /// Add the peer or change it in place, then send it a packet.
    SetPeer(PeerConfig),
    RemovePeer(PublicKey),
    /// Ask the peer at this address for a `pong`.
    Probe {
        key: PublicKey,
        ip: Ipv4Addr,
    },
    /// Leave exactly these networks routed to the interface, beside the mesh's own.
    Routes(Vec<Ipv4Net>),
    /// Persist the address, then put it on the interface in place of the old one.
    MoveAddress(Ipv4Addr),
    /// What the peer cache holds has changed.
    PeersChanged,
    /// The revocations to keep have changed.
    RevocationsChanged,
    /// The old secret is not accepted any more.
    SecretRotated,
    Report(Report),
}

/// A peer as it should be on the device. The keepalive is the mesh's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    /// Where it is probed and poked.
    pub mesh_ip: Ipv4Addr,
    /// What it may send from, and what is sent to it, sorted.
    pub allowed_ips: Vec<IpNet>,
    pub psk: Psk,
}

impl PeerConfig {
    /// Whether it gives up an address that another may take.
    pub(super) fn gives_up_of(&self, present: Option<&Self>) -> bool {
        present.is_some_and(|present| {
            present.allowed_ips.iter().any(|net| !self.allowed_ips.contains(net))
        })
    }

    /// Whether the device must be told. Not knowing an endpoint is no reason to take one away.
    pub(super) fn differs_from(&self, present: Option<&Self>) -> bool {
        present.is_none_or(|present| {
            self.allowed_ips != present.allowed_ips
                || self.psk != present.psk
                || (self.endpoint.is_some() && self.endpoint != present.endpoint)
        })
    }
}

/// Something the operator should be able to read in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    Found { key: PublicKey, hostname: String, via: &'static str },
    Lost { key: PublicKey, hostname: String },
    Left { key: PublicKey, hostname: String },
    Relayed { key: PublicKey, hostname: String, through: PublicKey },
    Direct { key: PublicKey, hostname: String },
    Clash { with: PublicKey, ip: Ipv4Addr },
    Moved { from: Ipv4Addr, to: Ipv4Addr },
    NoFreeAddress { ip: Ipv4Addr },
    ForeignSubnet { key: PublicKey, ip: Ipv4Addr },
    Clock { from: SocketAddr, off_secs: i64 },
    RouteRefused { by: PublicKey, route: Ipv4Net, why: RouteRefusal },
    KeptOut { key: PublicKey, hostname: String, why: Refusal },
    Revoked { key: PublicKey },
    OwnCertificate { why: Refusal },
    OwnCertificateEnds { in_secs: i64 },
    LeftBehind { key: PublicKey, hostname: String, in_secs: i64 },
    Rotated,
}

impl Report {
    /// Whether somebody should look into it.
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::Found { .. }
                | Self::Lost { .. }
                | Self::Left { .. }
                | Self::Relayed { .. }
                | Self::Direct { .. }
                | Self::Rotated
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { key, hostname, via } => {
                write!(f, "peer {hostname} ({key}) is in the mesh, found by {via}")
            }
            Self::Lost { key, hostname } => {
                write!(
                    f,
                    "peer {hostname} ({key}) has not been heard for ten minutes and is forgotten"
                )
            }
            Self::Left { key, hostname } => write!(f, "peer {hostname} ({key}) left the mesh"),
            Self::Relayed { key, hostname, through } => {
                write!(f, "peer {hostname} ({key}) is reached through introducer {through}")
            }
            Self::Direct { key, hostname } => {
                write!(f, "peer {hostname} ({key}) is reached directly again")
            }
            Self::Clash { with, ip } => {
                write!(f, "peer {with} claims our mesh address {ip} and should yield it")
            }
            Self::Moved { from, to } => {
                write!(f, "the mesh address {from} is another node's; moved to {to}")
            }
            Self::NoFreeAddress { ip } => write!(
                f,
                "the mesh address {ip} is another node's and no other is free: use a larger --mesh-subnet on every node"
            ),
            Self::ForeignSubnet { key, ip } => write!(
                f,
                "peer {key} has the mesh address {ip}, outside this node's subnet: give every node the same --mesh-subnet"
            ),
            Self::RouteRefused { by, route, why } => {
                write!(f, "peer {by} claims the route {route}, which is not used: {why}")
            }
            Self::KeptOut { key, hostname, why } => {
                write!(f, "{hostname} ({key}) has the mesh secret and is kept out: {}", why.explain())
            }
            Self::LeftBehind { key, hostname, in_secs } => write!(
                f,
                "{hostname} ({key}) has only the old mesh secret, which is refused in {in_secs} s: give it the new one by `meshctl rotate`",
            ),
            Self::Rotated => f.write_str("the old mesh secret is not accepted any more"),
            Self::Revoked { key } => write!(f, "an authority revoked the membership of {key}"),
            Self::OwnCertificate { why: Refusal::Revoked } => f.write_str(
                "this node's certificate was revoked: nodes with --require-signed keep it out",
            ),
            Self::OwnCertificate { .. } => f.write_str(
                "this node's certificate is not valid now, and nodes with --require-signed keep it out: give it a new one by `meshctl authority sign`",
            ),
            Self::OwnCertificateEnds { in_secs } => write!(
                f,
                "this node's certificate ends in {} h: give it a new one by `meshctl authority sign`",
                in_secs / 3600
            ),
            Self::Clock { from, off_secs } => write!(
                f,
                "the clock of {from} is {off_secs} s off and it is not heard: set the time on one of the two hosts"
            ),
        }
    }
}
