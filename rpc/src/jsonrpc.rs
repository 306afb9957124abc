//! What crosses the mesh daemon's socket: newline-delimited JSON-RPC 2.0.
//!
//! The five methods and their answers are those of the Go daemon `wgmesh`, key for key and in its
//! order; `mesh.*` are our sidecar's own, which a Go daemon refuses with [`METHOD_NOT_FOUND`].
//! Answers are read leniently: unknown keys are ignored and `null` counts as absent, because a
//! peer decides part of what stands in them.

mod detail;
mod membership;

use serde::{Deserialize, Deserializer, Serialize};

pub use detail::{
    LanDetail, LanInterface, MeshDetail, MeshPeer, MeshPeers, PeerPath, PeerState, PeerStates,
    RefusedRoute, SeedDetail, UsedRoute,
};
pub use membership::{
    KeptOutList, KeptOutPeer, MembershipStatus, OwnCertificate, RotationStarted, RotationStatus,
    Signed,
};

pub const PING: &str = "daemon.ping";
pub const STATUS: &str = "daemon.status";
pub const PEERS_LIST: &str = "peers.list";
pub const PEERS_GET: &str = "peers.get";
pub const PEERS_COUNT: &str = "peers.count";
/// Subscribes to [`MeshStatus`]: one notification at once, one at each change.
pub const WATCH: &str = "mesh.watch";
pub const UNWATCH: &str = "mesh.unwatch";
/// Everything of the local node: [`MeshDetail`].
pub const MESH_STATUS: &str = "mesh.status";
/// Everything of every peer that is not forgotten: [`MeshPeers`].
pub const MESH_PEERS: &str = "mesh.peers";
/// Says goodbye to the mesh, removes the interface and ends the daemon.
pub const LEAVE: &str = "mesh.leave";
/// Hands the daemon an authority's word that a node is no member any more.
pub const REVOKE: &str = "mesh.revoke";
/// Gives the daemon the secret that follows the present one.
pub const ROTATE: &str = "mesh.rotate";
/// Lists who has the mesh secret and is kept out.
pub const KEPT_OUT: &str = "mesh.kept_out";

pub const PARSE_ERROR: i32 = -32_700;
pub const INVALID_REQUEST: i32 = -32_600;
pub const METHOD_NOT_FOUND: i32 = -32_601;
pub const INVALID_PARAMS: i32 = -32_602;
pub const INTERNAL_ERROR: i32 = -32_603;

/// Longest request line, without its line feed; a longer one closes the connection.
pub const REQUEST_LINE_MAX_BYTES: usize = 65_535;
/// Longest answer line a client reads.
pub const RESPONSE_LINE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The answer to [`PING`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    #[serde(default, deserialize_with = "null_is_default")]
    pub pong: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    pub version: String,
}

/// The answer to [`STATUS`]: the local node, which is not in its own peer list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStatus {
    #[serde(default, deserialize_with = "null_is_default")]
    pub mesh_ip: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub pubkey: String,
    /// Nanoseconds. A Go daemon counts from its first `daemon.status`, ours from its start.
    #[serde(default, deserialize_with = "null_is_default")]
    pub uptime: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub interface: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub version: String,
    /// `kernel` or `userspace`; only our sidecar says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The name this node announces; only our sidecar says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The keys of known peers that give no sign of life; only our sidecar says, within five
    /// seconds of their silence. [`WATCH`] tells of each change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheard: Option<Vec<String>>,
    /// What our sidecar believes of authorities; absent when it knows none and has no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<MembershipStatus>,
    /// How far the mesh has changed to a new secret; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
}

/// One peer as the daemon knows it. Every string in it is a claim of that peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    #[serde(default, deserialize_with = "null_is_default")]
    pub pubkey: String,
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub hostname: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub mesh_ip: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub endpoint: String,
    /// RFC 3339 with whole seconds, at the daemon's local offset.
    #[serde(default, deserialize_with = "null_is_default")]
    pub last_seen: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub discovered_via: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub routable_networks: Vec<String>,
    /// Whole milliseconds of the last probe, absent when never probed.
    #[serde(
        default,
        deserialize_with = "whole_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub latency_ms: Option<u64>,
    /// Only of our sidecar, and only when it knows an authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
}

/// The answer to [`PEERS_LIST`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    #[serde(default, deserialize_with = "null_is_default")]
    pub peers: Vec<PeerInfo>,
}

/// The answer to [`PEERS_COUNT`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCount {
    #[serde(default, deserialize_with = "null_is_default")]
    pub active: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub total: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    pub dead: u64,
}

/// The parameters of [`PEERS_GET`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerKey {
    pub pubkey: String,
}

/// The parameters of [`REVOKE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationText {
    pub revocation: String,
}

/// Reads `null` as the type's default: a Go encoder writes `null` for an empty slice.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a JSON number of any form; what cannot be a latency is taken as never probed.
fn whole_milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    Ok(number
        .filter(|value| value.is_finite() && *value >= 0.0)
        .and_then(|value| format!("{value:.0}").parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_written_in_the_daemons_key_order() {
        let peer = PeerInfo {
            pubkey: "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=".into(),
            hostname: "node-b".into(),
            mesh_ip: "10.45.15.238".into(),
            endpoint: "192.168.1.20:51820".into(),
            last_seen: "2027-01-15T08:00:00Z".into(),
            discovered_via: vec!["lan".into(), "dht".into()],
            ..PeerInfo::default()
        };
        assert_eq!(
            serde_json::to_string(&PeerList { peers: vec![peer] }).unwrap(),
            r#"{"peers":[{"pubkey":"NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ=","hostname":"node-b","mesh_ip":"10.45.15.238","endpoint":"192.168.1.20:51820","last_seen":"2027-01-15T08:00:00Z","discovered_via":["lan","dht"]}]}"#
        );
        assert_eq!(serde_json::to_string(&PeerList::default()).unwrap(), r#"{"peers":[]}"#);
    }

    #[test]
    fn status_without_our_keys_is_the_daemons_line() {
        let status = MeshStatus {
            mesh_ip: "10.45.75.206".into(),
            pubkey: "j0DF=".into(),
            uptime: 300_000_000_000,
            interface: "wg0".into(),
            version: "0.3.0".into(),
            ..MeshStatus::default()
        };
        let line = r#"{"mesh_ip":"10.45.75.206","pubkey":"j0DF=","uptime":300000000000,"interface":"wg0","version":"0.3.0"}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), line);
        assert_eq!(serde_json::from_str::<MeshStatus>(line).unwrap(), status);
    }

    #[test]
    fn peers_are_read_leniently() {
        let cases = [
            (r"{}", PeerInfo::default()),
            (
                r#"{"pubkey":null,"discovered_via":null,"routable_networks":null,"extra":{"a":1}}"#,
                PeerInfo::default(),
            ),
            (r#"{"latency_ms":0}"#, PeerInfo { latency_ms: Some(0), ..PeerInfo::default() }),
            (r#"{"latency_ms":12.6}"#, PeerInfo { latency_ms: Some(13), ..PeerInfo::default() }),
            (r#"{"latency_ms":-1}"#, PeerInfo::default()),
        ];
        for (line, expected) in cases {
            assert_eq!(serde_json::from_str::<PeerInfo>(line).unwrap(), expected, "{line}");
        }
        assert_eq!(
            serde_json::from_str::<PeerList>(r#"{"peers":null}"#).unwrap(),
            PeerList::default()
        );
    }
}
