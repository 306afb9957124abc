//! What the local daemon knows, in full from ours and as well as can be from a Go daemon.
//!
//! ```text
//!   our daemon   mesh.status, mesh.peers ───────────────> MeshDetail, MeshPeer
//!   a Go daemon  daemon.status, peers.list ──┐
//!   its device   wg show (root) ─────────────┴─ merged ─> the same, with gaps
//! ```

mod wg_show;

use anyhow::Result;
use knit_link::mesh::{MeshClient, MeshError};
use knit_rpc::jsonrpc::{MeshDetail, MeshPeer};

/// What is said on stderr when the daemon is a Go daemon.
pub(super) const COARSE: &str = "this is a Go daemon: it does not tell of handshakes, traffic or \
    reasons. What its WireGuard interface shows (as root, with `wg`) is added";

/// The local node, and whether its daemon tells everything.
pub(super) async fn node(client: &MeshClient) -> Result<(MeshDetail, bool), MeshError> {
    match client.detail().await {
        Err(MeshError::Unsupported { .. }) => {
            let status = client.status().await?;
            let addresses = vec![status.mesh_ip.clone()];
            Ok((MeshDetail { addresses, status, ..MeshDetail::default() }, false))
        }
        other => Ok((other?, true)),
    }
}

/// The peers, and whether their daemon tells everything of them.
pub(super) async fn peers(client: &MeshClient) -> Result<(Vec<MeshPeer>, bool), MeshError> {
    match client.peer_details().await {
        Err(MeshError::Unsupported { .. }) => {
            let interface = client.status().await?.interface;
            let peers = client.peers().await?;
            let peers = peers.into_iter().map(|info| MeshPeer { info, ..MeshPeer::default() });
            let mut peers: Vec<MeshPeer> = peers.collect();
            if let Some(device) = wg_show::device(&interface).await {
                let now = knit_runtime::clock::now();
                wg_show::merge(&mut peers, &device, now);
            }
            Ok((peers, false))
        }
        other => Ok((other?, true)),
    }
}

/// What people call a peer: its name, or whatever else is known of it.
pub(super) fn name(peer: &MeshPeer) -> String {
    let names = [&peer.info.hostname, &peer.info.mesh_ip, &peer.info.pubkey];
    names.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_default()
}
