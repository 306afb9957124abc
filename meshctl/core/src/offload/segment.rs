//! Splits what the kernel hands over in one piece, and completes checksums it left to us.

use super::checksum::{Sum, seal_v4};
use super::header::{HEADER_LEN, Header, Pieces};
use super::{
    CWR, FIN, Malformed, PSH, TCP, TCP_CHECKSUM_AT, UDP, UDP_CHECKSUM_AT, UDP_HEADER_LEN,
    V6_HEADER_LEN, read_u16, read_u32, short, write_u16,
};

/// The packets that one read of the device stands for.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    /// `None`: the packet is one already.
    layout: Option<Layout>,
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    is_v6: bool,
    protocol: u8,
    transport_at: usize,
    headers_len: usize,
    piece_len: usize,
}

/// Takes in what was read from the device: a header and a packet.
pub fn segment(read: &mut [u8]) -> Result<Segments<'_>, Malformed> {
    let header = Header::decode(read)?;
    let packet = &mut read[HEADER_LEN..];
    if header.pieces == Pieces::One {
        if header.needs_checksum {
            complete_checksum(packet, header)?;
        }
        return Ok(Segments { packet, layout: None });
    }
    let layout = Layout::of(packet, header)?;
    Ok(Segments { packet, layout: Some(layout) })
}

impl Layout {
    /// The kernel's own `headers_len` is not used: of a forwarded packet it may be any length.
    fn of(packet: &[u8], header: Header) -> Result<Self, Malformed> {
        let is_v6 = match packet.first().map(|byte| byte >> 4) {
            Some(4) => false,
            Some(6) => true,
            _ => return Err(Malformed::Unknown),
        };
        let protocol = match (header.pieces, is_v6) {
            (Pieces::TcpV4, false) | (Pieces::TcpV6, true) => TCP,
            (Pieces::Udp, _) => UDP,
            (Pieces::One | Pieces::TcpV4 | Pieces::TcpV6, _) => {
                return Err(Malformed::Contradiction);
            }
        };
        let transport_at = usize::from(header.checksum_start);
        let ip_len_min = if is_v6 { V6_HEADER_LEN } else { 20 };
        if transport_at < ip_len_min || header.piece_len == 0 {
            return Err(Malformed::Contradiction);
        }
        if !is_v6 && usize::from(packet[0] & 0x0f) * 4 != transport_at {
            return Err(Malformed::Contradiction);
        }
        let transport_len = if protocol == UDP {
            UDP_HEADER_LEN
        } else {
            let offset = packet.get(transport_at + 12).ok_or(Malformed::Short)?;
            usize::from(offset >> 4) * 4
        };
        if protocol == TCP && transport_len < 20 {
            return Err(Malformed::Contradiction);
        }
        let headers_len = transport_at + transport_len;
        if packet.len() <= headers_len {
            return Err(Malformed::Short);
        }
        let piece_len = usize::from(header.piece_len);
        if headers_len + piece_len > usize::from(u16::MAX) {
            return Err(Malformed::Contradiction);
        }
        Ok(Self { is_v6, protocol, transport_at, headers_len, piece_len })
    }
}

impl Segments<'_> {
    pub fn count(&self) -> usize {
        self.layout
            .map_or(1, |layout| (self.packet.len() - layout.headers_len).div_ceil(layout.piece_len))
    }

    /// The length of packet `index` in bytes.
    pub fn len_of(&self, index: usize) -> usize {
        let Some(layout) = self.layout else { return self.packet.len() };
        let payload_len = self.packet.len() - layout.headers_len;
        let left = payload_len.saturating_sub(index * layout.piece_len);
        layout.headers_len + left.min(layout.piece_len)
    }

    /// Writes packet `index` into `out`, which has its length.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        let Some(layout) = self.layout else {
            out.copy_from_slice(self.packet);
            return;
        };
        let Layout { is_v6, protocol, transport_at, headers_len, piece_len } = layout;
        let begin = headers_len + index * piece_len;
        let end = (begin + piece_len).min(self.packet.len());
        out[..headers_len].copy_from_slice(&self.packet[..headers_len]);
        out[headers_len..].copy_from_slice(&self.packet[begin..end]);
        let is_last = end == self.packet.len();

        let total_len = out.len();
        if is_v6 {
            write_u16(out, 4, short(total_len - V6_HEADER_LEN));
        } else {
            write_u16(out, 2, short(total_len));
            let id = read_u16(out, 4).wrapping_add(short(index));
            write_u16(out, 4, id);
            seal_v4(&mut out[..transport_at]);
        }
        let (ip, transport) = out.split_at_mut(transport_at);
        let checksum_at = if protocol == TCP {
            let passed = u32::try_from(index * piece_len).unwrap_or_default();
            let sequence = read_u32(transport, 4).wrapping_add(passed);
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            if index > 0 {
                transport[13] &= !CWR;
            }
            if !is_last {
                transport[13] &= !(FIN | PSH);
            }
            TCP_CHECKSUM_AT
        } else {
            let len = short(transport.len());
            write_u16(transport, 4, len);
            UDP_CHECKSUM_AT
        };
        write_u16(transport, checksum_at, 0);
        let sum = Sum::pseudo(ip, protocol, short(transport.len())).add(transport);
        write_u16(transport, checksum_at, sum.finish());
    }
}

/// The field holds the pseudo header's sum; the rest is added.
fn complete_checksum(packet: &mut [u8], header: Header) -> Result<(), Malformed> {
    let start = usize::from(header.checksum_start);
    let offset = usize::from(header.checksum_offset);
    let summed = packet.get_mut(start..).ok_or(Malformed::Short)?;
    if summed.len() < offset + 2 {
        return Err(Malformed::Short);
    }
    let sum = Sum::default().add(summed);
    write_u16(summed, offset, sum.finish());
    Ok(())
}
