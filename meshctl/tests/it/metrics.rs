//! What Prometheus scrapes, and who else is answered: nobody.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::{Lan, eventually};

const TIME_MAX: Duration = Duration::from_secs(5);

/// The answer's status line and body; `None` when nobody listens.
fn get(lan: &Lan, host: u8, address: &str, path: &str) -> Option<(String, String)> {
    let address: SocketAddr = address.parse().unwrap();
    lan.on_host(host, || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(TIME_MAX)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Some((head.lines().next().unwrap().to_owned(), body.to_owned()))
    })
}

/// Every sample by its name and labels; fails where a line has another form than Prometheus reads.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut families = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned(), kind).is_none(), "twice: {line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end));
        let known = families.contains_key(bare) || family.is_some_and(|f| families.contains_key(f));
        assert!(known, "a sample without a family: {line}");
        let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_and_the_mesh_are_served_and_the_lan_is_not() {
    let lan = Lan::new(2);
    let one = lan.join(1, &["--metrics", "127.0.0.1:9464"]);
    let two = lan.join(2, &["--metrics", "mesh:9464"]);
    let (_, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    let key: String = one.client.peers().await.unwrap()[0].pubkey.chars().take(8).collect();

    let of_peer = |name: &str| format!("{name}{{peer_key=\"{key}\"}}");
    let page = eventually("a page with a measured peer", || {
        let (status, body) = get(&lan, 1, "127.0.0.1:9464", "/metrics").unwrap();
        assert_eq!(status, "HTTP/1.1 200 OK");
        body.contains(&of_peer("wgmesh_probe_rtt_seconds_count")).then_some(body)
    });
    let samples = samples(&page);
    let value = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} in {page}"));
    assert!((value("wgmesh_active_peers") - 1.0).abs() < 0.1);
    assert!((value("wgmesh_relayed_peers")).abs() < 0.1);
    assert!((value("knit_mesh_peers{state=\"up\"}") - 1.0).abs() < 0.1);
    for gauge in
        ["knit_mesh_kept_out_peers", "knit_mesh_rotation_active", "knit_mesh_rotation_peers_behind"]
    {
        assert!(value(gauge).abs() < 0.1, "{gauge}");
    }
    assert!(!samples.contains_key("knit_mesh_certificate_expiry_seconds"), "there is none");
    assert!(value("wgmesh_reconcile_duration_seconds_count") >= 1.0);
    assert!(value("wgmesh_reconcile_duration_seconds_bucket{le=\"+Inf\"}") >= 1.0);
    assert!(value(&of_peer("knit_mesh_peer_receive_bytes_total")) > 0.0);
    assert!(value(&of_peer("knit_mesh_peer_handshake_age_seconds")) < 30.0);
    assert!(value(&of_peer("wgmesh_probe_rtt_summary_seconds_sum")) > 0.0);
    for family in ["wgmesh_nat_type", "wgmesh_discovery_events_total"] {
        assert!(page.contains(&format!("# TYPE {family} ")), "{page}");
    }

    let scraped = eventually("a scrape through the mesh", || {
        get(&lan, 1, &format!("{other}:9464"), "/metrics")
    });
    assert_eq!(scraped.0, "HTTP/1.1 200 OK");
    let (status, _) = get(&lan, 1, "127.0.0.1:9464", "/").unwrap();
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert_eq!(get(&lan, 1, "192.168.77.2:9464", "/metrics"), None, "not on the LAN address");
    assert_eq!(get(&lan, 2, "192.168.77.1:9464", "/metrics"), None, "nor that of loopback");
}

#[test]
fn any_other_address_is_refused_at_the_start() {
    let lan = Lan::new(1);
    for address in ["0.0.0.0:9464", "192.168.77.1:9464", ":9464"] {
        let mut one = lan.join(1, &["--metrics", address]);
        assert!(!one.ends(), "{address}");
        let log = one.log();
        assert!(log.contains("metrics have no password"), "{log}");
        assert!(log.contains("write --metrics 127.0.0.1:9464 for this host alone"), "{log}");
    }
    assert_eq!(lan.mesh_interface(1), "", "before anything was made");
}
