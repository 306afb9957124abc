//! WireGuard behind one port, with two engines and a fake.
//!
//! ```text
//!   WireGuard ─┬─ kernel     configure, peers, stats by netlink; the tunnel needs no process
//!              ├─ userspace  gotatun on a persistent TUN; the device outlives the process
//!              └─ fake       for tests
//!   Links ───── creates, deletes, addresses and probes the interface for both
//! ```
//!
//! Invariant: opening an interface that an earlier run left keeps its address and, in the kernel,
//! its peers and sessions. Peers are changed one by one, never replaced as a whole.

mod choose;
#[cfg(test)]
pub(crate) mod fake;
mod kernel;
mod link;
mod userspace;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use meshctl_core::key::{PrivateKey, PublicKey};
use meshctl_core::mesh::{DevicePeer, PeerConfig};

pub(crate) use choose::{Choice, open};
pub(crate) use link::Links;

/// Fits every underlay of 1500 bytes, IPv6 included.
pub(crate) const MTU: u32 = 1420;
pub(crate) const KEEPALIVE_SECS: u16 = 25;
/// WireGuard repeats an unanswered handshake after 5 s. With a peer that has just been configured one
/// lost packet must not cost that: both engines begin anew after this time, for so long.
const EAGER_RETRY: Duration = Duration::from_millis(500);
const EAGER_MAX: Duration = Duration::from_secs(4);

#[derive(Debug, thiserror::Error)]
pub(crate) enum WgError {
    #[error("could not read or change network interfaces: run as root, or with CAP_NET_ADMIN")]
    Link(#[source] std::io::Error),
    #[error(
        "interface {name} exists and is no WireGuard or TUN device: choose another --interface"
    )]
    NotAMeshInterface { name: String },
    #[error(
        "interface {name} was made by the {has} engine and {wanted} is asked for: remove it first with `meshctl leave` or `ip link del {name}`"
    )]
    OtherEngine { name: String, has: &'static str, wanted: &'static str },
    #[error("interface {name} belongs to something else ({why}): choose another --interface")]
    NotOurs { name: String, why: &'static str },
    #[error("this kernel has no WireGuard: load the module, or use --engine userspace")]
    NoKernelSupport,
    #[error(
        "could not open the TUN device {name}: is another daemon running on it, or /dev/net/tun missing?"
    )]
    Tun {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("could not configure WireGuard on {name}: is UDP port {port} taken?")]
    Configure {
        name: String,
        port: u16,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("could not change or read the peers of {name}")]
    Peers {
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What an engine is told once.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) interface: String,
    pub(crate) private_key: PrivateKey,
    pub(crate) listen_port: u16,
    /// Move packets in bulk where the kernel can; only the userspace engine asks.
    pub(crate) offload: bool,
}

/// The tunnel device.
#[async_trait]
pub(crate) trait WireGuard: Send {
    /// `kernel` or `userspace`.
    fn engine(&self) -> &'static str;

    /// Adds a peer or changes it in place; its session is kept.
    async fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), WgError>;

    async fn remove_peer(&mut self, key: &PublicKey) -> Result<(), WgError>;

    async fn peers(&mut self) -> Result<Vec<DevicePeer>, WgError>;

    /// Does what has become due; called ten times a second.
    async fn tend(&mut self) -> Result<(), WgError> {
        Ok(())
    }

    /// Ends what runs in this process; the interface stays.
    async fn stop(self: Box<Self>);
}

/// A dual-stack socket reports IPv4 peers as mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
