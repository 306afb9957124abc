//! What can happen to a node.

use std::net::{Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::HANDSHAKE_LIVE_MS;
use super::rotation::Successor;
use crate::authority::{Certificate, Revocation};
use crate::derive::MeshSubnet;
use crate::key::PublicKey;
use crate::stun::StunAnswer;

/// The moment of an event: a clock that never jumps for deadlines, the wall clock for the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: u64,
    pub unix: i64,
}

/// Which socket a datagram came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The multicast port: whatever the envelope's type says, it is an announce.
    Lan,
    /// The exchange port.
    Exchange,
}

#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// Nothing but time has passed.
    Tick,
    Datagram {
        path: Path,
        from: SocketAddr,
        bytes: &'a [u8],
    },
    /// The whole peer list of the WireGuard device.
    Device(&'a [DevicePeer]),
    /// An interface came, went or changed its address.
    NetworkChanged,
    /// Whether the mesh IPv6 address really is on the interface now.
    Ipv6(bool),
    /// The networks that this host reaches without the mesh.
    LocalNetworks(Vec<Ipv4Net>),
    /// The addresses that the user's seeds stand for now.
    Seeds(Vec<SocketAddr>),
    /// What STUN servers answered in one round.
    Stun(Vec<StunAnswer>),
    /// A probe has come to its end.
    Probed {
        key: PublicKey,
        outcome: Probe,
    },
    /// The user gave this node the secret that follows.
    Rotate(Box<Successor>),
    /// The user gave this node a certificate.
    Certificate(Box<Certificate>),
    /// The user has an authority's word that somebody is no member any more.
    Revoked(Box<Revocation>),
    /// The node is about to leave the mesh for good.
    Leave,
}

/// What a TCP probe through the tunnel met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Pong {
        /// Round trip in microseconds.
        micros: u64,
    },
    /// Nobody listens there, but somebody said so.
    Refused,
    Silence,
}

/// A peer as the WireGuard device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePeer {
    pub key: PublicKey,
    pub endpoint: Option<SocketAddr>,
    pub allowed_ips: Vec<IpNet>,
    pub handshake_age_ms: Option<u64>,
    /// Bytes received since the device was made.
    pub rx_bytes: u64,
    /// Bytes sent since the device was made.
    pub tx_bytes: u64,
}

impl DevicePeer {
    pub fn is_live(&self) -> bool {
        self.handshake_age_ms.is_some_and(|age| age < HANDSHAKE_LIVE_MS)
    }

    /// Its one address in `mesh`; `None` when it has several there, or none.
    pub fn mesh_ip(&self, mesh: MeshSubnet) -> Option<Ipv4Addr> {
        let mut found = self.v4().filter(|net| mesh.contains(net.addr()));
        let net = found.next().filter(|net| net.prefix_len() == 32)?;
        found.next().is_none().then(|| net.addr())
    }

    fn v4(&self) -> impl Iterator<Item = Ipv4Net> {
        self.allowed_ips.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        })
    }
}
