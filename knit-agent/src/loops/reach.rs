//! Whether other nodes answer over the mesh: the server asks before it gives one up.
//!
//! Invariant: any answer counts, a refusal as well: only a host that lives refuses a connection.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::select_all;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use knit_rpc::api::{API_PORT, NATS_PORT};
use knit_rpc::id::NodeId;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nodes asked about at once, at most; the rest of a longer list is passed over.
pub const TARGETS_MAX: usize = 32;
/// Ports of which at least one answers or refuses on every node: whatever a host's own rules do
/// about one of them.
const PORTS: [u16; 3] = [API_PORT, NATS_PORT, 7946];
/// Over a mesh an answer takes two ways and a handshake at most.
const ANSWER_MAX: Duration = Duration::from_millis(400);
const TRIES: usize = 3;

/// Which of these nodes answer, within [`TRIES`] times [`ANSWER_MAX`].
pub async fn ask(targets: BTreeMap<NodeId, Ipv4Addr>) -> BTreeMap<NodeId, bool> {
    let asking = targets
        .into_iter()
        .take(TARGETS_MAX)
        .map(|(node, address)| async move { (node, answers(address).await) });
    stream::iter(asking).buffer_unordered(TARGETS_MAX).collect().await
}

async fn answers(address: Ipv4Addr) -> bool {
    for _ in 0..TRIES {
        if let Ok(answered) = timeout(ANSWER_MAX, first(address)).await {
            return answered;
        }
    }
    false
}

/// Whether any port answers; false once there is no way there for all of them.
async fn first(address: Ipv4Addr) -> bool {
    let mut asking: Vec<_> =
        PORTS.map(|port| connect(SocketAddr::from((address, port))).boxed()).into();
    while !asking.is_empty() {
        let (answered, _, others) = select_all(asking).await;
        if answered {
            return true;
        }
        asking = others;
    }
    false
}

async fn connect(to: SocketAddr) -> bool {
    match TcpStream::connect(to).await {
        Ok(_) => true,
        Err(error) => {
            matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_list_is_cut() {
        let local = |n: u8| (NodeId::from_bytes([n; 16]), Ipv4Addr::LOCALHOST);
        let answers = ask((0..40).map(local).collect()).await;
        assert_eq!(answers.len(), TARGETS_MAX);
        assert!(answers.values().all(|answered| *answered), "refused or not");
    }
}
