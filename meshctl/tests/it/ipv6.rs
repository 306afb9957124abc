//! The mesh's IPv6 beside its IPv4: there where the host can, and no obstacle where it cannot.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use meshctl_core::derive::MeshKeys;
use meshctl_core::secret::Secret;

use crate::support::{Daemon, Lan, eventually};

fn keys(lan: &Lan) -> MeshKeys {
    let secret = std::fs::read_to_string(lan.secret_file()).unwrap();
    MeshKeys::derive(&Secret::parse(&secret).unwrap())
}

/// What Go would give the node, by its key.
async fn derived(lan: &Lan, daemon: &Daemon) -> String {
    daemon.mesh_ip().await;
    let keys = keys(lan);
    let key = daemon.client.status().await.unwrap().pubkey.parse().unwrap();
    meshctl_core::derive::mesh_ipv6(keys.v6_prefix, &key, &keys.secret).to_string()
}

fn set_disabled(lan: &Lan, host: u8, value: u8) {
    for which in ["all", "default", "wg0"] {
        let script = format!("echo {value} > /proc/sys/net/ipv6/conf/{which}/disable_ipv6 || true");
        lan.command(host, "sh").args(["-c", &script]).output().unwrap();
    }
}

fn has(lan: &Lan, host: u8, address: &str) -> bool {
    let mut ip = lan.command(host, "ip");
    let output = ip.args(["-brief", "-6", "address", "show", "dev", "wg0"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains(&format!("{address}/64"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_pings_come_back_after_a_flush_and_stay_over_a_restart() {
    let lan = Lan::new(2);
    let (mut one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (ip, other) = (derived(&lan, &one).await, derived(&lan, &two).await);
    eventually("an IPv6 ping through the mesh", || lan.pings(1, &other).then_some(()));
    let kept = std::fs::read_to_string(lan.state_dir(1).join("wg0.json")).unwrap();
    assert!(kept.contains(&format!("\"mesh_ipv6\": \"{ip}\"")), "{kept}");

    let mut flush = lan.command(1, "ip");
    assert!(flush.args(["-6", "addr", "flush", "dev", "wg0"]).status().unwrap().success());
    eventually("the address is put back", || has(&lan, 1, &ip).then_some(()));
    one.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(one.ends());
    assert!(has(&lan, 1, &ip), "it stays as the interface does");
    drop(one);
    let mut one = lan.join(1, &[]);
    eventually("a ping after the restart", || lan.pings(2, &ip).then_some(()));
    one.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(one.ends());
    drop(one);

    let _one = lan.join(1, &["--no-ipv6"]);
    eventually("--no-ipv6 takes it away", || (!has(&lan, 1, &ip)).then_some(()));
}

/// A host without IPv6 is in the mesh; when it gets IPv6, address and probe follow.
#[tokio::test(flavor = "multi_thread")]
async fn ipv6_that_comes_late_is_used_and_its_probe_answers() {
    let lan = Lan::new(2);
    set_disabled(&lan, 2, 1);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (_, v4) = (one.mesh_ip().await, two.mesh_ip().await);
    let v6 = derived(&lan, &two).await;
    eventually("an IPv4 ping through the mesh", || lan.pings(1, &v4).then_some(()));
    assert!(two.log().contains("the mesh is IPv4 only"), "{}", two.log());
    assert!(!has(&lan, 2, &v6));

    set_disabled(&lan, 2, 0);
    eventually("the address comes", || has(&lan, 2, &v6).then_some(()));
    eventually("an IPv6 ping through the mesh", || lan.pings(1, &v6).then_some(()));
    let probe = SocketAddr::new(v6.parse().unwrap(), keys(&lan).probe_port());
    let dial = || TcpStream::connect_timeout(&probe, Duration::from_secs(1)).ok();
    lan.on_host(1, || drop(eventually("the probe listens on IPv6", dial)));
}
