//! What the secret alone decides: keys, subnet, ports, multicast group.
//!
//! Every formula works on the *text* of the secret: HKDF-SHA256 without salt, or plain SHA-256.

mod address;
mod pair;
mod pin;

use std::net::Ipv4Addr;

use hkdf::Hkdf;
use ipnet::Ipv6Net;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use address::{BadSubnet, MeshSubnet, mesh_ipv6};
pub use pair::{pair_id, pair_seed, relay_index, relay_weight};
pub use pin::{BadPin, Pin};

use crate::secret::Secret;

/// Where LAN announces go; the group is the mesh's own, the port is fixed.
pub const MULTICAST_PORT: u16 = 51_830;
const GOSSIP_PORT_FIRST: u16 = 51_821;
const GOSSIP_PORTS: u16 = 1000;

/// All that the daemon needs of the secret.
#[derive(Clone)]
pub struct MeshKeys {
    pub secret: Secret,
    pub network_id: [u8; 20],
    pub gossip_key: Zeroizing<[u8; 32]>,
    pub psk: Zeroizing<[u8; 32]>,
    pub subnet_bytes: [u8; 2],
    pub v6_prefix: [u8; 8],
    pub multicast_group: Ipv4Addr,
    pub gossip_port: u16,
}

impl MeshKeys {
    /// What is pinned by an earlier secret of the same mesh stays as it was.
    pub fn derive(secret: &Secret) -> Self {
        let mut keys = Self::of_text(secret);
        if let Some(pin) = secret.pin() {
            pin.apply(&mut keys);
        }
        keys
    }

    fn of_text(secret: &Secret) -> Self {
        let mut v6_prefix = [0xfd; 8];
        v6_prefix[1..].copy_from_slice(&hkdf::<7>(secret, "wgmesh-ipv6-prefix-v1"));
        let [m0, m1, _, _] = hkdf::<4>(secret, "wgmesh-mcast-v1");
        let port_offset = u16::from_be_bytes(hkdf(secret, "wgmesh-gossip-port-v1")) % GOSSIP_PORTS;
        Self {
            secret: secret.clone(),
            network_id: first_bytes(&Sha256::digest(secret.bytes())),
            gossip_key: Zeroizing::new(hkdf(secret, "wgmesh-gossip-v1")),
            psk: Zeroizing::new(hkdf(secret, "wgmesh-wg-psk-v1")),
            subnet_bytes: hkdf(secret, "wgmesh-subnet-v1"),
            v6_prefix,
            multicast_group: Ipv4Addr::new(239, 192, m0, m1),
            gossip_port: GOSSIP_PORT_FIRST + port_offset,
        }
    }

    /// A name for this mesh that can be logged: it tells nothing about the keys.
    pub fn mesh_id(&self) -> String {
        hex::encode(&self.network_id[..6])
    }

    /// The prefix of the mesh's IPv6 addresses.
    pub fn v6_net(&self) -> Ipv6Net {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&self.v6_prefix);
        Ipv6Net::new_assert(octets.into(), 64)
    }

    pub fn probe_port(&self) -> u16 {
        self.gossip_port + 2000
    }

    /// The subnet that is used unless the user names another.
    pub fn default_subnet(&self) -> MeshSubnet {
        MeshSubnet::Derived(self.subnet_bytes)
    }
}

/// Tells secrets apart, and nothing of them.
pub(crate) fn secret_id(secret: &Secret) -> [u8; 8] {
    hkdf(secret, "knit-mesh-secret-id-v1")
}

fn hkdf<const N: usize>(secret: &Secret, info: &str) -> [u8; N] {
    let mut output = [0; N];
    let expanded = Hkdf::<Sha256>::new(None, secret.bytes()).expand(info.as_bytes(), &mut output);
    debug_assert!(expanded.is_ok(), "no key here is longer than HKDF allows");
    output
}

fn first_bytes<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut output = [0; N];
    output.copy_from_slice(&digest[..N]);
    output
}
