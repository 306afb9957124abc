//! ICMP echo: requests out, replies in, over a socket that is bound to one interface.

mod packet;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Longest answer that is read.
const PACKET_MAX_BYTES: usize = 9_216;

/// Asks one address.
pub(super) struct Echo {
    /// Not UDP: tokio has no socket of its own for ICMP, and this one reads and writes any datagram.
    socket: UdpSocket,
    is_v6: bool,
    /// The kernel gives a raw IPv4 socket the IP header too, and the answers to others' requests.
    is_raw: bool,
    id: u16,
}

impl Echo {
    /// Opens a socket to `ip`, by way of `interface` alone if one is named. A datagram socket where
    /// `net.ipv4.ping_group_range` allows it, else a raw one, which needs `CAP_NET_RAW`.
    pub(super) fn open(ip: IpAddr, interface: Option<&str>) -> io::Result<Self> {
        let (domain, protocol) = match ip {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, is_raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
        };
        if let Some(interface) = interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        socket.set_nonblocking(true)?;
        socket.connect(&SocketAddr::new(ip, 0).into())?;
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, is_v6: ip.is_ipv6(), is_raw, id: u16::from_be_bytes(id) })
    }

    /// Sends one request of `len` bytes in all, the IP header included. Linux forbids routers to cut
    /// it up, as long as it fits what is known of the path.
    pub(super) async fn send(&self, sequence: u16, len: usize) -> io::Result<()> {
        let request = packet::request(self.is_v6, self.id, sequence, len);
        self.socket.send(&request).await.map(|_| ())
    }

    /// The sequence number of the next reply; `None` when there is none until `deadline`.
    pub(super) async fn reply(&self, deadline: Instant) -> io::Result<Option<u16>> {
        let mut buffer = [0; PACKET_MAX_BYTES];
        loop {
            let Ok(received) = timeout_at(deadline, self.socket.recv(&mut buffer)).await else {
                return Ok(None);
            };
            let id = self.is_raw.then_some(self.id);
            let has_header = self.is_raw && !self.is_v6;
            let bytes = &buffer[..received?];
            if let Some(sequence) = packet::reply(bytes, self.is_v6, has_header, id) {
                return Ok(Some(sequence));
            }
        }
    }

    /// One request of `len` bytes; how long its answer took, `None` when there is none in `max`.
    pub(super) async fn ask(
        &self,
        sequence: u16,
        len: usize,
        max: Duration,
    ) -> io::Result<Option<Duration>> {
        let start = Instant::now();
        self.send(sequence, len).await?;
        while let Some(answered) = self.reply(start + max).await? {
            if answered == sequence {
                return Ok(Some(start.elapsed()));
            }
        }
        Ok(None)
    }

    /// What the kernel knows of the path: no larger packet goes through in one piece.
    pub(super) fn path_mtu(&self) -> Option<usize> {
        if self.is_v6 {
            return None;
        }
        let mtu = getsockopt(&self.socket, sockopt::IpMtu).ok()?;
        usize::try_from(mtu).ok()
    }
}
