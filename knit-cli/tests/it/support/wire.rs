//! What the network between hosts can do to them: cuts, and wires that delay and lose.
//!
//! A bad wire is made without the kernel's netem, which not every kernel has: WireGuard's packets
//! take the way over a relay in the hub, unnoticed by either end.
//!
//! ```text
//! host 1 ──51820──> [rewrite: hub, port 41012] ──> relay: wait, lose ──> [rewrite: from host 1] ──> host 2
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Cluster;
use super::api::enter;

const WIREGUARD: u16 = 51820;
const HUB_ADDRESS: &str = "172.31.255.254";
const PACKET_BYTES_MAX: usize = 65536;

/// Two hosts that do not reach each other; they do again when it is dropped.
pub(crate) struct Cut<'a> {
    cluster: &'a Cluster,
    node: u8,
}

impl<'a> Cut<'a> {
    /// Cuts the underlay between `node` and `other`, both ways.
    pub(crate) fn between(cluster: &'a Cluster, node: u8, other: u8) -> Self {
        let other = cluster.underlay(other);
        let rules = format!(
            "table ip test_cut {{\n\
             chain in {{ type filter hook prerouting priority -400; ip saddr {other} drop; }}\n\
             chain out {{ type filter hook output priority -400; ip daddr {other} drop; }}\n}}\n"
        );
        cluster.on_with(node, &["nft", "-f", "-"], &rules);
        Self { cluster, node }
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.cluster.try_on(self.node, &["nft", "delete", "table", "ip", "test_cut"]);
    }
}

/// How bad a wire is, each way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Badness {
    pub(crate) delay: Duration,
    /// Packets are up to this much earlier or later, so that some overtake others.
    pub(crate) jitter: Duration,
    pub(crate) loss_percent: u32,
}

/// Bad wires between all hosts of a cluster; good ones again when it is dropped.
pub(crate) struct BadWires<'a> {
    cluster: &'a Cluster,
    stop: Arc<AtomicBool>,
    relays: Vec<JoinHandle<u64>>,
}

impl<'a> BadWires<'a> {
    pub(crate) fn between_all(cluster: &'a Cluster, badness: Badness) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut wires = Self { cluster, stop, relays: Vec::new() };
        for (one, other) in pairs(cluster) {
            let sockets = [port(one, other), port(other, one)].map(|port| {
                let bind = move || UdpSocket::bind((HUB_ADDRESS, port)).unwrap();
                Arc::new(thread::spawn(enter(cluster.hub(), bind)).join().unwrap())
            });
            let [there, back] = sockets;
            wires.relay(&there, &back, cluster.underlay(other), badness);
            wires.relay(&back, &there, cluster.underlay(one), badness);
        }
        for node in cluster.nodes() {
            cluster.on_with(node, &["nft", "-f", "-"], &rules(cluster, node));
        }
        wires
    }

    /// What comes in at `from` leaves at `to` for `host`, late or never.
    fn relay(&mut self, from: &Arc<UdpSocket>, to: &Arc<UdpSocket>, host: String, bad: Badness) {
        let (from, to, stop) = (from.clone(), to.clone(), self.stop.clone());
        self.relays.push(thread::spawn(move || relay(&from, &to, &host, bad, &stop)));
    }

    /// Ends it; packets that were carried.
    pub(crate) fn mend(mut self) -> u64 {
        self.unplug()
    }

    /// The relays end before the rules do: a packet that comes from one when nothing rewrites it
    /// any more would tell its host that the peer has moved into the hub.
    fn unplug(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let relays = std::mem::take(&mut self.relays);
        let carried = relays.into_iter().map(|relay| relay.join().unwrap_or_default()).sum();
        for node in self.cluster.nodes() {
            self.cluster.try_on(node, &["nft", "delete", "table", "ip", "test_wire"]);
        }
        carried
    }
}

impl Drop for BadWires<'_> {
    fn drop(&mut self) {
        if !self.stop.load(Ordering::Relaxed) {
            self.unplug();
        }
    }
}

fn pairs(cluster: &Cluster) -> Vec<(u8, u8)> {
    let nodes = || cluster.nodes();
    nodes()
        .flat_map(|one| nodes().filter(move |other| one < *other).map(move |o| (one, o)))
        .collect()
}

/// The hub's port to which host `one` sends what is for host `other`.
fn port(one: u8, other: u8) -> u16 {
    41_000 + u16::from(one) * 100 + u16::from(other)
}

/// Rewrites, without the kernel keeping track, where WireGuard's packets go and come from.
fn rules(cluster: &Cluster, node: u8) -> String {
    let (mut out, mut inward) = (String::new(), String::new());
    for other in cluster.nodes().filter(|other| *other != node) {
        let (address, port) = (cluster.underlay(other), port(node, other));
        let _ = writeln!(
            out,
            "ip daddr {address} udp dport {WIREGUARD} ip daddr set {HUB_ADDRESS} \
             udp dport set {port} notrack"
        );
        let _ = writeln!(
            inward,
            "ip saddr {HUB_ADDRESS} udp sport {port} ip saddr set {address} \
             udp sport set {WIREGUARD} notrack"
        );
    }
    format!(
        "table ip test_wire {{\n\
         chain out {{ type route hook output priority -400;\n{out}}}\n\
         chain in {{ type filter hook prerouting priority -400;\n{inward}}}\n}}\n"
    )
}

fn relay(from: &UdpSocket, to: &UdpSocket, host: &str, badness: Badness, stop: &AtomicBool) -> u64 {
    let mut draw = super::Draw(u64::from(from.local_addr().unwrap().port()));
    let mut waiting: BinaryHeap<Reverse<(Instant, Vec<u8>)>> = BinaryHeap::new();
    let mut packet = vec![0; PACKET_BYTES_MAX];
    let mut carried = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, packet))) = waiting.pop() else { break };
            // A host whose sidecar is down refuses: that is no fault of the wire.
            let _ = to.send_to(&packet, (host, WIREGUARD));
            carried += 1;
        }
        let next = waiting.peek().map_or(Duration::from_millis(20), |Reverse((at, _))| {
            at.saturating_duration_since(now)
                .clamp(Duration::from_millis(1), Duration::from_millis(20))
        });
        from.set_read_timeout(Some(next)).unwrap();
        match from.recv(&mut packet) {
            Ok(length) if draw.below(100) >= badness.loss_percent as usize => {
                let spread = usize::try_from(badness.jitter.as_micros() * 2).unwrap() + 1;
                let late = Duration::from_micros(u64::try_from(draw.below(spread)).unwrap());
                let at = Instant::now() + badness.delay.saturating_sub(badness.jitter) + late;
                waiting.push(Reverse((at, packet[..length].to_vec())));
            }
            Ok(_) => {}
            Err(error) => assert!(
                [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionRefused]
                    .contains(&error.kind()),
                "{error}"
            ),
        }
    }
    carried
}
