//! The sidecar's sockets: LAN multicast, the unicast exchange, the TCP probe, and STUN.

pub(crate) mod bench;
pub(crate) mod exchange;
pub(crate) mod interfaces;
pub(crate) mod multicast;
pub(crate) mod probe;
pub(crate) mod stun;

use std::net::SocketAddr;

use meshctl_core::mesh::Path;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// A datagram as it came in.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) path: Path,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

/// Hands datagrams on for ever. When the mesh cannot keep up, datagrams are dropped: every
/// message is repeated.
async fn receive(socket: &UdpSocket, path: Path, to: &mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; 65_536];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, from)) => {
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                let datagram = Datagram { path, from, bytes: buffer[..len].to_vec() };
                if let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send(datagram) {
                    return;
                }
            }
            // An earlier send met a closed port; the socket itself is well.
            Err(error) => {
                tracing::debug!(%error, ?path, "a datagram could not be received");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}
