//! The mesh's state in the socket's words.

use knit_rpc::jsonrpc::{PeerCount, PeerInfo};
use meshctl_core::mesh::PeerView;

pub(crate) const VERSION: &str = concat!("knit-mesh/", env!("CARGO_PKG_VERSION"));
/// A connection has at most one watch, so its number never varies.
pub(crate) const SUBSCRIPTION: u64 = 1;

pub(crate) fn peer_info(peer: &PeerView) -> PeerInfo {
    PeerInfo {
        pubkey: peer.key.to_string(),
        hostname: peer.hostname.clone(),
        mesh_ip: peer.mesh_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        last_seen: rfc3339(peer.last_seen_unix),
        discovered_via: peer.discovered_via.iter().map(|via| (*via).to_owned()).collect(),
        routable_networks: peer.routes.iter().map(ToString::to_string).collect(),
        latency_ms: peer.latency_ms,
    }
}

pub(crate) fn peer_count(active: usize, total: usize) -> PeerCount {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    PeerCount {
        active: number(active),
        total: number(total),
        dead: number(total.saturating_sub(active)),
    }
}

/// RFC 3339 in UTC with whole seconds, as a Go daemon in that zone writes it.
fn rfc3339(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix), expected);
        }
    }
}
