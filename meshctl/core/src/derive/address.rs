//! Mesh addresses: from a public key, the secret and, after a clash, a nonce.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use super::first_bytes;
use crate::key::PublicKey;
use crate::secret::Secret;

/// A `--mesh-subnet` that cannot hold two nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mesh subnet {0} is too small: /30 or larger is needed")]
pub struct BadSubnet(Ipv4Net);

/// Where mesh addresses come from. Every node of a mesh must be told the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeshSubnet {
    /// `10.b0.0.0/16` by the secret's two bytes; the second is mixed into the addresses.
    Derived([u8; 2]),
    Custom(Ipv4Net),
}

impl MeshSubnet {
    pub fn custom(net: Ipv4Net) -> Result<Self, BadSubnet> {
        if net.prefix_len() > 30 { Err(BadSubnet(net)) } else { Ok(Self::Custom(net.trunc())) }
    }

    pub fn net(self) -> Ipv4Net {
        match self {
            Self::Derived([b0, _]) => Ipv4Net::new_assert(Ipv4Addr::new(10, b0, 0, 0), 16),
            Self::Custom(net) => net,
        }
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.net().contains(&address)
    }

    /// Whether a node can have `address`: neither the network's own nor its broadcast.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        let net = self.net();
        net.contains(&address) && address != net.network() && address != net.broadcast()
    }

    /// The address of `key`; nonce 0 is the usual one, others follow a clash.
    pub fn address(self, key: &PublicKey, secret: &Secret, nonce: u32) -> Ipv4Addr {
        self.address_of_text(key.as_str(), secret, nonce)
    }

    fn address_of_text(self, key: &str, secret: &Secret, nonce: u32) -> Ipv4Addr {
        let digest = if nonce == 0 {
            Sha256::new().chain_update(key).chain_update(secret.bytes()).finalize()
        } else {
            digest_with_nonce(key, secret, nonce)
        };
        match self {
            Self::Derived([b0, b1]) if nonce == 0 => {
                let last = match digest[1] {
                    0 => 1,
                    255 => 254,
                    other => other,
                };
                Ipv4Addr::new(10, b0, digest[0] ^ b1, last)
            }
            Self::Derived([b0, _]) => derived_with_nonce(b0, &digest),
            Self::Custom(net) => {
                let hosts = (1_u64 << (32 - net.prefix_len())) - 2;
                let offset = u64::from_be_bytes(first_bytes(&digest)) % hosts + 1;
                let base = u64::from(u32::from(net.network()));
                Ipv4Addr::from(u32::try_from(base + offset).unwrap_or(u32::MAX))
            }
        }
    }
}

fn digest_with_nonce(key: &str, secret: &Secret, nonce: u32) -> sha2::digest::Output<Sha256> {
    Sha256::new()
        .chain_update(format!("{}:{key}|{}:", key.len(), secret.bytes().len()))
        .chain_update(secret.bytes())
        .chain_update(format!("|nonce={nonce}"))
        .finalize()
}

fn derived_with_nonce(b0: u8, digest: &[u8]) -> Ipv4Addr {
    let [high, low] = match u16::from_be_bytes(first_bytes(digest)) {
        0 => 1,
        u16::MAX => u16::MAX - 1,
        other => other,
    }
    .to_be_bytes();
    Ipv4Addr::new(10, b0, high, low)
}

/// The mesh IPv6 address of `key` under the mesh's /64.
pub fn mesh_ipv6(prefix: [u8; 8], key: &PublicKey, secret: &Secret) -> Ipv6Addr {
    mesh_ipv6_of_text(prefix, key.as_str(), secret)
}

fn mesh_ipv6_of_text(prefix: [u8; 8], key: &str, secret: &Secret) -> Ipv6Addr {
    let digest = Sha256::new()
        .chain_update(key)
        .chain_update("|")
        .chain_update(secret.bytes())
        .chain_update("|ipv6")
        .finalize();
    let mut interface_id: [u8; 8] = first_bytes(&digest);
    interface_id[0] = (interface_id[0] | 0x02) & 0xfe;
    if interface_id == [0; 8] {
        interface_id[7] = 1;
    }
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&prefix);
    octets[8..].copy_from_slice(&interface_id);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_go_tests_own_inputs_give_the_same_addresses() {
        let s3 = Secret::parse("test-secret-that-is-long-enough").unwrap();
        let derived = MeshSubnet::Derived;
        let c24 = MeshSubnet::custom("192.168.100.7/24".parse().unwrap()).unwrap();
        let cases = [
            (derived([42, 0]), "pubkey1", 0, "10.42.100.120"),
            (derived([42, 99]), "pubkey1", 0, "10.42.7.120"),
            (derived([42, 0]), "pubkey2", 0, "10.42.89.178"),
            (c24, "pubkey1", 0, "192.168.100.58"),
            (c24, "pubkey1", 1, "192.168.100.118"),
        ];
        for (subnet, key, nonce, expected) in cases {
            let address = subnet.address_of_text(key, &s3, nonce);
            assert_eq!(address.to_string(), expected, "{subnet:?} {key} {nonce}");
        }
        let other = Secret::parse("secret-that-is-long-enough!").unwrap();
        assert_eq!(
            derived([42, 0]).address_of_text("pubkey", &other, 1).to_string(),
            "10.42.208.175"
        );
        let prefix = [0xfd, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
        assert_eq!(
            mesh_ipv6_of_text(prefix, "pubkey1", &s3).to_string(),
            "fd12:3456:789a:bcde:ba42:9514:9d78:dd77"
        );
    }

    #[test]
    fn a_subnet_without_room_for_two_is_refused() {
        let refused = MeshSubnet::custom("10.0.0.0/31".parse().unwrap());
        assert_eq!(
            refused.unwrap_err().to_string(),
            "mesh subnet 10.0.0.0/31 is too small: /30 or larger is needed"
        );
    }
}
