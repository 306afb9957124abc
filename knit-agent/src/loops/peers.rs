//! Which peers of the mesh this node does not hear: the server's second opinion on who is gone.
//!
//! Invariant: a peer that was listed once is heard or unheard, never unknown again: a sidecar that
//! drops a dead peer from its list must not make it look alive.
//!
//! Our own sidecar tells of silence within five seconds, by `mesh.watch`. Of a Go daemon only
//! `last_seen` is known, so there it takes 16 s on a LAN and minutes elsewhere.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use knit_link::mesh::{MeshClient, MeshWatch, find_socket};
use knit_rpc::Timestamp;
use knit_rpc::jsonrpc::{MeshStatus, PeerInfo};
use tokio::time::sleep;

use super::jittered;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(5);
/// Peers on the LAN announce themselves every 5 s.
const LAN_SILENCE_MAX: Duration = Duration::from_secs(16);
/// Others are heard by handshakes, two minutes apart.
const SILENCE_MAX: Duration = Duration::from_mins(3);
/// Peers that are remembered after they left the list.
const REMEMBERED_MAX: usize = 1000;

pub async fn run(shared: Arc<Shared>, socket: Option<PathBuf>) {
    let mut mesh = shared.mesh.subscribe();
    if mesh.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let client = MeshClient::new(find_socket(socket.as_deref()));
    let mut met = BTreeSet::new();
    let mut watch = None;
    let mut told = None;
    loop {
        if watch.is_none() {
            watch = client.watch().await.ok();
        }
        if let Ok(peers) = client.peers().await {
            let unheard = unheard(&peers, told.as_deref(), &met, knit_runtime::clock::now());
            let listed = peers.into_iter().map(|peer| peer.pubkey);
            met.extend(listed.take(REMEMBERED_MAX.saturating_sub(met.len())));
            shared.unheard.send_if_modified(|known| {
                let changed = *known != unheard;
                *known = unheard;
                changed
            });
        }
        tokio::select! {
            () = sleep(jittered(EVERY)) => {}
            status = next(&mut watch) => {
                told = status.and_then(|status| status.unheard);
                if told.is_none() {
                    // The sidecar is gone, or an older one.
                    watch = None;
                    sleep(jittered(EVERY)).await;
                }
            }
        }
    }
}

/// The next status of a watch; waits for ever without one.
async fn next(watch: &mut Option<MeshWatch>) -> Option<MeshStatus> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// Takes the sidecar's own word where it gives it, else judges by how long ago it heard a peer.
fn unheard(
    peers: &[PeerInfo],
    told: Option<&[String]>,
    met: &BTreeSet<String>,
    now: Timestamp,
) -> BTreeSet<String> {
    let is_silent = |peer: &&PeerInfo| {
        if let Some(told) = told {
            return told.contains(&peer.pubkey);
        }
        let on_lan = peer.discovered_via.iter().any(|how| how == "lan");
        let limit = if on_lan { LAN_SILENCE_MAX } else { SILENCE_MAX };
        let heard = peer.last_seen.parse::<jiff::Timestamp>().ok();
        let heard = heard.and_then(|at| u64::try_from(at.as_millisecond()).ok());
        heard.is_some_and(|at| now.since(Timestamp::from_millis(at)) > limit)
    };
    let silent = peers.iter().filter(is_silent).map(|peer| &peer.pubkey);
    let listed: BTreeSet<&String> = peers.iter().map(|peer| &peer.pubkey).collect();
    silent.chain(met.iter().filter(|key| !listed.contains(key))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_by_how_a_peer_is_heard() {
        let peer = |key: &str, via: &str, last_seen: &str| PeerInfo {
            pubkey: key.to_owned(),
            discovered_via: vec![via.to_owned()],
            last_seen: last_seen.to_owned(),
            ..PeerInfo::default()
        };
        let peers = [
            peer("lan-fresh", "lan", "2026-11-20T12:00:50Z"),
            peer("lan-silent", "lan", "2026-11-20T12:00:30Z"),
            peer("dht-fresh", "dht", "2026-11-20T13:59:00+02:00"),
            peer("dht-silent", "dht", "2026-11-20T11:57:00Z"),
            peer("rubbish", "lan", "yesterday"),
            peer("future", "lan", "2027-11-20T12:00:50Z"),
        ];
        let now: jiff::Timestamp = "2026-11-20T12:01:00Z".parse().unwrap();
        let now = Timestamp::from_millis(now.as_millisecond().try_into().unwrap());
        let met = BTreeSet::from(["dropped".to_owned(), "lan-fresh".to_owned()]);
        let found: Vec<String> = unheard(&peers, None, &met, now).into_iter().collect();
        assert_eq!(found, ["dht-silent", "dropped", "lan-silent"]);

        let told = ["lan-fresh".to_owned()];
        let found: Vec<String> = unheard(&peers, Some(&told), &met, now).into_iter().collect();
        assert_eq!(found, ["dropped", "lan-fresh"], "the sidecar's word counts, not the ages");
    }
}
