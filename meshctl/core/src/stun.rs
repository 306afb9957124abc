//! The two STUN messages that tell a host its public address (RFC 5389): a binding request and its
//! success response.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub const TRANSACTION_LEN: usize = 12;

const HEADER_LEN: usize = 20;
const MAGIC: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FAMILY_IPV4: u8 = 0x01;

/// What one server of the user's said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StunAnswer {
    pub server: IpAddr,
    /// Where it saw the request come from.
    pub mapped: SocketAddr,
}

/// A binding request. The transaction must be random: it is all that proves an answer.
pub fn request(transaction: [u8; TRANSACTION_LEN]) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..2].copy_from_slice(&BINDING_REQUEST);
    bytes[4..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&transaction);
    bytes
}

/// The IPv4 address in the answer to that request; `None` when it is no such answer.
pub fn mapped_address(datagram: &[u8], transaction: [u8; TRANSACTION_LEN]) -> Option<SocketAddr> {
    let (header, rest) = datagram.split_at_checked(HEADER_LEN)?;
    let is_answer =
        header[..2] == BINDING_SUCCESS && header[4..8] == MAGIC && header[8..] == transaction;
    let mut attributes = rest.get(..usize::from(u16_at(header, 2)?)).filter(|_| is_answer)?;
    let mut plain = None;
    while let Some((head, after)) = attributes.split_at_checked(4) {
        let (kind, len) = (u16_at(head, 0)?, usize::from(u16_at(head, 2)?));
        let value = after.get(..len)?;
        match kind {
            XOR_MAPPED_ADDRESS => return address(value, MAGIC),
            MAPPED_ADDRESS => plain = address(value, [0; 4]),
            _ => {}
        }
        attributes = after.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    plain
}

fn address(value: &[u8], mask: [u8; 4]) -> Option<SocketAddr> {
    let [_, FAMILY_IPV4, port @ .., a, b, c, d] = value else { return None };
    let port = u16_at(port, 0).filter(|_| port.len() == 2)? ^ u16_at(&mask, 0)?;
    let ip = Ipv4Addr::from([a ^ mask[0], b ^ mask[1], c ^ mask[2], d ^ mask[3]]);
    Some(SocketAddr::new(ip.into(), port))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTION: [u8; 12] =
        [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
    /// The software name and the address of RFC 5769 §2.2, without the integrity attributes.
    const ANSWER: &str = "0101001c2112a442b7e7a701bc34d686fa87dfae\
         8022000b7465737420766563746f7220002000080001a147e112a643";

    fn answer() -> Vec<u8> {
        hex::decode(ANSWER).unwrap()
    }

    #[test]
    fn a_request_is_a_bare_header() {
        assert_eq!(hex::encode(request(TRANSACTION)), "000100002112a442b7e7a701bc34d686fa87dfae");
    }

    #[test]
    fn the_sample_of_the_standard_is_read() {
        let expected = Some("192.0.2.1:32853".parse().unwrap());
        assert_eq!(mapped_address(&answer(), TRANSACTION), expected);
        let mut plain = answer();
        plain[36..].copy_from_slice(&[0, 1, 0, 8, 0, 1, 0x80, 0x55, 192, 0, 2, 1]);
        assert_eq!(mapped_address(&plain, TRANSACTION), expected);
    }

    #[test]
    fn what_is_no_answer_to_the_request_is_none() {
        assert_eq!(mapped_address(&answer(), [0; 12]), None);
        for len in 0..answer().len() {
            assert_eq!(mapped_address(&answer()[..len], TRANSACTION), None, "{len}");
        }
        // Type, magic, an error response, a family, lengths that lead outside.
        for (at, byte) in [(0, 0), (1, 0x11), (4, 0), (3, 0xff), (23, 0xf0), (39, 7), (41, 2)] {
            let mut bytes = answer();
            bytes[at] = byte;
            assert_eq!(mapped_address(&bytes, TRANSACTION), None, "byte {at}");
        }
    }
}
