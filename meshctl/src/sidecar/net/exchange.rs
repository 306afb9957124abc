//! The exchange socket: HELLO, REPLY, GOODBYE by unicast on the mesh's own port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use meshctl_core::derive::MULTICAST_PORT;
use meshctl_core::mesh::Path;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{Datagram, receive};

pub(crate) struct Exchange {
    socket: Arc<UdpSocket>,
    is_v6: bool,
}

impl Exchange {
    /// Binds the port on every address, without sharing it: a second daemon must fail.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let (socket, is_v6) = match bind(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port) {
            Ok(socket) => (socket, true),
            // IPv6 may be switched off.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                (bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)?, false)
            }
            Err(error) => return Err(error),
        };
        Ok(Self { socket: Arc::new(socket), is_v6 })
    }

    pub(crate) fn listen(&self, to: mpsc::Sender<Datagram>) -> tokio::task::JoinHandle<()> {
        let socket = Arc::clone(&self.socket);
        tokio::spawn(async move { receive(&socket, Path::Exchange, &to).await })
    }

    /// Sends without waiting; a datagram that cannot go is repeated by its timer.
    pub(crate) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let mapped = match to.ip() {
            IpAddr::V4(ip) if self.is_v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            IpAddr::V4(_) | IpAddr::V6(_) => to,
        };
        // Past tokio, which would not send before its reactor has looked at the socket.
        let socket = socket2::SockRef::from(&*self.socket);
        if let Err(error) = socket.send_to(datagram, &mapped.into()) {
            tracing::debug!(%error, %to, "a datagram could not be sent");
        }
    }
}

fn bind(ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if ip.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    if port == MULTICAST_PORT {
        // One mesh in a thousand has its exchange there, beside the announces.
        socket.set_reuse_address(true)?;
    }
    // The host may have joined groups by other sockets: those are not ours to hear.
    socket.set_multicast_all_v4(false)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fresh_socket_sends_at_once() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        // Nothing is awaited in between: the first HELLO of a node is the one that counts.
        Exchange::bind(0).unwrap().send(receiver.local_addr().unwrap(), b"hello");
        let mut heard = [0; 5];
        assert_eq!(receiver.recv(&mut heard).unwrap(), 5);
        assert_eq!(&heard, b"hello");
    }
}
