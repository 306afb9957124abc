//! LAN discovery: one group, joined and spoken to on every suitable interface by name.
//!
//! Nothing is left to the default route: a host without one cannot join or send on 0.0.0.0.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use meshctl_core::derive::MULTICAST_PORT;
use meshctl_core::mesh::Path;
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::interfaces::{LanAddress, lan_addresses};
use super::{Datagram, receive};

pub(crate) struct Multicast {
    group: Ipv4Addr,
    mesh_interface: String,
    listener: Arc<UdpSocket>,
    /// One socket for each interface that the group is joined on. Not tokio's: one of those cannot
    /// send before its reactor has looked at it, and the first announce is the one that counts.
    senders: BTreeMap<LanAddress, std::net::UdpSocket>,
}

impl Multicast {
    pub(crate) fn bind(group: Ipv4Addr, mesh_interface: &str) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        // Two meshes on one host share the port.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(1 << 20)?;
        // To the group and nothing else: no unicast datagram passes for an announce, other meshes
        // are not heard, and the port stays free for whoever else has it.
        socket.bind(&SocketAddrV4::new(group, MULTICAST_PORT).into())?;
        Ok(Self {
            group,
            mesh_interface: mesh_interface.to_owned(),
            listener: Arc::new(UdpSocket::from_std(socket.into())?),
            senders: BTreeMap::new(),
        })
    }

    pub(crate) fn listen(&self, to: mpsc::Sender<Datagram>) -> tokio::task::JoinHandle<()> {
        let socket = Arc::clone(&self.listener);
        tokio::spawn(async move { receive(&socket, Path::Lan, &to).await })
    }

    /// Follows the host's interfaces; returns whether anything changed.
    pub(crate) fn rescan(&mut self) -> bool {
        let present = match lan_addresses(&self.mesh_interface) {
            Ok(present) => present,
            Err(error) => {
                tracing::warn!(%error, "the interfaces cannot be listed");
                return false;
            }
        };
        let known: BTreeSet<LanAddress> = self.senders.keys().cloned().collect();
        for gone in known.difference(&present) {
            tracing::info!(interface = gone.interface, address = %gone.address, "left the LAN");
            self.senders.remove(gone);
        }
        let mut changed = known.difference(&present).next().is_some();
        for new in present.difference(&known) {
            match self.join(new) {
                Ok(sender) => {
                    tracing::info!(interface = new.interface, address = %new.address, "joined the LAN");
                    self.senders.insert(new.clone(), sender);
                    changed = true;
                }
                Err(error) => tracing::debug!(%error, interface = new.interface, "cannot join"),
            }
        }
        changed
    }

    /// The interfaces on which the group is joined.
    pub(crate) fn joined(&self) -> impl Iterator<Item = &LanAddress> {
        self.senders.keys()
    }

    /// Sends on every interface; `seal` gives each its own datagram, for a nonce counts once.
    pub(crate) fn send(&self, mut seal: impl FnMut() -> Vec<u8>) {
        let to = SocketAddr::from((self.group, MULTICAST_PORT));
        for (lan, sender) in &self.senders {
            if let Err(error) = sender.send_to(&seal(), to) {
                tracing::debug!(%error, interface = lan.interface, "an announce was not sent");
            }
        }
    }

    fn join(&self, lan: &LanAddress) -> io::Result<std::net::UdpSocket> {
        let index = nix::net::if_::if_nametoindex(lan.interface.as_str())?;
        let listener = socket2::SockRef::from(&*self.listener);
        let joined =
            listener.join_multicast_v4_n(&self.group, &InterfaceIndexOrAddress::Index(index));
        match joined {
            // Joined already, under an address that the interface had before.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => other?,
        }
        let sender = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        sender.set_nonblocking(true)?;
        sender.bind(&SocketAddrV4::new(lan.address, 0).into())?;
        sender.set_multicast_if_v4(&lan.address)?;
        sender.set_multicast_ttl_v4(1)?;
        sender.set_multicast_loop_v4(true)?;
        Ok(sender.into())
    }
}
