//! Packets in bulk, as Linux hands them to a TUN device and takes them from it.
//!
//! ```text
//!  device ──Header + up to 64 KiB──> segment ──packets of one MTU──> tunnel
//!  device <──Header + joined packets── coalesce <──packets of one MTU── tunnel
//! ```
//!
//! Safety: what is split and what is joined is byte for byte what plain packets would have carried,
//! and no packet overtakes another one of its flow. The format is `struct virtio_net_hdr` of
//! `linux/virtio_net.h`; how packets are split follows the kernel's `tcp_gso_segment`.

mod checksum;
mod coalesce;
mod header;
mod segment;
#[cfg(test)]
mod tests;

pub use coalesce::{Group, coalesce};
pub use header::{HEADER_LEN, Header};
pub use segment::{Segments, segment};

/// Why a packet of the device cannot be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the packet is shorter than its headers")]
    Short,
    #[error("the packet is of an unknown kind")]
    Unknown,
    #[error("the headers contradict each other")]
    Contradiction,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const V6_HEADER_LEN: usize = 40;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// A length inside one IP packet, which 16 bits hold.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
