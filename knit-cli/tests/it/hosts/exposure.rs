//! From outside of the mesh nothing of Knit answers, whatever way a neighbour takes.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::deploy::web;
use crate::support::{Cluster, hosts, wait_until};

const API: u16 = 7400;
const NATS: u16 = 7422;
const NATS_MONITOR: u16 = 7423;
const PUBLISHED: u16 = 8080;
/// A listener of the test's own, which must be reachable: else the scan proves nothing.
const CONTROL: u16 = 9999;

/// A host on the underlay that is in no mesh.
struct Neighbour {
    netns: String,
}

impl Neighbour {
    /// Plugs one into the bridge. Its name is one that the cluster's own cleaning removes too.
    fn plug_in(cluster: &Cluster) -> Self {
        let neighbour = Self { netns: cluster.netns(16) };
        let (netns, hub) = (neighbour.netns.as_str(), cluster.hub());
        ip(&["netns", "add", netns]);
        let peer = ["peer", "name", "port16", "netns", &hub];
        ip(&[["link", "add", "eth0", "netns", netns, "type", "veth"].as_slice(), &peer].concat());
        ip(&["-n", &hub, "link", "set", "port16", "master", "knitdev0", "up"]);
        ip(&["-n", netns, "addr", "add", "172.31.255.200/24", "dev", "eth0"]);
        ip(&["-n", netns, "link", "set", "eth0", "up"]);
        neighbour
    }

    fn route(&self, to: &str, via: &str) {
        ip(&["-n", &self.netns, "route", "replace", to, "via", via]);
    }

    /// Those of the ports that answer.
    fn open_ports(
        &self,
        address: &str,
        ports: impl Iterator<Item = u16> + Send + 'static,
    ) -> Vec<u16> {
        let path = format!("/run/netns/{}", self.netns);
        let address: std::net::IpAddr = address.parse().unwrap();
        let scan = move || {
            setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let timeout = Duration::from_millis(500);
            let answers = |port: &u16| {
                TcpStream::connect_timeout(&SocketAddr::new(address, *port), timeout).is_ok()
            };
            ports.filter(answers).collect()
        };
        thread::spawn(scan).join().unwrap()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.netns]).status();
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A listener on all addresses of a host, one of which only it has.
struct Control<'a> {
    cluster: &'a Cluster,
    pid: String,
}

const CONTROL_ADDRESS: &str = "198.51.100.1";

impl<'a> Control<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        let script = format!("busybox nc -ll -p {CONTROL} -e true >/dev/null 2>&1 & echo $!");
        let pid = cluster.on(1, &["sh", "-c", &script]);
        cluster.on(1, &["ip", "addr", "replace", &format!("{CONTROL_ADDRESS}/32"), "dev", "lo"]);
        Self { cluster, pid }
    }
}

impl Drop for Control<'_> {
    fn drop(&mut self) {
        self.cluster.try_on(1, &["kill", &self.pid]);
        self.cluster
            .try_on(1, &["ip", "addr", "del", &format!("{CONTROL_ADDRESS}/32"), "dev", "lo"]);
    }
}

#[test]
fn nothing_answers_off_the_mesh_and_everything_on_it() {
    let cluster = hosts();
    cluster.deploy(&web("exposed", 3, PUBLISHED));
    let neighbour = Neighbour::plug_in(&cluster);
    let control = Control::start(&cluster);
    let underlay = cluster.underlay(1);

    // The neighbour's ways work, also the one to an address behind a host's underlay address.
    neighbour.route(CONTROL_ADDRESS, &underlay);
    wait_until("the neighbour's way to a listener of ours", || {
        let direct = neighbour.open_ports(&underlay, std::iter::once(CONTROL));
        let routed = neighbour.open_ports(CONTROL_ADDRESS, std::iter::once(CONTROL));
        if direct.len() + routed.len() == 2 {
            Ok(())
        } else {
            Err(format!("{direct:?} {routed:?}"))
        }
    });
    drop(control);

    for node in cluster.nodes() {
        let underlay = cluster.underlay(node);
        assert_eq!(
            neighbour.open_ports(&underlay, 1..=u16::MAX),
            Vec::<u16>::new(),
            "{underlay} of node {node}"
        );
        let mesh_ip = cluster.mesh_ip(node);
        neighbour.route(&mesh_ip, &underlay);
        let ours = [API, NATS, NATS_MONITOR, PUBLISHED];
        let open = neighbour.open_ports(&mesh_ip, ours.into_iter());
        assert_eq!(open, Vec::<u16>::new(), "{mesh_ip} by way of {underlay}");
    }

    for node in [2, 3] {
        for (of, port) in [(1, API), (1, NATS), (1, PUBLISHED), (2, PUBLISHED), (3, PUBLISHED)] {
            let address = cluster.mesh_ip(of);
            cluster.on(
                node,
                &[
                    "timeout",
                    "5",
                    "busybox",
                    "nc",
                    "-w",
                    "3",
                    &address,
                    &port.to_string(),
                    "-e",
                    "true",
                ],
            );
        }
    }
}

#[test]
fn containers_are_not_reached_around_the_published_ports() {
    let cluster = hosts();
    cluster.deploy(&web("inner", 3, PUBLISHED));
    let neighbour = Neighbour::plug_in(&cluster);
    for instance in cluster.instances() {
        let node: u8 = instance["node_name"].as_str().unwrap()[5..].parse().unwrap();
        let address = instance["address"].as_str().unwrap().to_owned();
        neighbour.route(&address, &cluster.underlay(node));
        assert_eq!(
            neighbour.open_ports(&address, std::iter::once(80)),
            Vec::<u16>::new(),
            "{address} on node {node}"
        );
    }
}
