//! What stands before each packet: `struct virtio_net_hdr`, in the processor's byte order.

use super::Malformed;

pub const HEADER_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
/// Says that TCP's congestion flags are in use; how a packet is split tells them by themselves.
const ECN: u8 = 0x80;

/// How the pieces of a packet are to be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pieces {
    One,
    TcpV4,
    TcpV6,
    Udp,
}

/// What the kernel says of a packet, or is told of one. Lengths and places are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub(super) pieces: Pieces,
    /// The checksum at `checksum_start + checksum_offset` holds the pseudo header's sum only.
    pub(super) needs_checksum: bool,
    pub(super) headers_len: u16,
    /// The payload of each piece but the last, which may be shorter.
    pub(super) piece_len: u16,
    pub(super) checksum_start: u16,
    pub(super) checksum_offset: u16,
}

impl Header {
    /// Of a packet that is complete as it is.
    pub const PLAIN: Self = Self {
        pieces: Pieces::One,
        needs_checksum: false,
        headers_len: 0,
        piece_len: 0,
        checksum_start: 0,
        checksum_offset: 0,
    };

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let pieces = match self.pieces {
            Pieces::One => 0,
            Pieces::TcpV4 => 1,
            Pieces::TcpV6 => 4,
            Pieces::Udp => 5,
        };
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = if self.needs_checksum { NEEDS_CHECKSUM } else { 0 };
        bytes[1] = pieces;
        let lengths = [self.headers_len, self.piece_len, self.checksum_start, self.checksum_offset];
        for (at, length) in (2..).step_by(2).zip(lengths) {
            bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(Malformed::Short)?;
        let length = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let pieces = match bytes[1] & !ECN {
            0 => Pieces::One,
            1 => Pieces::TcpV4,
            4 => Pieces::TcpV6,
            5 => Pieces::Udp,
            _ => return Err(Malformed::Unknown),
        };
        Ok(Self {
            pieces,
            needs_checksum: bytes[0] & NEEDS_CHECKSUM != 0,
            headers_len: length(2),
            piece_len: length(4),
            checksum_start: length(6),
            checksum_offset: length(8),
        })
    }
}
