//! How much can be announced: every message fits one unfragmented datagram, and the routes of a node
//! are in each of them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::event::Now;
use super::speech::DATAGRAM_MAX_BYTES;
use super::{Mesh, NatType};
use crate::envelope::{Kind, sealed_len};
use crate::message::{Announcement, Sent};

/// What an introducer keeps free beside an asker's IPv6 address, for it is to tell of one peer at
/// least: key, addresses and what it says of them, in bytes.
const KNOWN_PEER_BYTES: usize = 160;
/// What messages hold while the secret changes, in bytes.
const ACCEPTS_BYTES: usize = 40;

impl Mesh {
    /// How many of the routes to announce fit, in their order, in the longest message that this node
    /// may come to send.
    pub fn routes_that_fit(&self) -> usize {
        let mut message = self.longest_announcement();
        let routes = std::mem::take(&mut message.routable_networks);
        let mut free = if self.settings.introducer { KNOWN_PEER_BYTES } else { 0 };
        free += if message.kn.accepts.is_some() { 0 } else { ACCEPTS_BYTES };
        free += r#""routable_networks":[],"#.len();
        let mut len = self.finished_len(&message) + free;
        let fits = |route: &IpNet| {
            // With its quotes and a comma.
            len += route.to_string().len() + 3;
            sealed_len(Kind::Announce, len) <= DATAGRAM_MAX_BYTES
        };
        routes.iter().map(fits).take_while(|fits| *fits).count()
    }

    fn longest_announcement(&self) -> Announcement {
        let v4 = Ipv4Addr::BROADCAST;
        let asker = SocketAddr::from((Ipv6Addr::from(u128::MAX), u16::MAX));
        let now = Now { mono_ms: 0, unix: i64::from(u32::MAX) };
        let mut message = self.announcement(Sent::Announce, Some(asker), now);
        message.mesh_ip = v4.to_string();
        message.mesh_ipv6 = self.settings.ipv6.map(|_| Ipv6Addr::from(u128::MAX).to_string());
        message.wg_endpoint = format!("{v4}:{}", self.settings.listen_port);
        message.nat_type = Some(NatType::Symmetric.as_str());
        message.kn.peers = self.settings.introducer.then_some(1000);
        message
    }
}
