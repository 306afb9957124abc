//! Hosts behind real NATs: they meet through an introducer, or are relayed by it.

use std::time::{Duration, Instant};

use knit_rpc::jsonrpc::PeerPath;
use nix::sys::signal::Signal;

use crate::support::{Daemon, Lan, eventually};

/// The same port outside as inside, as most NATs do it.
const CONE: &str = "masquerade";
/// Another port for each destination.
const SYMMETRIC: &str = "masquerade fully-random";

fn flags(extra: &[&'static str], seeds: &[&'static str]) -> Vec<&'static str> {
    let seeds = seeds.iter().flat_map(|seed| ["--seed", *seed]);
    ["--no-lan-discovery"].into_iter().chain(extra.iter().copied()).chain(seeds).collect()
}

/// How a node reaches another: the path and the relay's name.
async fn path(from: &Daemon, to: &str) -> Option<(PeerPath, Option<String>)> {
    let peers = from.client.peer_details().await.ok()?;
    let name = |key: &String| {
        let peer = peers.iter().find(|peer| peer.info.pubkey == *key);
        peer.map(|peer| peer.info.hostname.clone())
    };
    let peer = peers.iter().find(|peer| peer.info.hostname == to)?;
    Some((peer.path, peer.relay.as_ref().and_then(name)))
}

