//! Real nftables in a namespace: a mesh neighbour, a LAN neighbour, two containers on a bridge.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use knit_agent::firewall::Firewall;
use knit_agent::firewall::nftables::Nftables;
use knit_agent_core::nft::Rules;
use knit_agent_core::publish::{HostPort, PortMap, Scope, Target};
use knit_rpc::spec::Protocol;

use crate::support::namespace::{Neighbour, fetch, in_namespace, run};

const MESH: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const LAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

struct Host {
    mesh: Neighbour,
    lan: Neighbour,
    one: Neighbour,
    _two: Neighbour,
}

impl Host {
    fn new() -> Self {
        run("ip link add knit0 type bridge");
        run("ip addr add 10.208.0.1/24 dev knit0");
        run("ip link set knit0 up");
        let mesh = Neighbour::new("mesh0", Some("10.99.0.1/24"), "10.99.0.2/24", None);
        let lan = Neighbour::new("lan0", Some("192.0.2.1/24"), "192.0.2.2/24", None);
        let one = Neighbour::new("c1", None, "10.208.0.2/24", Some("knit0"));
        let two = Neighbour::new("c2", None, "10.208.0.3/24", Some("knit0"));
        for (container, name) in [(&one, "one"), (&two, "two")] {
            container.run("ip route add default via 10.208.0.1");
            container.serve(name);
        }
        // An attacker on the LAN sends to mesh and container addresses by way of this host.
        lan.run("ip route add 10.99.0.0/24 via 192.0.2.1");
        lan.run("ip route add 10.208.0.0/24 via 192.0.2.1");
        mesh.run("ip route add 10.208.0.0/24 via 10.99.0.1");
        Self { mesh, lan, one, _two: two }
    }
}

fn rules(ports: &[(Scope, u16, u8)]) -> Rules {
    let ports: PortMap = ports
        .iter()
        .map(|(scope, port, host)| {
            let key = HostPort { scope: *scope, protocol: Protocol::Tcp, port: *port };
            (key, Target { address: Ipv4Addr::new(10, 208, 0, *host), port: 80 })
        })
        .collect();
    Rules {
        mesh_ip: Some(MESH),
        inside: ["mesh0", "lo", "knit0"].map(str::to_owned).into(),
        bridges: ["knit0".to_owned()].into(),
        subnets: ["10.208.0.0/24".parse().unwrap()].into(),
        ports,
    }
}

/// What the containers answer.
const ONE: Option<&str> = Some("one");
const TWO: Option<&str> = Some("two");

#[test]
fn a_port_is_reached_over_the_mesh_and_from_the_host_and_not_from_the_lan() {
    in_namespace(|| async {
        let host = Host::new();
        let (published, container) = ((MESH, 8080), (Ipv4Addr::new(10, 208, 0, 3), 80));
        let firewall = Nftables::new();
        assert_eq!(host.lan.fetch(container).as_deref(), TWO, "without a guard it is open");
        firewall.apply(&rules(&[(Scope::Mesh, 8080, 3)])).await.unwrap();

        assert_eq!(host.mesh.fetch(published).as_deref(), TWO);
        assert_eq!(fetch(published).as_deref(), TWO, "the host itself");
        assert_eq!(host.one.fetch(published).as_deref(), TWO, "a container on the same bridge");
        assert_eq!(host.mesh.fetch(container).as_deref(), TWO, "routed over the mesh");
        assert_eq!(
            host.lan.fetch(published).as_deref(),
            None,
            "the mesh address by way of the LAN"
        );
        assert_eq!(host.lan.fetch((LAN, 8080)).as_deref(), None, "the LAN address");
        assert_eq!(host.lan.fetch(container).as_deref(), None, "the container itself");
    });
}

#[test]
fn the_guard_covers_what_the_host_itself_listens_on() {
    in_namespace(|| async {
        let host = Host::new();
        let listener = std::net::TcpListener::bind((MESH, 7400)).unwrap();
        let connect = |from: &Neighbour| {
            let address = (MESH, 7400).into();
            let limit = Duration::from_secs(1);
            let connecting =
                from.spawn(move || std::net::TcpStream::connect_timeout(&address, limit).is_ok());
            connecting.join().unwrap()
        };
        assert!(connect(&host.lan), "without a guard it is open");
        Nftables::new().apply(&rules(&[])).await.unwrap();
        assert!(!connect(&host.lan));
        assert!(connect(&host.mesh));
        drop(listener);
    });
}

#[test]
fn datagrams_are_led_there_and_back_and_not_from_the_lan() {
    in_namespace(|| async {
        let host = Host::new();
        let (ready, listening) = std::sync::mpsc::channel();
        host.one.spawn(move || {
            let socket = UdpSocket::bind("0.0.0.0:53").unwrap();
            ready.send(()).unwrap();
            let mut question = [0; 16];
            while let Ok((length, asker)) = socket.recv_from(&mut question) {
                let _ = socket.send_to(&question[..length], asker);
            }
        });
        listening.recv().unwrap();
        let key = HostPort { scope: Scope::Mesh, protocol: Protocol::Udp, port: 5353 };
        let target = Target { address: Ipv4Addr::new(10, 208, 0, 2), port: 53 };
        let published = Rules { ports: PortMap::from([(key, target)]), ..rules(&[]) };
        Nftables::new().apply(&published).await.unwrap();

        let is_answered = |from: &Neighbour| {
            let asking = from.spawn(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                // Only what comes back from the published address counts.
                socket.connect((MESH, 5353)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                socket.send(b"hello").unwrap();
                socket.recv(&mut [0; 16]).is_ok()
            });
            asking.join().unwrap()
        };
        assert!(is_answered(&host.mesh));
        assert!(!is_answered(&host.lan), "the mesh address by way of the LAN");
    });
}

