//! How nodes find each other.

use std::time::{Duration, Instant};

use crate::support::{Lan, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn two_fresh_hosts_mesh_within_two_seconds() {
    let _core = crate::support::CORE.lock().await;
    let lan = Lan::new(2);
    let start = Instant::now();
    let (one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let (_, to) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("a ping through the mesh", || lan.pings(1, &to).then_some(()));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");

    let status = one.client.status().await.unwrap();
    assert_eq!(status.interface, "wg0");
    assert!(matches!(status.engine.as_deref(), Some("kernel" | "userspace")), "{status:?}");
    let peers = one.client.peers().await.unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].hostname.as_str(), &peers[0].mesh_ip), ("host2", &to));
    assert_eq!(peers[0].endpoint, "192.168.77.2:51820");
    assert_eq!(one.client.peer(&peers[0].pubkey).await.unwrap().mesh_ip, to);
    assert_eq!(one.client.count().await.unwrap().active, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seed_meshes_three_hosts_without_multicast() {
    let lan = Lan::new(3);
    let seeded = ["--no-lan-discovery", "--seed", "192.168.77.1"];
    // The seed starts last: the others greet until it is there.
    let (two, three) = (lan.join(2, &seeded), lan.join(3, &seeded));
    let (_, to) = (two.mesh_ip().await, three.mesh_ip().await);
    let one = lan.join(1, &["--no-lan-discovery"]);
    eventually("hosts that only share a seed ping each other", || lan.pings(2, &to).then_some(()));
    eventually("the seed pings them", || lan.pings(1, &to).then_some(()));
    assert_eq!(one.client.peers().await.unwrap().len(), 2);
    assert_eq!(two.client.peers().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_answers_on_the_mesh_address_only() {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    let lan = Lan::new(2);
    let (_one, two) = (lan.join(1, &[]), lan.join(2, &[]));
    let to = two.mesh_ip().await;
    let secret = std::fs::read_to_string(lan.secret_file()).unwrap();
    let secret = meshctl_core::secret::Secret::parse(&secret).unwrap();
    let port = meshctl_core::derive::MeshKeys::derive(&secret).probe_port();
    let dial = |ip: &str| {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        TcpStream::connect_timeout(&address, Duration::from_secs(1))
    };
    let answer = lan.on_host(1, || {
        let mut stream = eventually("the probe listens", || dial(&to).ok());
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"what?\n ping \nping\n").unwrap();
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(&answer, b"pong\npong\n");
    lan.on_host(1, || assert!(dial("192.168.77.2").is_err(), "not on the LAN address"));
}

/// Each of these ends a Go daemon, or its LAN discovery.
#[tokio::test(flavor = "multi_thread")]
async fn no_dns_no_ipv6_and_a_port_that_coincides_are_no_obstacle() {
    use meshctl_core::derive::{MULTICAST_PORT, MeshKeys};
    use meshctl_core::secret::Secret;

    let lan = Lan::new(2);
    let secret = (0..u32::MAX).map(|number| format!("a secret of one test only {number}"));
    let coincides = |text: &String| {
        MeshKeys::derive(&Secret::parse(text).unwrap()).gossip_port == MULTICAST_PORT
    };
    std::fs::write(lan.secret_file(), secret.into_iter().find(coincides).unwrap()).unwrap();
    for host in [1, 2] {
        let script = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
        assert!(lan.command(host, "sh").args(["-c", script]).status().unwrap().success());
    }
    let flags = ["--seed", "nowhere.invalid"];
    let (one, two) = (lan.join(1, &flags), lan.join(2, &flags));
    let (_, to) = (one.mesh_ip().await, two.mesh_ip().await);
    eventually("a ping through the mesh", || lan.pings(1, &to).then_some(()));
    let start = Instant::now();
    loop {
        let met = one.client.peers().await.unwrap().remove(0).discovered_via;
        if ["lan", "dht"].iter().all(|via| met.iter().any(|how| how == via)) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "met by {met:?} only");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(one.log().contains("may hold under 128 bits"), "{}", one.log());
    assert!(one.client.status().await.unwrap().uptime > 0, "counted from the start");
}