/// Waits for a ping, and for the path that it should take.
async fn reached(lan: &Lan, host: u8, from: &Daemon, to: &str, ip: &str, by: Option<&str>) {
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        let taken = path(from, to).await;
        let wanted = match by {
            None => (PeerPath::Direct, None),
            Some(relay) => (PeerPath::Relay, Some(relay.to_owned())),
        };
        if taken.as_ref() == Some(&wanted) && lan.pings(host, ip) {
            return;
        }
        assert!(Instant::now() < deadline, "{to} is reached by {taken:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_behind_cones_meet_directly_by_an_introducer() {
    let lan = Lan::behind_routers(2, 1, CONE);
    let introducer = lan.join(3, &flags(&["--introducer"], &[]));
    introducer.mesh_ip().await;
    let clients = flags(&[], &["203.0.113.3"]);
    let (one, two) = (lan.join(1, &clients), lan.join(2, &clients));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    reached(&lan, 1, &one, "host2", &other, None).await;
    reached(&lan, 2, &two, "host1", &ip, None).await;
    let peers = one.client.peers().await.unwrap();
    let endpoint = &peers.iter().find(|peer| peer.hostname == "host2").unwrap().endpoint;
    assert_eq!(endpoint, "203.0.113.2:51820");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_behind_symmetric_nats_are_relayed_until_the_relay_leaves() {
    let lan = Lan::behind_routers(2, 2, SYMMETRIC);
    let seeds = ["203.0.113.3", "203.0.113.4"];
    let relays = flags(&["--introducer"], &seeds);
    let (mut three, mut four) = (lan.join(3, &relays), lan.join(4, &relays));
    let clients = flags(&[], &seeds);
    let (one, two) = (lan.join(1, &clients), lan.join(2, &clients));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    let deadline = Instant::now() + Duration::from_secs(25);
    let relay = loop {
        if let Some((PeerPath::Relay, Some(relay))) = path(&one, "host2").await {
            break relay;
        }
        assert!(Instant::now() < deadline, "not relayed: {:?}", path(&one, "host2").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    reached(&lan, 1, &one, "host2", &other, Some(&relay)).await;
    reached(&lan, 2, &two, "host1", &ip, Some(&relay)).await;

    // The other introducer takes over.
    let (gone, left) = if relay == "host3" { (&mut three, 4) } else { (&mut four, 3) };
    let host: u8 = if relay == "host3" { 3 } else { 4 };
    gone.signal(Signal::SIGKILL);
    let next = format!("host{left}");
    reached(&lan, 1, &one, "host2", &other, Some(&next)).await;
    reached(&lan, 2, &two, "host1", &ip, Some(&next)).await;
    assert!(lan.rules(left).contains("knit_mesh_wg0"), "{}", lan.rules(left));
    let survivor = if host == 3 { &four } else { &three };
    survivor.client.leave().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while lan.rules(left).contains("knit_mesh") {
        assert!(Instant::now() < deadline, "the rules stay: {}", lan.rules(left));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_path_that_opens_is_taken_and_one_that_is_not_wanted_is_not() {
    let lan = Lan::behind_routers(3, 1, CONE);
    let introducer = lan.join(4, &flags(&["--introducer"], &[]));
    introducer.mesh_ip().await;
    lan.router_blocks(1, "ip saddr 203.0.113.2");
    lan.router_blocks(2, "ip saddr 203.0.113.1");
    let clients = flags(&[], &["203.0.113.4"]);
    let (one, two) = (lan.join(1, &clients), lan.join(2, &clients));
    let three = lan.join(3, &flags(&["--force-relay"], &["203.0.113.4"]));
    let (_, other) = (one.mesh_ip().await, two.mesh_ip().await);
    let third = three.mesh_ip().await;
    reached(&lan, 1, &one, "host2", &other, Some("host4")).await;
    lan.router_blocks(1, "");
    lan.router_blocks(2, "");
    reached(&lan, 1, &one, "host2", &other, None).await;
    reached(&lan, 1, &one, "host3", &third, Some("host4")).await;
    assert_eq!(one.client.detail().await.unwrap().peers.relayed, 1);
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let peers = one.client.peer_details().await.unwrap();
        let relayed = peers.iter().find(|peer| peer.relay.is_some());
        let why = relayed.and_then(|peer| peer.why.clone()).unwrap_or_default();
        if why.starts_with("reached through introducer host4") {
            return;
        }
        assert!(Instant::now() < deadline, "{why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Docker may start after the introducer, and forwards nothing that its users' chain does not pass.
#[tokio::test(flavor = "multi_thread")]
async fn an_introducer_puts_its_rules_back_and_finds_docker_later() {
    let lan = Lan::new(1);
    let introducer = lan.join(1, &["--introducer"]);
    introducer.mesh_ip().await;
    let shell = |script: &str| lan.command(1, "sh").args(["-ec", script]).output().unwrap();
    let output = shell("nft flush table inet knit_mesh_wg0; iptables -N DOCKER-USER");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("its rules are back", || {
        lan.rules(1).contains(r#"oifname "wg0" drop"#).then_some(())
    });
    eventually("Docker passes what is relayed", || {
        let listed = shell("iptables -S DOCKER-USER").stdout;
        String::from_utf8(listed).unwrap().contains("-i wg0 -o wg0 -j ACCEPT").then_some(())
    });
}

/// Docker sets the policy to drop what is forwarded, and leaves one chain to others.
#[tokio::test(flavor = "multi_thread")]
async fn an_introducer_relays_past_docker_and_takes_its_exception_back() {
    let lan = Lan::behind_routers(2, 1, CONE);
    let docker = "echo 1 > /proc/sys/net/ipv4/ip_forward; iptables -P FORWARD DROP; \
                  iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN; \
                  iptables -I FORWARD -j DOCKER-USER";
    lan.shell(&lan.namespace(3), docker);
    let before = lan.rules(3);
    let introducer = lan.join(3, &flags(&["--introducer"], &[]));
    introducer.mesh_ip().await;
    let clients = flags(&["--force-relay"], &["203.0.113.3"]);
    let (one, two) = (lan.join(1, &clients), lan.join(2, &clients));
    let (ip, other) = (one.mesh_ip().await, two.mesh_ip().await);
    reached(&lan, 1, &one, "host2", &other, Some("host3")).await;
    reached(&lan, 2, &two, "host1", &ip, Some("host3")).await;
    let exception = |rules: &str| rules.contains(r#"iifname "wg0" oifname "wg0" ip saddr"#);
    let chain = lan.command(3, "iptables").args(["-S", "DOCKER-USER"]).output().unwrap();
    let chain = String::from_utf8(chain.stdout).unwrap();
    assert!(chain.contains("-i wg0 -o wg0 -j ACCEPT"), "{chain}");
    assert!(exception(&lan.rules(3)) && !exception(&before));
    // That it is what lets them pass: without it they do not.
    let spec = chain.lines().find(|rule| rule.contains("wg0")).unwrap().replacen("-A", "-D", 1);
    eventually("Docker's policy holds", || {
        // The introducer may put it back at any moment.
        lan.shell(&lan.namespace(3), &format!("iptables {spec} || true"));
        (!lan.pings(1, &other)).then_some(())
    });
    introducer.client.leave().await.unwrap();
    let stripped = |rules: String| {
        let lines = rules.lines().map(|line| match line.find("counter packets") {
            Some(at) => format!("{}{}", &line[..at], line.rsplit(' ').next().unwrap()),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>()
    };
    eventually("the rules are as before", || {
        (stripped(lan.rules(3)) == stripped(before.clone())).then_some(())
    });
}
