//! The tunnel's UDP socket: equal datagrams to one peer leave as one, which the kernel or the
//! network card cuts up (UDP GSO, Linux 4.18). Receiving in bulk (UDP GRO, recvmmsg) is gotatun's.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gotatun::packet::Packet;
use gotatun::udp::socket::{UdpSocket, UdpSocketFactory};
use gotatun::udp::{UdpSend, UdpTransportFactory, UdpTransportFactoryParams};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use tokio::io::Interest;

/// Datagrams that are sent at once.
const BATCH_MAX: usize = 256;
/// Of one run: the kernel's `UDP_MAX_SEGMENTS` before Linux 6.9.
const RUN_MAX: usize = 64;
/// Of one run: what an IPv4 datagram holds, less its headers.
const RUN_BYTES_MAX: usize = 65_507;
/// What gotatun's own socket sends at once.
const SINGLES_MAX: usize = 100;
/// Room for bursts of several bulk packets; the kernel's usual limit holds three of them.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Opens the socket.
pub(super) struct Factory {
    pub(super) bulk: bool,
}

impl UdpTransportFactory for Factory {
    type Send = Sender;
    type Recv = UdpSocket;

    async fn bind(
        &mut self,
        params: &UdpTransportFactoryParams,
    ) -> io::Result<(Self::Send, Self::Recv)> {
        let (socket, receiver) = UdpSocketFactory::default().bind(params).await?;
        let fd = socket.as_fd();
        // Both are a matter of speed; in a container they may be refused.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES);
        let _ = setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES);
        // An older kernel would ignore the request for a run and send it as one datagram.
        let granted = setsockopt(&fd, sockopt::UdpGsoSegment, &0);
        if let (true, Err(errno)) = (self.bulk, granted) {
            tracing::info!(%errno, "this kernel sends datagrams one by one");
        }
        let joins = self.bulk && granted.is_ok();
        Ok((Sender { socket, joins: Arc::new(AtomicBool::new(joins)) }, receiver))
    }
}

#[derive(Clone)]
pub(super) struct Sender {
    socket: UdpSocket,
    joins: Arc<AtomicBool>,
}

#[derive(Default)]
pub(super) struct Buffers {
    singles: <UdpSocket as UdpSend>::SendManyBuf,
}

impl UdpSend for Sender {
    type SendManyBuf = Buffers;

    async fn send_to(&self, packet: Packet, destination: SocketAddr) -> io::Result<()> {
        self.socket.send_to(packet, destination).await
    }

    fn max_number_of_packets_to_send(&self) -> usize {
        BATCH_MAX
    }

    async fn send_many_to(
        &self,
        buffers: &mut Buffers,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        let mut singles = Vec::new();
        while !packets.is_empty() {
            let len = if self.joins.load(Ordering::Relaxed) { run_of(packets) } else { 1 };
            if len > 1 {
                // What came before goes first.
                self.send_singles(buffers, &mut singles).await;
                if self.send_run(&packets[..len]).await {
                    packets.drain(..len);
                    continue;
                }
            }
            singles.extend(packets.drain(..len));
        }
        self.send_singles(buffers, &mut singles).await;
        Ok(())
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        UdpSend::local_addr(&self.socket)
    }

    fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        self.socket.set_fwmark(mark)
    }
}

impl Sender {
    /// Sends a run as one; `false` when it must go singly.
    async fn send_run(&self, run: &[(Packet, SocketAddr)]) -> bool {
        let Some((first, destination)) = run.first() else { return true };
        let Ok(segment_len) = u16::try_from(first.len()) else { return false };
        let parts: Vec<IoSlice<'_>> = run.iter().map(|(packet, _)| IoSlice::new(packet)).collect();
        let to = SockaddrStorage::from(*destination);
        let socket = self.socket.socket();
        let sent = socket.async_io(Interest::WRITABLE, || {
            let control = [ControlMessage::UdpGsoSegments(&segment_len)];
            let flags = MsgFlags::MSG_DONTWAIT;
            Ok(sendmsg(socket.as_raw_fd(), &parts, &control, flags, Some(&to))?)
        });
        match sent.await.map_err(|error| error.raw_os_error().map(Errno::from_raw)) {
            // The way to this peer is narrower than the datagrams: they are to be fragmented.
            Err(Some(Errno::EINVAL | Errno::EMSGSIZE)) => false,
            // The way out cannot do it at all: no checksums by the network card, or no GSO.
            Err(Some(errno @ (Errno::EIO | Errno::EOPNOTSUPP | Errno::ENOPROTOOPT))) => {
                tracing::info!(%errno, "datagrams are sent one by one from now on");
                self.joins.store(false, Ordering::Relaxed);
                false
            }
            // Unreachable, or refused by a firewall: lost as single ones would be.
            Ok(_) | Err(_) => true,
        }
    }

    async fn send_singles(&self, buffers: &mut Buffers, singles: &mut Vec<(Packet, SocketAddr)>) {
        while !singles.is_empty() {
            let rest = singles.split_off(singles.len().min(SINGLES_MAX));
            let mut now = std::mem::replace(singles, rest);
            if let Err(error) = self.socket.send_many_to(&mut buffers.singles, &mut now).await {
                tracing::trace!(%error, "datagrams could not be sent");
            }
        }
    }
}

/// How many of the first datagrams may leave as one: to one peer, all of one length, but the last,
/// which may be shorter.
fn run_of(packets: &[(Packet, SocketAddr)]) -> usize {
    let Some((first, destination)) = packets.first() else { return 0 };
    let len_max = (RUN_BYTES_MAX / first.len().max(1)).clamp(1, RUN_MAX);
    let mut len = 1;
    for (packet, to) in packets.iter().skip(1).take(len_max - 1) {
        if to != destination || packet.len() > first.len() || packet.is_empty() {
            break;
        }
        len += 1;
        if packet.len() < first.len() {
            break;
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_of_one_peer_and_one_length() {
        let run = |lens: &[(usize, u16)]| {
            let packets: Vec<(Packet, SocketAddr)> = lens
                .iter()
                .map(|(len, port)| {
                    let bytes = vec![0_u8; *len];
                    (Packet::copy_from(bytes.as_slice()), SocketAddr::from(([192, 0, 2, 1], *port)))
                })
                .collect();
            run_of(&packets)
        };
        assert_eq!(run(&[]), 0);
        assert_eq!(run(&[(1452, 1)]), 1);
        assert_eq!(run(&[(1452, 1), (1452, 1), (1452, 1)]), 3);
        assert_eq!(run(&[(1452, 1), (1452, 2)]), 1, "another peer");
        assert_eq!(run(&[(96, 1), (1452, 1)]), 1, "a longer one");
        assert_eq!(run(&[(1452, 1), (96, 1), (96, 1)]), 2, "a shorter one is the last");
        assert_eq!(run(&[(1452, 1); 100]), 45, "64 KiB in all");
        assert_eq!(run(&[(96, 1); 100]), 64);
    }
}
