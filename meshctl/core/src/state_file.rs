//! The two state files, in the Go daemon's format.
//!
//! Invariant: a file that cannot be read whole is an error. A new identity would be a new mesh
//! address, and every address that was handed out would be wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::key::{PrivateKey, PublicKey};

/// Why a state file was refused.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    #[error("it is not the JSON that the daemon writes")]
    Json(#[from] serde_json::Error),
    #[error("its private key is not a WireGuard key")]
    PrivateKey,
    #[error("its public key does not belong to its private key")]
    Mismatch,
    #[error("its mesh address `{0}` is not an IPv4 address")]
    Address(String),
}

/// `IFACE.json`: who this node is.
#[derive(Debug, Clone)]
pub struct Identity {
    pub private_key: PrivateKey,
    pub mesh_ip: Option<Ipv4Addr>,
    pub mesh_ipv6: Option<Ipv6Addr>,
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    wg_pubkey: String,
    wg_private_key: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mesh_ip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mesh_ipv6: Option<String>,
}

impl Identity {
    pub fn parse(bytes: &[u8]) -> Result<Self, BadState> {
        let file: IdentityFile = serde_json::from_slice(bytes)?;
        let private_key =
            PrivateKey::parse(&file.wg_private_key).map_err(|_| BadState::PrivateKey)?;
        if private_key.public().as_str() != file.wg_pubkey {
            return Err(BadState::Mismatch);
        }
        let mesh_ip = match file.mesh_ip.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| BadState::Address(text))?),
        };
        // A Go daemon writes it and derives it anew: one that does not parse costs nothing.
        let mesh_ipv6 = file.mesh_ipv6.and_then(|text| text.parse().ok());
        Ok(Self { private_key, mesh_ip, mesh_ipv6 })
    }

    pub fn render(&self) -> Zeroizing<Vec<u8>> {
        let file = IdentityFile {
            wg_pubkey: self.private_key.public().to_string(),
            wg_private_key: self.private_key.expose_base64(),
            mesh_ip: self.mesh_ip.map(|ip| ip.to_string()),
            mesh_ipv6: self.mesh_ipv6.map(|ip| ip.to_string()),
        };
        Zeroizing::new(serde_json::to_vec_pretty(&file).unwrap_or_default())
    }
}

/// One entry of `IFACE-peers.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedPeer {
    pub wg_pubkey: PublicKey,
    #[serde(default)]
    pub hostname: String,
    pub mesh_ip: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_ipv6: Option<Ipv6Addr>,
    #[serde(default, deserialize_with = "endpoint_or_none", serialize_with = "endpoint_text")]
    pub endpoint: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routable_networks: Vec<IpNet>,
    /// Unix seconds.
    pub last_seen: i64,
    /// By which it is a member, on nodes that know an authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct PeersFile {
    peers: Option<Vec<serde_json::Value>>,
    updated_at: i64,
}

/// Reads `IFACE-peers.json`. An entry that does not parse is left out: the file is a cache, and
/// a Go daemon stores what peers claim.
pub fn parse_peers(bytes: &[u8]) -> Result<Vec<CachedPeer>, BadState> {
    let file: PeersFile = serde_json::from_slice(bytes)?;
    let entries = file.peers.unwrap_or_default().into_iter();
    Ok(entries.filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

pub fn render_peers(peers: &[CachedPeer], now_unix: i64) -> Vec<u8> {
    let entries = peers.iter().filter_map(|peer| serde_json::to_value(peer).ok()).collect();
    let file = PeersFile { peers: Some(entries), updated_at: now_unix };
    serde_json::to_vec_pretty(&file).unwrap_or_default()
}

fn endpoint_or_none<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SocketAddr>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.and_then(|text| text.parse().ok()))
}

#[expect(clippy::ref_option, reason = "serde hands the field by reference")]
fn endpoint_text<S: serde::Serializer>(
    endpoint: &Option<SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&endpoint.map(|address| address.to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
  "wg_pubkey": "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=",
  "wg_private_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHl8=",
  "mesh_ip": "10.45.75.206",
  "mesh_ipv6": "fd74:d276:7b07:cdc9:4a35:45ef:c003:d49b"
}"#;

    #[test]
    fn the_go_daemons_identity_is_read_and_written() {
        let identity = Identity::parse(FILE.as_bytes()).unwrap();
        assert_eq!(identity.mesh_ip, Some(Ipv4Addr::new(10, 45, 75, 206)));
        assert_eq!(identity.mesh_ipv6.unwrap().segments()[7], 0xd49b);
        assert_eq!(std::str::from_utf8(&identity.render()).unwrap(), FILE);
    }

    #[test]
    fn a_damaged_identity_is_an_error_not_a_new_one() {
        for (damage, expected) in [
            ("", "it is not the JSON that the daemon writes"),
            (&FILE[..80], "it is not the JSON that the daemon writes"),
            (&FILE.replace("AAEC", "!AEC"), "its private key is not a WireGuard key"),
            (&FILE.replace("j0DF", "j1DF"), "its public key does not belong to its private key"),
            (&FILE.replace("10.45.75.206", "x"), "its mesh address `x` is not an IPv4 address"),
        ] {
            assert_eq!(Identity::parse(damage.as_bytes()).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_peer_cache_leaves_junk_entries_out() {
        let file = r#"{"peers":[{"wg_pubkey":"test-pubkey","mesh_ip":"10.0.0.1","endpoint":"","last_seen":1},
            {"wg_pubkey":"NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=","hostname":"b","mesh_ip":"10.45.15.238","endpoint":"192.168.1.20:51820","last_seen":1800000000}],"updated_at":1}"#;
        let peers = parse_peers(file.as_bytes()).unwrap();
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].endpoint, Some("192.168.1.20:51820".parse().unwrap()));
        assert_eq!(parse_peers(&render_peers(&peers, 5)).unwrap(), peers);
        assert_eq!(parse_peers(br#"{"peers":null,"updated_at":1}"#).unwrap(), []);
    }
}