#[test]
fn who_claims_a_containers_address_from_outside_is_not_let_into_the_mesh() {
    in_namespace(|| async {
        let host = Host::new();
        host.lan.run("ip addr add 10.208.0.77/32 dev eth0");
        // Whether a datagram that claims to come from a container gets through to a mesh peer.
        let gets_through = |from: &Neighbour, source: Ipv4Addr| {
            let (ready, listening) = std::sync::mpsc::channel();
            let heard = host.mesh.spawn(move || {
                let socket = UdpSocket::bind((Ipv4Addr::new(10, 99, 0, 2), 9999)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                ready.send(()).unwrap();
                socket.recv_from(&mut [0; 16]).is_ok()
            });
            listening.recv().unwrap();
            let sent = from.spawn(move || {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                socket.send_to(b"boo", (Ipv4Addr::new(10, 99, 0, 2), 9999)).unwrap();
            });
            sent.join().unwrap();
            heard.join().unwrap()
        };
        let (spoofed, own) = (Ipv4Addr::new(10, 208, 0, 77), Ipv4Addr::new(10, 208, 0, 2));
        assert!(gets_through(&host.lan, spoofed), "without a guard it is open");
        Nftables::new().apply(&rules(&[])).await.unwrap();
        assert!(!gets_through(&host.lan, spoofed));
        assert!(gets_through(&host.one, own), "a real container is heard");
    });
}

#[test]
fn public_and_literal_addresses_are_what_they_say() {
    in_namespace(|| async {
        let host = Host::new();
        let firewall = Nftables::new();
        let both = [(Scope::Public, 9090, 2), (Scope::Address(LAN), 9191, 3)];
        firewall.apply(&rules(&both)).await.unwrap();
        assert_eq!(host.lan.fetch((LAN, 9090)).as_deref(), ONE);
        assert_eq!(host.mesh.fetch((MESH, 9090)).as_deref(), ONE);
        assert_eq!(host.lan.fetch((LAN, 9191)).as_deref(), TWO);
        assert_eq!(host.mesh.fetch((MESH, 9191)).as_deref(), None);
        assert_eq!(fetch((LAN, 9191)).as_deref(), TWO);
        firewall.apply(&rules(&both[..1])).await.unwrap();
        assert_eq!(host.lan.fetch((LAN, 9191)).as_deref(), None);
    });
}

#[test]
fn swapping_under_load_loses_no_connection() {
    in_namespace(|| async {
        let host = Host::new();
        let firewall = Nftables::new();
        firewall.apply(&rules(&[(Scope::Mesh, 8080, 2)])).await.unwrap();
        let load = host.mesh.load((MESH, 8080));
        for swap in 0..20u8 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            firewall.apply(&rules(&[(Scope::Mesh, 8080, 2 + (swap + 1) % 2)])).await.unwrap();
            if swap % 5 == 4 {
                // An agent that starts anew replaces the whole table.
                let target = 2 + (swap + 1) % 2;
                Nftables::new().apply(&rules(&[(Scope::Mesh, 8080, target)])).await.unwrap();
            }
        }
        let answers = load.stop();
        let of = |name| answers.iter().filter(|answer| answer.as_deref() == name).count();
        assert_eq!(of(ONE) + of(TWO), answers.len(), "of {} some got none", answers.len());
        assert!(of(ONE) > 0 && of(TWO) > 0, "both had their turn");
    });
}

#[test]
fn whatever_was_done_to_the_table_it_is_as_it_should_be_again() {
    in_namespace(|| async {
        let host = Host::new();
        let firewall = Nftables::new();
        let wanted = rules(&[(Scope::Mesh, 8080, 2)]);
        firewall.apply(&wanted).await.unwrap();
        for damage in [
            "nft flush ruleset",
            "nft delete table ip knit",
            "nft flush chain ip knit published",
            "nft flush map ip knit mesh",
            "nft flush set ip knit mesh_addr",
            "nft add element ip knit mesh { tcp . 9999 : 10.208.0.3 . 80 }",
            "nft insert rule ip knit guard drop",
        ] {
            run(damage);
            firewall.apply(&wanted).await.unwrap();
            assert_eq!(host.mesh.fetch((MESH, 8080)).as_deref(), ONE, "after {damage}");
            assert_eq!(host.mesh.fetch((MESH, 9999)).as_deref(), None, "after {damage}");
            assert_eq!(host.lan.fetch((MESH, 8080)).as_deref(), None, "after {damage}");
        }
        run("nft add table ip other");
        firewall.clear().await.unwrap();
        assert!(firewall.published().await.unwrap().is_none());
        assert!(run("nft list tables").contains("ip other"), "what is not ours stays");
    });
}
