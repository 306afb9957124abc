//! What a mesh keeps of its first secret when the secret changes: subnet, IPv6 prefix, multicast
//! group and exchange port. It tells where to look for the mesh, and opens nothing.
//!
//! Body: subnet bytes (2) · IPv6 prefix without its `fd` (7) · last two bytes of the multicast group
//! (2) · exchange port, big-endian (2); as base64url without padding.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{GOSSIP_PORT_FIRST, GOSSIP_PORTS, MeshKeys};

const LEN: usize = 13;

/// Text that is no pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the `pin` of the mesh secret is damaged: take the line that `meshctl init` printed whole")]
pub struct BadPin;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin([u8; LEN]);

impl Pin {
    pub fn of(keys: &MeshKeys) -> Self {
        let mut bytes = [0; LEN];
        bytes[..2].copy_from_slice(&keys.subnet_bytes);
        bytes[2..9].copy_from_slice(&keys.v6_prefix[1..]);
        bytes[9..11].copy_from_slice(&keys.multicast_group.octets()[2..]);
        bytes[11..].copy_from_slice(&keys.gossip_port.to_be_bytes());
        Self(bytes)
    }

    pub(super) fn apply(self, keys: &mut MeshKeys) {
        let [s0, s1, prefix @ .., m0, m1, _, _] = self.0;
        keys.subnet_bytes = [s0, s1];
        keys.v6_prefix[1..].copy_from_slice(&prefix);
        keys.multicast_group = Ipv4Addr::new(239, 192, m0, m1);
        keys.gossip_port = self.gossip_port();
    }

    fn gossip_port(self) -> u16 {
        u16::from_be_bytes([self.0[11], self.0[12]])
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadPin)?;
        let pin = Self(bytes.try_into().map_err(|_| BadPin)?);
        let ports = GOSSIP_PORT_FIRST..GOSSIP_PORT_FIRST + GOSSIP_PORTS;
        if ports.contains(&pin.gossip_port()) { Ok(pin) } else { Err(BadPin) }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
