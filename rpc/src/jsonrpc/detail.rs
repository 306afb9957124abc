//! Our own, fuller answers: `mesh.status` and `mesh.peers`.
//!
//! Each begins with the keys of the Go daemon's answer, so that a script that reads those reads these
//! too. Further keys may come; none goes.

use serde::{Deserialize, Serialize};

use super::{MeshStatus, PeerInfo, null_is_default};

/// The answer to [`super::MESH_PEERS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshPeers {
    #[serde(default, deserialize_with = "null_is_default")]
    pub peers: Vec<MeshPeer>,
}

/// All that the daemon knows of a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeshPeer {
    #[serde(flatten)]
    pub info: PeerInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_ipv6: Option<String>,
    pub state: PeerState,
    /// Why it is not well, as one sentence; absent when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub path: PeerPath,
    /// Who relays for it: the relay's public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Milliseconds since the last handshake.
    pub handshake_age_ms: Option<u64>,
    /// Milliseconds since the last sign of life.
    pub heard_ms_ago: Option<u64>,
    /// Bytes through the tunnel since the interface was made.
    pub rx_bytes: Option<u64>,
    pub tx_bytes: Option<u64>,
    /// Round trip of the last probe through the tunnel, in microseconds.
    pub rtt_us: Option<u64>,
    /// Where its endpoint is known from: `lan`, `hello`, `seed`, `gossip`, `cache` or `roamed`.
    pub endpoint_source: Option<String>,
    /// Seconds that its clock is ahead of this host's, to a second or two.
    pub clock_offset_secs: Option<i64>,
    /// Whether it runs `meshctl join`; `false` for the Go daemon.
    pub knit: Option<bool>,
    /// Networks behind it that this node uses.
    pub routes_used: Vec<String>,
    pub routes_refused: Vec<RefusedRoute>,
}

/// How a peer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Its tunnel stands, and something came from it lately.
    Up,
    /// It gives no sign of life.
    Silent,
    /// Its last handshake is too old to prove anything.
    Stale,
    /// There was no handshake yet.
    Never,
    /// It is in the mesh; the daemon does not tell of its tunnel.
    #[default]
    #[serde(other)]
    Heard,
}

impl PeerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Silent => "silent",
            Self::Stale => "stale",
            Self::Never => "never",
            Self::Heard => "heard",
        }
    }
}

/// How packets reach a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerPath {
    Direct,
    Relay,
    /// They do not, or the daemon does not say how.
    #[default]
    #[serde(other)]
    None,
}

/// A network that a peer claims and that is not used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedRoute {
    pub route: String,
    pub why: String,
}

/// The answer to [`super::MESH_STATUS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeshDetail {
    #[serde(flatten)]
    pub status: MeshStatus,
    pub mesh_id: String,
    pub subnet: String,
    /// Every address of the node inside the mesh.
    pub addresses: Vec<String>,
    pub mtu: u32,
    /// UDP port of WireGuard.
    pub listen_port: u16,
    /// UDP port on which nodes of this mesh talk.
    pub exchange_port: u16,
    /// TCP port on which a node answers probes, on its mesh address alone.
    pub probe_port: u16,
    /// The address that peers see this node at, when it is a public one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<String>,
    /// `cone`, `symmetric` or `unknown`, as STUN servers see it; absent when none was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat_type: Option<String>,
    pub lan: LanDetail,
    pub seeds: Vec<SeedDetail>,
    pub peers: PeerStates,
    /// Whether it is willing to introduce and to relay.
    pub introducer: bool,
    pub routes_advertised: Vec<String>,
    /// Where routes of peers are used.
    pub accept_routes: Vec<String>,
    pub routes_used: Vec<UsedRoute>,
    /// Who contests this node's mesh address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clash: Option<String>,
    /// All that is not as it should be, a sentence each.
    pub problems: Vec<String>,
}

/// Discovery on the LAN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanDetail {
    pub enabled: bool,
    pub interfaces: Vec<LanInterface>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanInterface {
    pub name: String,
    pub address: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeedDetail {
    pub address: String,
    /// Milliseconds since it last said something; absent when it never did.
    pub answered_ms_ago: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsedRoute {
    pub route: String,
    /// The name of the peer that it leads through, or its key when it has none.
    pub via: String,
}

/// How many peers are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerStates {
    pub up: u64,
    pub silent: u64,
    pub stale: u64,
    pub never: u64,
    pub relayed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_begins_as_the_go_daemons_and_is_read_with_anything_missing() {
        let info = PeerInfo { pubkey: "a".into(), latency_ms: Some(0), ..PeerInfo::default() };
        let peer = MeshPeer { info, state: PeerState::Up, ..MeshPeer::default() };
        let text = serde_json::to_string(&peer).unwrap();
        let start = r#"{"pubkey":"a","mesh_ip":"","endpoint":"","last_seen":"","discovered_via":[],"latency_ms":0,"state":"up""#;
        assert!(text.starts_with(start), "{text}");
        assert_eq!(serde_json::from_str::<MeshPeer>(&text).unwrap(), peer);
        for (text, state, path) in [
            (r"{}", PeerState::Heard, PeerPath::None),
            (r#"{"state":"of a later version","path":"pigeon"}"#, PeerState::Heard, PeerPath::None),
            (r#"{"state":"stale","path":"direct","x":1}"#, PeerState::Stale, PeerPath::Direct),
        ] {
            let peer: MeshPeer = serde_json::from_str(text).unwrap();
            assert_eq!((peer.state, peer.path), (state, path), "{text}");
        }
        assert_eq!(serde_json::from_str::<MeshDetail>("{}").unwrap(), MeshDetail::default());
    }
}
