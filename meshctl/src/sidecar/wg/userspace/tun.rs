//! The TUN device: packets in bulk where the kernel offers that, else one by one.
//!
//! ```text
//!  kernel ──64 KiB at once──> read ──offload::segment──> packets of one MTU ──> gotatun
//!  kernel <──64 KiB at once── write_all <──offload::coalesce── queue <── gotatun
//! ```
//!
//! gotatun hands decrypted packets over one at a time, so they pass a queue: what has gathered
//! there while the last write was going on is joined.

use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use meshctl_core::offload::{self, HEADER_LEN};
use tokio::sync::{mpsc, watch};
use tun_rs::{AsyncDevice, DeviceBuilder};

/// Decrypted packets that may wait for the device.
const QUEUE_MAX: usize = 2048;
/// Packets that are looked through at once for what can be joined.
const BATCH_MAX: usize = 256;
/// The longest packet that the kernel hands over, with its header.
const READ_MAX: usize = HEADER_LEN + 65_536;
const MTU_POLL: Duration = Duration::from_secs(3);

/// An open, persistent TUN device.
pub(super) struct Tun {
    device: Arc<AsyncDevice>,
    mtu: MtuWatcher,
}

impl Tun {
    /// Makes the device, or attaches to the one that an earlier run left, whichever way that run
    /// used it: the kernel takes the framing anew from whoever attaches.
    pub(super) fn open(name: &str, offload: bool) -> io::Result<Self> {
        let device = match offload.then(|| build(name, true)) {
            Some(Ok(device)) => device,
            Some(Err(refusal)) => {
                let device = build(name, false)?;
                tracing::info!(%refusal, "this kernel moves packets of a TUN device one by one");
                device
            }
            None => build(name, false)?,
        };
        device.persist()?;
        let device = Arc::new(device);
        let (tell, mtu) = watch::channel(device.mtu()?);
        tokio::spawn(watch_mtu(Arc::downgrade(&device), tell));
        Ok(Self { device, mtu: mtu.into() })
    }

    /// Whether packets move in bulk.
    pub(super) fn is_bulk(&self) -> bool {
        self.device.tcp_gso()
    }

    pub(super) fn split(self) -> (Sender, Receiver) {
        let is_bulk = self.is_bulk();
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write_all(Arc::clone(&self.device), queued));
        let receiver = Receiver {
            device: self.device,
            mtu: self.mtu,
            is_bulk,
            buffer: vec![0; READ_MAX],
            packets: Vec::new(),
        };
        (Sender(queue), receiver)
    }
}

fn build(name: &str, offload: bool) -> io::Result<AsyncDevice> {
    let builder = DeviceBuilder::new().name(name).inherit_enable_state();
    builder.packet_information(false).offload(offload).build_async()
}

/// Nothing tells of a changed MTU but the device itself.
async fn watch_mtu(device: Weak<AsyncDevice>, tell: watch::Sender<u16>) {
    loop {
        tokio::time::sleep(MTU_POLL).await;
        let Some(mtu) = device.upgrade().and_then(|device| device.mtu().ok()) else { return };
        tell.send_if_modified(|last| std::mem::replace(last, mtu) != mtu);
    }
}

/// What goes to the kernel.
pub(super) struct Sender(mpsc::Sender<Packet>);

impl IpSend for Sender {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.send(packet.into_bytes()).await.map_err(gone)
    }
}

/// Ends when the device does, or nobody sends any more.
async fn write_all(device: Arc<AsyncDevice>, mut queue: mpsc::Receiver<Packet>) {
    let mut packets: Vec<Writable> = Vec::with_capacity(BATCH_MAX);
    let mut raw = Vec::with_capacity(BATCH_MAX);
    while queue.recv_many(&mut raw, BATCH_MAX).await > 0 {
        packets.extend(raw.drain(..).map(Writable));
        let written = if device.tcp_gso() {
            write_joined(&device, &mut packets).await
        } else {
            write_single(&device, &packets).await
        };
        if written.is_err() {
            return;
        }
        packets.clear();
    }
}

async fn write_joined(device: &AsyncDevice, packets: &mut [Writable]) -> io::Result<()> {
    for group in offload::coalesce(packets) {
        let header = group.header.encode();
        let mut parts = Vec::with_capacity(2 + group.tail.len());
        parts.push(IoSlice::new(&header));
        parts.push(IoSlice::new(&packets[group.head].0));
        let rest = group.tail.iter().map(|index| &packets[*index].0[group.payload_at..]);
        parts.extend(rest.map(IoSlice::new));
        tolerate(device.send_vectored(&parts).await)?;
    }
    Ok(())
}

async fn write_single(device: &AsyncDevice, packets: &[Writable]) -> io::Result<()> {
    for packet in packets {
        tolerate(device.send(&packet.0).await)?;
    }
    Ok(())
}

/// One packet that the kernel refuses is that packet's loss; a device that is gone is the end.
fn tolerate(written: io::Result<usize>) -> io::Result<()> {
    match written {
        Err(error) if is_gone(&error) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "a packet could not be written to the TUN device");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let gone = [Errno::EBADF, Errno::EBADFD, Errno::ENODEV];
    gone.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// A packet whose headers may be rewritten.
struct Writable(Packet);

impl AsRef<[u8]> for Writable {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Writable {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What comes from the kernel.
pub(super) struct Receiver {
    device: Arc<AsyncDevice>,
    mtu: MtuWatcher,
    is_bulk: bool,
    buffer: Vec<u8>,
    packets: Vec<Packet<Ip>>,
}

impl IpRecv for Receiver {
    async fn recv<'a>(
        &'a mut self,
        pool: &mut PacketBufPool,
    ) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        let len = self.device.recv(&mut self.buffer).await?;
        self.packets.clear();
        if self.is_bulk {
            match offload::segment(&mut self.buffer[..len]) {
                Ok(segments) => {
                    let count = segments.count();
                    let packets = (0..count).filter_map(|index| {
                        let mut packet = packet_of(segments.len_of(index), pool);
                        segments.write(index, &mut packet);
                        packet.try_into_ip().ok()
                    });
                    self.packets.extend(packets);
                }
                Err(error) => tracing::debug!(%error, "a packet of the TUN device was dropped"),
            }
        } else {
            let mut packet = packet_of(len, pool);
            packet.copy_from_slice(&self.buffer[..len]);
            self.packets.extend(packet.try_into_ip().ok());
        }
        Ok(self.packets.drain(..))
    }

    fn mtu(&self) -> MtuWatcher {
        self.mtu.clone()
    }
}

/// A packet of `len` bytes; its content is whatever was there.
fn packet_of(len: usize, pool: &PacketBufPool) -> Packet {
    let mut packet = pool.get();
    packet.buf_mut().resize(len, 0);
    packet
}
