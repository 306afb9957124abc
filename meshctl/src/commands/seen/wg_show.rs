//! What the WireGuard interface itself shows, by `wg`: beside a Go daemon there is no other source.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::jsonrpc::{MeshPeer, PeerPath, PeerState};
use meshctl_core::mesh::HANDSHAKE_LIVE_MS;
use tokio::process::Command;

use crate::cli::interface_name;

const WG_MAX: Duration = Duration::from_secs(2);

/// One peer of the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Unix seconds; `None` before the first one.
    handshake_unix: Option<u64>,
    rx_bytes: u64,
    tx_bytes: u64,
}

/// Asks `wg`; `None` without root, without `wg` and without such an interface. Not `wg show dump`:
/// that one prints the private key.
pub(super) async fn device(interface: &str) -> Option<BTreeMap<String, Shown>> {
    let interface = interface_name(interface).ok()?;
    let handshakes = wg(&interface, "latest-handshakes").await?;
    let transfer = wg(&interface, "transfer").await?;
    Some(parse(&handshakes, &transfer))
}

async fn wg(interface: &str, what: &str) -> Option<String> {
    let running = Command::new("wg").args(["show", interface, what]).kill_on_drop(true).output();
    let output = tokio::time::timeout(WG_MAX, running).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(handshakes: &str, transfer: &str) -> BTreeMap<String, Shown> {
    let mut peers: BTreeMap<String, Shown> = BTreeMap::new();
    for line in handshakes.lines() {
        let mut words = line.split('\t');
        if let (Some(key), Some(at)) = (words.next(), words.next()) {
            let at = at.parse().ok().filter(|at| *at > 0);
            peers.entry(key.to_owned()).or_default().handshake_unix = at;
        }
    }
    for line in transfer.lines() {
        let mut words = line.split('\t');
        if let (Some(key), Some(rx), Some(tx)) = (words.next(), words.next(), words.next()) {
            let peer = peers.entry(key.to_owned()).or_default();
            peer.rx_bytes = rx.parse().unwrap_or_default();
            peer.tx_bytes = tx.parse().unwrap_or_default();
        }
    }
    peers
}

/// Adds what the device shows to what the daemon says.
pub(super) fn merge(peers: &mut [MeshPeer], device: &BTreeMap<String, Shown>, now: Timestamp) {
    for peer in peers {
        let Some(shown) = device.get(&peer.info.pubkey) else {
            peer.state = PeerState::Never;
            peer.why = Some(
                "it is not on the WireGuard interface: relayed through another node, or not configured yet"
                    .to_owned(),
            );
            continue;
        };
        peer.rx_bytes = Some(shown.rx_bytes);
        peer.tx_bytes = Some(shown.tx_bytes);
        let age = shown.handshake_unix.map(|at| now.as_millis().saturating_sub(at * 1000));
        peer.handshake_age_ms = age;
        (peer.state, peer.path) = match age {
            Some(age) if age < HANDSHAKE_LIVE_MS => (PeerState::Up, PeerPath::Direct),
            Some(_) => (PeerState::Stale, PeerPath::None),
            None => (PeerState::Never, PeerPath::None),
        };
        if peer.state != PeerState::Up {
            peer.why = Some(format!("no handshake with {}", peer.info.endpoint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knit_rpc::jsonrpc::PeerInfo;

    #[test]
    fn the_device_tells_what_a_go_daemon_does_not() {
        let handshakes = "a=\t1000\nb=\t0\nc=\t700\nrubbish\n";
        let transfer = "a=\t1024\t4096\nb=\t0\t148\nc=\tx\t5\n";
        let device = parse(handshakes, transfer);
        let peer = |key: &str| MeshPeer {
            info: PeerInfo { pubkey: key.into(), ..PeerInfo::default() },
            ..MeshPeer::default()
        };
        let mut peers = [peer("a="), peer("b="), peer("c="), peer("d=")];
        merge(&mut peers, &device, Timestamp::from_millis(1_060_000));
        let shown = peers.each_ref().map(|peer| (peer.state, peer.handshake_age_ms, peer.tx_bytes));
        assert_eq!(
            shown,
            [
                (PeerState::Up, Some(60_000), Some(4096)),
                (PeerState::Never, None, Some(148)),
                (PeerState::Stale, Some(360_000), Some(5)),
                (PeerState::Never, None, None),
            ]
        );
        assert_eq!(peers[0].path, PeerPath::Direct);
        assert!(peers[3].why.as_deref().unwrap().contains("not on the WireGuard interface"));
    }
}
