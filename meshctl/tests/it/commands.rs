//! The command line, as a person or a script uses it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Lan, MESHCTL, eventually};

fn meshctl(lan: &Lan, host: u8, arguments: &str) -> Output {
    let mut command = lan.command(host, MESHCTL);
    command.args(arguments.split(' ')).env("WGMESH_SOCKET", lan.socket(host)).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn init_prints_a_secret_and_nothing_else_on_stdout() {
    let output = Command::new(MESHCTL).arg("init").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert_eq!(text.trim().len(), 183, "{text}");
    meshctl_core::secret::Secret::parse(&text).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("meshctl join --secret-file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listing_is_data_on_stdout() {
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));

    assert_eq!(json(&meshctl(&lan, 1, "status -o json"))["mesh_ip"], ip);
    assert_eq!(json(&meshctl(&lan, 1, "peers count -o json"))["active"], 1);
    let peers = json(&meshctl(&lan, 1, "peers -o json"));
    assert_eq!(peers[0]["mesh_ip"], other);
    assert_eq!((&peers[0]["state"], &peers[0]["path"]), (&"up".into(), &"direct".into()));
    let source = peers[0]["endpoint_source"].as_str().unwrap();
    assert!(["lan", "hello"].contains(&source), "{peers}");
    let number =
        |field: &str| peers[0][field].as_i64().unwrap_or_else(|| panic!("{field}: {peers}"));
    assert!(number("handshake_age_ms") < 10_000 && number("heard_ms_ago") < 10_000, "{peers}");
    assert!(number("rx_bytes") > 0 && number("tx_bytes") > 0, "{peers}");
    assert!(number("clock_offset_secs").abs() <= 1, "{peers}");
    let key = peers[0]["pubkey"].as_str().unwrap();
    assert_eq!(json(&meshctl(&lan, 1, &format!("peers get {key} -o json")))["hostname"], "host2");
    let unknown = meshctl(&lan, 1, "peers get unknown");
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("peer not found: unknown"));

    let nodes = meshctl(&lan, 1, "nodes -o json");
    let stderr = String::from_utf8_lossy(&nodes.stderr).into_owned();
    assert!(stderr.contains("what the server knows"), "{stderr}");
    let nodes = json(&nodes);
    let shown = |index: usize, field: &str| nodes[index][field].clone();
    assert_eq!((shown(0, "name"), shown(0, "mesh_ip")), ("host1".into(), ip.into()));
    assert_eq!((shown(0, "local"), shown(0, "state")), (true.into(), "discovered".into()));
    assert_eq!((shown(1, "name"), shown(1, "mesh_ip")), ("host2".into(), other.clone().into()));
    let table = String::from_utf8(meshctl(&lan, 1, "nodes").stdout).unwrap();
    assert!(table.lines().next().unwrap().starts_with("NAME"), "{table}");
    let names = String::from_utf8(meshctl(&lan, 1, "nodes -o name").stdout).unwrap();
    assert_eq!(names, "host1\nhost2\n");
    let status = String::from_utf8(meshctl(&lan, 1, "status").stdout).unwrap();
    assert!(status.contains("1 known: 1 up"), "{status}");
    assert!(status.contains("LAN on eth0 (192.168.77.1); no seeds"), "{status}");
    assert!(!status.contains("not as it should be"), "{status}");
    for form in ["status -o yaml", "peers list -o wide", "nodes -o yaml", "status", "peers count"] {
        let output = meshctl(&lan, 1, form);
        assert!(output.status.success() && !output.stdout.is_empty(), "{form}");
    }
}

#[test]
fn without_daemon_and_server_the_reason_is_said() {
    let lan = Lan::new(1);
    let output = meshctl(&lan, 1, "nodes");
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("start one with `meshctl join`"), "{stderr}");
    assert!(stderr.contains("no Knit server answers"), "{stderr}");
}

#[test]
fn join_without_a_secret_says_where_it_looks() {
    let lan = Lan::new(1);
    let output = meshctl(&lan, 1, "join");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("no mesh secret: give --secret-file"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leave_returns_when_the_interface_is_gone() {
    let lan = Lan::new(1);
    let one = lan.join(1, &[]);
    one.mesh_ip().await;
    let output = meshctl(&lan, 1, "leave");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lan.mesh_interface(1), "");
    assert!(!meshctl(&lan, 1, "leave").status.success(), "nobody is there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn ping_goes_through_the_mesh_and_says_why_it_gets_no_answer() {
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (_, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));

    for node in ["host2", &other] {
        let output = meshctl(&lan, 1, &format!("ping {node} -c 3 -i 0.02"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.starts_with(&format!("ping host2 ({other}) over wg0\nseq 1: ")), "{text}");
        assert!(text.contains("3 sent, 3 received, 0% lost\nrtt min "), "{text}");
    }
    let summary = json(&meshctl(&lan, 1, "ping host2 -c 2 -i 0.02 -o json"));
    assert_eq!((&summary["received"], &summary["loss_percent"]), (&2.into(), &0.0.into()));

    for (node, expected) in [
        ("192.168.77.2", "is not in the mesh"),
        ("nobody", "no node of this mesh is called nobody: `meshctl peers` lists them"),
    ] {
        let output = meshctl(&lan, 1, &format!("ping {node}"));
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(expected), "{stderr}");
    }
    two.kill();
    let output = meshctl(&lan, 1, "ping host2 -c 1 -i 0.02");
    assert_eq!(output.status.code(), Some(1), "no answer is no success");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("seq 1: no answer\n1 sent, 0 received, 100% lost"), "{text}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("host2"), "it is said what is known of the peer: {stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_both_ways_and_a_peer_may_refuse() {
    let _core = crate::support::CORE.lock().await;
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &["--no-bench"]));
    let (_, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    let rates = json(&meshctl(&lan, 2, "bench host1 --seconds 1 -o json"));
    for path in ["tunnel", "beside"] {
        for way in ["down_mbit", "up_mbit"] {
            assert!(rates[path][way].as_u64().unwrap() > 1, "{rates}");
        }
    }
    for (node, expected) in [
        ("host2", "it refuses: it is switched off there (--no-bench)"),
        ("host1", "that is this node itself"),
    ] {
        let output = meshctl(&lan, 1, &format!("bench {node}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(expected), "{stderr}");
    }
}
