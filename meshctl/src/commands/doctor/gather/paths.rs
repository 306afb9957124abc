//! How large a packet reaches each peer, beside the tunnel and inside it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use knit_rpc::jsonrpc::MeshPeer;

use super::super::super::echo::Echo;
use super::super::facts::{PathFacts, Reached};
use crate::commands::seen::name;
use crate::sidecar::wg::MTU;

/// Peers that are asked; what is wrong with the way of one is mostly wrong with that of others.
const PEERS_MAX: usize = 8;
const SHORT_BYTES: usize = 84;
const WHOLE_BYTES: usize = MTU as usize;
/// What WireGuard adds to it over IPv4.
const OVERHEAD_V4_BYTES: usize = 60;
const ANSWER_MAX: Duration = Duration::from_secs(1);
const TRIES: u16 = 2;

pub(super) async fn ask(interface: &str, peers: &[MeshPeer]) -> Vec<PathFacts> {
    join_all(peers.iter().take(PEERS_MAX).map(|peer| of_peer(interface, peer))).await
}

async fn of_peer(interface: &str, peer: &MeshPeer) -> PathFacts {
    let endpoint = match peer.info.endpoint.parse::<SocketAddr>().map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) => Some(ip),
        Ok(IpAddr::V6(_)) | Err(_) => None,
    };
    let beside = endpoint.and_then(|ip| Echo::open(ip.into(), None).ok());
    let through =
        peer.info.mesh_ip.parse().ok().and_then(|ip| Echo::open(ip, Some(interface)).ok());
    let whole = WHOLE_BYTES + OVERHEAD_V4_BYTES;
    let (outside, inside) =
        tokio::join!(reached(beside.as_ref(), whole), reached(through.as_ref(), WHOLE_BYTES));
    // After the packets: a router's word of a shorter path has come in by now.
    let mtu = beside.as_ref().and_then(Echo::path_mtu);
    PathFacts { peer: name(peer), outside, inside, mtu }
}

async fn reached(echo: Option<&Echo>, whole: usize) -> Reached {
    let Some(echo) = echo else { return Reached::NotAsked };
    if !is_answered(echo, 0, SHORT_BYTES).await {
        return Reached::Mute;
    }
    if is_answered(echo, TRIES, whole).await { Reached::Whole } else { Reached::ShortOnly }
}

async fn is_answered(echo: &Echo, first: u16, len: usize) -> bool {
    for sequence in first..first + TRIES {
        if matches!(echo.ask(sequence, len, ANSWER_MAX).await, Ok(Some(_))) {
            return true;
        }
    }
    false
}
