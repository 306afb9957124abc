//! Looks at the mesh through the server's own sidecar.

use std::net::Ipv4Addr;
use std::time::Duration;

use knit_link::mesh::MeshClient;
use knit_rpc::Timestamp;
use knit_rpc::jsonrpc::{MeshStatus, PeerInfo};
use knit_server_core::status::{MeshView, Peer};
use tokio_util::sync::CancellationToken;

use crate::app::App;

const TICK: Duration = Duration::from_secs(2);

/// Looks until told to stop; a sidecar that is away leaves the last view standing.
pub async fn run(app: &App, mesh: MeshClient, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let (Ok(status), Ok(peers)) = (mesh.status().await, mesh.peers().await) else { continue };
        app.world().await.mesh = view(status, &peers);
    }
}

fn view(status: MeshStatus, peers: &[PeerInfo]) -> MeshView {
    MeshView {
        own_ip: status.mesh_ip.parse().ok(),
        own_key: status.pubkey,
        own_name: status.hostname.unwrap_or_default(),
        peers: peers.iter().map(peer).collect(),
    }
}

fn peer(info: &PeerInfo) -> Peer {
    Peer {
        pubkey: info.pubkey.clone(),
        hostname: info.hostname.clone(),
        mesh_ip: info.mesh_ip.parse::<Ipv4Addr>().ok(),
        endpoint: info.endpoint.clone(),
        last_seen: moment(&info.last_seen),
    }
}

/// Reads RFC 3339; Go's zero time and rubbish count as never.
fn moment(text: &str) -> Option<Timestamp> {
    let millis = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_at_any_offset() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Some(1_000)),
            ("1970-01-01T05:30:01+05:30", Some(1_000)),
            ("0001-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(moment(text).map(Timestamp::as_millis), expected, "{text}");
        }
    }
}
