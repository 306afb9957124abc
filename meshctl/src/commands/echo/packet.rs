//! Echo requests and replies as bytes (RFC 792, RFC 4443).

const HEADER_BYTES: usize = 8;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const REQUEST: (u8, u8) = (8, 128);
const REPLY: (u8, u8) = (0, 129);

/// A request that is `len` bytes long with its IP header, or as short as one can be.
pub(super) fn request(is_v6: bool, id: u16, sequence: u16, len: usize) -> Vec<u8> {
    let ip_header = if is_v6 { IPV6_HEADER_BYTES } else { IPV4_HEADER_BYTES };
    let mut bytes = vec![0; len.saturating_sub(ip_header).max(HEADER_BYTES)];
    bytes[0] = if is_v6 { REQUEST.1 } else { REQUEST.0 };
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes[6..8].copy_from_slice(&sequence.to_be_bytes());
    if !is_v6 {
        // The kernel fills in that of ICMPv6, which covers the addresses too.
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// The sequence number of a reply; `None` for whatever else comes. With `id` only a reply to that
/// id counts: a datagram socket's kernel sorts them itself.
pub(super) fn reply(bytes: &[u8], is_v6: bool, has_header: bool, id: Option<u16>) -> Option<u16> {
    let header = if has_header { usize::from(bytes.first()? & 0x0f) * 4 } else { 0 };
    let message = bytes.get(header..)?;
    let wanted = if is_v6 { REPLY.1 } else { REPLY.0 };
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let is_ours = *message.first()? == wanted && id.is_none_or(|id| number(4) == Some(id));
    if is_ours { number(6) } else { None }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or_default();
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_length_and_a_checksum_that_adds_up() {
        for (len, expected) in [(84, 64), (1480, 1460), (0, 8), (29, 9)] {
            let bytes = request(false, 0x1234, 7, len);
            assert_eq!(bytes.len(), expected);
            assert_eq!(checksum(&bytes), 0, "{len}");
        }
        assert_eq!(request(true, 1, 2, 104)[..8], [128, 0, 0, 0, 0, 1, 0, 2]);
        assert_eq!(request(true, 1, 2, 104).len(), 64);
    }

    #[test]
    fn replies_are_told_from_everything_else() {
        let v4 = [0, 0, 0, 0, 0x12, 0x34, 0, 7];
        let with_header = [&[0x45][..], &[0; 19], &v4].concat();
        let with_options = [&[0x46][..], &[0; 23], &v4].concat();
        let v6 = [129, 0, 0, 0, 0x12, 0x34, 0, 9];
        for (bytes, is_v6, has_header, id, expected) in [
            (&v4[..], false, false, None, Some(7)),
            (&with_header, false, true, Some(0x1234), Some(7)),
            (&with_options, false, true, Some(0x1234), Some(7)),
            (&with_header, false, true, Some(0x1235), None),
            (&v6, true, false, None, Some(9)),
            (&v6, false, false, None, None),
            (&v4[..7], false, false, None, None),
            (&[0x4f], false, true, Some(1), None),
            (&[], false, true, Some(1), None),
            (&request(false, 1, 1, 84), false, false, None, None),
        ] {
            assert_eq!(reply(bytes, is_v6, has_header, id), expected, "{bytes:?}");
        }
    }
}
