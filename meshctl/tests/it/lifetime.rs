//! The interface outlives the daemon; leaving removes it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{CORE, Lan, addr, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn sockets_live_through_kill_9_and_the_tunnel_is_back_within_a_second() {
    let _core = CORE.lock().await;
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    let listener = lan.on_host(1, || TcpListener::bind((addr(&ip), 7000)).unwrap());
    let address: SocketAddr = listener.local_addr().unwrap();
    let dial = || TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    let mut early = lan.on_host(2, dial);
    let (mut accepted, _) = listener.accept().unwrap();

    one.kill();
    assert!(lan.mesh_interface(1).contains(&ip), "the address stays");
    let start = Instant::now();
    let one = lan.join(1, &[]);
    eventually("a ping after the restart", || lan.pings(2, &ip).then_some(()));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "took {took:?}");
    assert_eq!(one.mesh_ip().await, ip);

    early.write_all(b"early").unwrap();
    let mut heard = [0; 5];
    accepted.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    accepted.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"early", "a connection of before the kill works on");
    let _late = lan.on_host(2, dial);
    listener.accept().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_handshakes_are_repeated_soon_after_a_restart() {
    let _core = CORE.lock().await;
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &["--engine", "userspace"]), lan.join(2, &[]));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    // Three of four datagrams of the length of a handshake's first message are lost.
    let rules = "table inet lossy { chain in { type filter hook input priority 0; \
                 udp length 156 numgen inc mod 4 < 3 drop; } ; }";
    let loading = lan.command(2, "nft").arg(rules).status();
    assert!(loading.unwrap().success());

    one.kill();
    let start = Instant::now();
    let _one = lan.join(1, &["--engine", "userspace"]);
    eventually("a ping after the restart", || lan.pings(2, &ip).then_some(()));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(4), "three losses took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_of_a_silent_peer_within_five_seconds_and_of_its_return() {
    let _core = CORE.lock().await;
    let lan = Lan::new(2);
    let (one, two) = (lan.join(1, &[]), lan.join(2, &["--engine", "userspace"]));
    let (_, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    let key = two.client.status().await.unwrap().pubkey;
    let mut watch = one.client.watch().await.unwrap();
    assert_eq!(watch.next().await.unwrap().unheard, Some(Vec::new()));

    two.kill();
    let died = Instant::now();
    let told = watch.next().await.unwrap().unheard;
    assert_eq!(told, Some(vec![key]));
    assert!(died.elapsed() < Duration::from_millis(5_500), "told after {:?}", died.elapsed());
    assert_eq!(one.client.peers().await.unwrap().len(), 1, "it is a peer for five minutes more");

    let _two = lan.join(2, &[]);
    let back = Instant::now();
    assert_eq!(watch.next().await.unwrap().unheard, Some(Vec::new()));
    assert!(back.elapsed() < Duration::from_secs(2), "back after {:?}", back.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_leaves_the_interface_and_leave_removes_it() {
    let lan = Lan::new(2);
    let (mut one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    let key = one.client.status().await.unwrap().pubkey;
    for file in ["wg0.json", "wg0-peers.json"] {
        let path = lan.state_dir(1).join(file);
        eventually("state is kept", || path.exists().then_some(()));
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }

    one.signal(Signal::SIGTERM);
    assert!(one.ends());
    assert!(lan.mesh_interface(1).contains(&ip), "SIGTERM leaves device and address");
    assert!(!lan.socket(1).exists(), "and removes the socket");
    drop(one);

    let mut one = lan.join(1, &[]);
    assert_eq!(one.mesh_ip().await, ip);
    assert_eq!(one.client.status().await.unwrap().pubkey, key);
    assert_eq!(one.client.peers().await.unwrap().len(), 1, "peers are taken over at once");
    eventually("a ping after the restart", || lan.pings(1, &other).then_some(()));
    assert!(!two.log().contains("left the mesh"), "no goodbye was said: {}", two.log());
    assert_eq!(two.client.peers().await.unwrap().len(), 1);

    one.client.leave().await.unwrap();
    assert!(one.ends());
    assert_eq!(lan.mesh_interface(1), "");
    let start = Instant::now();
    while !two.client.peers().await.unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "the goodbye was not heard");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn teardown_removes_the_interface_at_sigterm_and_says_goodbye() {
    let lan = Lan::new(2);
    let (mut one, two) = (lan.join(1, &["--teardown"]), lan.join(2, &[]));
    let (_, other) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("the mesh stands", || lan.pings(1, &other).then_some(()));
    one.signal(Signal::SIGTERM);
    assert!(one.ends());
    assert_eq!(lan.mesh_interface(1), "");
    eventually("the goodbye is heard", || two.log().contains("left the mesh").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_identity_is_refused_and_not_replaced() {
    let lan = Lan::new(1);
    let path = lan.state_dir(1).join("wg0.json");
    fs::create_dir(lan.state_dir(1)).unwrap();
    fs::write(&path, "{\"wg_pub").unwrap();
    let mut one = lan.join(1, &[]);
    assert!(!one.ends());
    let log = one.log();
    assert!(log.contains("wg0.json is damaged: restore the file"), "{log}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"wg_pub");
    assert_eq!(lan.mesh_interface(1), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_not_ours_is_left_alone() {
    let lan = Lan::new(1);
    let ip = |arguments: &str| {
        assert!(lan.command(1, "ip").args(arguments.split(' ')).status().unwrap().success());
    };
    ip("tuntap add dev wg0 mode tun");
    ip("addr add 198.51.100.1/24 dev wg0");
    let mut one = lan.join(1, &[]);
    assert!(!one.ends());
    let log = one.log();
    assert!(log.contains("interface wg0 belongs to something else"), "{log}");
    assert!(lan.mesh_interface(1).contains("198.51.100.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_address_comes_back_and_a_lost_interface_ends_the_daemon() {
    let lan = Lan::new(1);
    let mut one = lan.join(1, &[]);
    let address = one.mesh_ip().await;
    let ip = |arguments: &str| {
        assert!(lan.command(1, "ip").args(arguments.split(' ')).status().unwrap().success());
    };
    ip("-4 addr flush dev wg0");
    let there = || lan.mesh_interface(1).contains(&address).then_some(());
    eventually("the address is put back", there);
    ip("link del wg0");
    assert!(!one.ends());
    let log = one.log();
    assert!(log.contains("interface wg0 was removed"), "{log}");
    let _again = lan.join(1, &[]);
    eventually("the next start makes it anew", there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_leaves_no_interface() {
    let lan = Lan::new(1);
    let taken = lan.on_host(1, || std::net::UdpSocket::bind("0.0.0.0:51820").unwrap());
    let mut one = lan.join(1, &["--engine", "userspace"]);
    assert!(!one.ends(), "its port is taken");
    assert!(one.log().contains("is UDP port 51820 taken?"), "{}", one.log());
    assert_eq!(lan.mesh_interface(1), "");
    drop(taken);
    let one = lan.join(1, &["--engine", "userspace"]);
    one.mesh_ip().await;
}
