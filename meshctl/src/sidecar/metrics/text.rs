//! The page in Prometheus' text format, version 0.0.4.
//!
//! Names that begin with `wgmesh_` are the Go daemon's, so that its dashboards go on; what it does
//! not count is `knit_mesh_`. A peer is named by the first eight characters of its key, as there.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use knit_rpc::jsonrpc::MeshStatus;
use meshctl_core::key::PublicKey;
use meshctl_core::mesh::{Mesh, Now, PeerDetail, PeerState};

use super::Measured;
use super::histogram::Histogram;

const SHORT_KEY_CHARS: usize = 8;

pub(super) fn render(measured: &Measured, mesh: &Mesh, status: &MeshStatus, now: Now) -> String {
    let mut page = Page::default();
    let peers = mesh.peer_details(now);
    go_names(&mut page, measured, mesh, &peers);
    node(&mut page, mesh, status, &peers, now);
    trust(&mut page, mesh, status, now);
    each_peer(&mut page, &peers);
    wire(&mut page, mesh);
    page.0
}

fn go_names(page: &mut Page, measured: &Measured, mesh: &Mesh, peers: &[PeerDetail]) {
    page.family("wgmesh_active_peers", "gauge", "Known peers, silent ones included.");
    page.sample("wgmesh_active_peers", &[], peers.len());
    page.family("wgmesh_relayed_peers", "gauge", "Peers that are reached through another one.");
    let relayed = peers.iter().filter(|peer| peer.view.relay.is_some()).count();
    page.sample("wgmesh_relayed_peers", &[], relayed);
    page.family("wgmesh_nat_type", "gauge", "1 for the kind of NAT that this node is behind.");
    if let Some(nat_type) = mesh.nat_type() {
        page.sample("wgmesh_nat_type", &[("type", nat_type.as_str())], 1);
    }
    let counters = mesh.counters();
    page.family("wgmesh_discovery_events_total", "counter", "Peers found, by layer.");
    for (layer, count) in &counters.found {
        page.sample("wgmesh_discovery_events_total", &[("layer", layer)], count);
    }
    page.family("wgmesh_nat_traversal_attempts_total", "counter", "Tries to get through a NAT.");
    page.sample(
        "wgmesh_nat_traversal_attempts_total",
        &[("method", "rendezvous")],
        counters.punches,
    );
    page.family("wgmesh_nat_traversal_successes_total", "counter", "Those that led to a tunnel.");
    page.sample(
        "wgmesh_nat_traversal_successes_total",
        &[("method", "rendezvous")],
        counters.punched,
    );
    let name = "wgmesh_reconcile_duration_seconds";
    page.family(name, "histogram", "Time to read the device and bring it to what is wanted.");
    page.histogram(name, &[], &measured.reconciles);
    let by_key = by_short_key(measured.round_trips.iter().map(|(key, times)| (*key, times)));
    let name = "wgmesh_probe_rtt_seconds";
    page.family(name, "histogram", "Round trips of probes through the tunnel.");
    for (key, times) in &by_key {
        page.histogram(name, &[("peer_key", key)], times);
    }
    page.family("wgmesh_probe_rtt_summary_seconds", "summary", "The same, added up.");
    for (key, times) in &by_key {
        let labels = [("peer_key", key.as_str())];
        page.sample("wgmesh_probe_rtt_summary_seconds_sum", &labels, times.sum);
        page.sample("wgmesh_probe_rtt_summary_seconds_count", &labels, times.count);
    }
}

fn node(page: &mut Page, mesh: &Mesh, status: &MeshStatus, peers: &[PeerDetail], now: Now) {
    page.family("knit_mesh_info", "gauge", "1, with what runs here.");
    let labels = [
        ("version", status.version.as_str()),
        ("engine", status.engine.as_deref().unwrap_or_default()),
        ("interface", status.interface.as_str()),
    ];
    page.sample("knit_mesh_info", &labels, 1);
    page.family("knit_mesh_uptime_seconds", "gauge", "Since the daemon's start.");
    let uptime = Duration::from_nanos(u64::try_from(status.uptime).unwrap_or_default());
    page.sample("knit_mesh_uptime_seconds", &[], uptime.as_secs());
    page.family("knit_mesh_peers", "gauge", "Known peers by state.");
    for state in PeerState::ALL {
        let count = peers.iter().filter(|peer| peer.state == state).count();
        page.sample("knit_mesh_peers", &[("state", state.as_str())], count);
    }
    page.family("knit_mesh_routes_used", "gauge", "Networks behind peers that are used.");
    page.sample("knit_mesh_routes_used", &[], mesh.route_owners().len());
    page.family("knit_mesh_routes_refused", "gauge", "Networks that are claimed and not used.");
    page.sample("knit_mesh_routes_refused", &[], mesh.refused_routes().len());
    page.family("knit_mesh_seeds", "gauge", "Seeds, by whether they ever answered.");
    let seeds = mesh.seeds(now);
    let answered = seeds.iter().filter(|seed| seed.answered_ms_ago.is_some()).count();
    page.sample("knit_mesh_seeds", &[("answered", "true")], answered);
    page.sample("knit_mesh_seeds", &[("answered", "false")], seeds.len() - answered);
}

