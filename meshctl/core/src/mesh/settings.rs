//! What does not change while a daemon runs.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net};

use super::{Successor, Trust};
use crate::derive::{MeshKeys, MeshSubnet};
use crate::key::PublicKey;

/// What the user asks for, and who this node is.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the user's")]
pub struct Settings {
    pub keys: MeshKeys,
    pub public_key: PublicKey,
    pub subnet: MeshSubnet,
    pub hostname: String,
    pub listen_port: u16,
    /// Differs from one start of the daemon to the next.
    pub boot: u64,
    /// What is told to the peers.
    pub routes: Vec<IpNet>,
    /// Where routes of peers are used; nowhere when empty.
    pub accept_routes: Vec<Ipv4Net>,
    pub lan: bool,
    /// Tell peers of each other through the tunnel too.
    pub gossip: bool,
    /// This node's mesh IPv6 address, should the host be able to have it.
    pub ipv6: Option<Ipv6Addr>,
    /// Use no IPv6 endpoints of peers.
    pub no_ipv6: bool,
    /// Introduce peers to each other, and relay between those that cannot meet.
    pub introducer: bool,
    /// Neither ask for introductions nor follow them.
    pub no_punching: bool,
    /// Relay to whoever is no introducer, also where a direct tunnel works.
    pub force_relay: bool,
    /// Whether this host can forward IPv6 from the mesh to the mesh.
    pub relays_ipv6: bool,
    /// Which authorities there are, and whether their word is needed.
    pub trust: Trust,
    /// The secret that an earlier run began to change to.
    pub successor: Option<Successor>,
}