/// The certificate's gauge is there only with a certificate: without one nothing ends.
fn trust(page: &mut Page, mesh: &Mesh, status: &MeshStatus, now: Now) {
    page.family("knit_mesh_kept_out_peers", "gauge", "Nodes with the secret that are kept out.");
    page.sample("knit_mesh_kept_out_peers", &[], mesh.kept_out().count());
    let name = "knit_mesh_certificate_expiry_seconds";
    page.family(name, "gauge", "Until this node's certificate ends; below 0 it has.");
    if let Some(own) = mesh.own_certificate() {
        page.sample(name, &[], own.terms().expires.saturating_sub(now.unix));
    }
    let rotation = status.rotation.as_ref();
    page.family("knit_mesh_rotation_active", "gauge", "1 while two mesh secrets are accepted.");
    page.sample("knit_mesh_rotation_active", &[], u8::from(rotation.is_some()));
    let name = "knit_mesh_rotation_peers_behind";
    page.family(name, "gauge", "Peers that have the old mesh secret alone.");
    page.sample(name, &[], rotation.map_or(0, |rotation| rotation.behind.len()));
}

fn each_peer(page: &mut Page, peers: &[PeerDetail]) {
    let peers = by_short_key(peers.iter().map(|peer| (peer.view.key, peer)));
    let mut each =
        |name: &str, kind: &str, help: &str, value: &dyn Fn(&PeerDetail) -> Option<f64>| {
            page.family(name, kind, help);
            for (key, peer) in &peers {
                if let Some(value) = value(peer) {
                    page.sample(name, &[("peer_key", key)], value);
                }
            }
        };
    each("knit_mesh_peer_up", "gauge", "1 while the tunnel to the peer stands.", &|peer| {
        Some(if peer.state == PeerState::Up { 1.0 } else { 0.0 })
    });
    each("knit_mesh_peer_handshake_age_seconds", "gauge", "Since the last handshake.", &|peer| {
        peer.handshake_age_ms.map(|ms| Duration::from_millis(ms).as_secs_f64())
    });
    each("knit_mesh_peer_heard_seconds", "gauge", "Since the last sign of life.", &|peer| {
        Some(Duration::from_millis(peer.heard_ms_ago).as_secs_f64())
    });
    each("knit_mesh_peer_receive_bytes_total", "counter", "Bytes from the peer.", &|peer| {
        peer.traffic.map(|traffic| float(traffic.rx_bytes))
    });
    each("knit_mesh_peer_transmit_bytes_total", "counter", "Bytes to the peer.", &|peer| {
        peer.traffic.map(|traffic| float(traffic.tx_bytes))
    });
    each("knit_mesh_peer_rtt_seconds", "gauge", "Round trip of the last probe.", &|peer| {
        peer.rtt_us.map(|micros| Duration::from_micros(micros).as_secs_f64())
    });
    let help = "How far the peer's clock is ahead of ours.";
    each("knit_mesh_peer_clock_offset_seconds", "gauge", help, &|peer| {
        let offset = i32::try_from(peer.clock_offset_secs?).ok()?;
        Some(f64::from(offset))
    });
}

fn wire(page: &mut Page, mesh: &Mesh) {
    let counters = mesh.counters();
    page.family("knit_mesh_messages_total", "counter", "Messages of other nodes taken in.");
    page.sample("knit_mesh_messages_total", &[], counters.taken);
    let name = "knit_mesh_datagrams_dropped_total";
    page.family(name, "counter", "Datagrams that were not, by reason.");
    for (reason, count) in &counters.dropped {
        page.sample(name, &[("reason", reason)], count);
    }
    page.family("knit_mesh_address_clashes_total", "counter", "Others that claimed our address.");
    page.sample("knit_mesh_address_clashes_total", &[], counters.clashes);
    page.family("knit_mesh_address_moves_total", "counter", "Moves of our mesh address.");
    page.sample("knit_mesh_address_moves_total", &[], counters.moves);
}

/// One entry for each short key: two series with one name would spoil the whole page.
fn by_short_key<T>(peers: impl Iterator<Item = (PublicKey, T)>) -> BTreeMap<String, T> {
    peers
        .map(|(key, value)| (key.to_string().chars().take(SHORT_KEY_CHARS).collect(), value))
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format has no other number; 2^53 bytes are far"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            let bound = bound.to_string();
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), histogram.count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, histogram.count);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_histograms_have_the_formats_form() {
        let mut page = Page::default();
        page.family("a_total", "counter", "Of a.");
        page.sample("a_total", &[], 3);
        page.sample("b", &[("x", "q\"\\\n"), ("y", "1")], 0.5);
        let mut histogram = Histogram::default();
        histogram.observe(0.3);
        page.histogram("h", &[("k", "v")], &histogram);
        let start = "# HELP a_total Of a.\n# TYPE a_total counter\na_total 3\nb{x=\"q\\\"\\\\\\n\",y=\"1\"} 0.5\nh_bucket{k=\"v\",le=\"0.005\"} 0\n";
        assert!(page.0.starts_with(start), "{}", page.0);
        let end = "h_bucket{k=\"v\",le=\"10\"} 1\nh_bucket{k=\"v\",le=\"+Inf\"} 1\nh_sum{k=\"v\"} 0.3\nh_count{k=\"v\"} 1\n";
        assert!(page.0.ends_with(end), "{}", page.0);
    }
}
