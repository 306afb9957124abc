//! Taking a host away and giving it back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::deploy::web;
use super::soak::page;
use crate::support::{Cluster, host_of, hosts, wait_until};

/// The fewest healthy instances of each deployment that were seen at any moment while `act` ran:
/// in the server's eyes, and by how many hosts served its page.
fn fewest_while(cluster: &Cluster, watched: &[(&str, u16)], act: impl FnOnce()) -> Vec<usize> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers: Vec<_> = watched
            .iter()
            .map(|(name, port)| {
                let over = &over;
                scope.spawn(move || {
                    let mut fewest = usize::MAX;
                    while !over.load(Ordering::Relaxed) {
                        let served =
                            cluster.nodes().filter(|node| answers(cluster, *node, *port)).count();
                        let running = cluster.instances_of(name).map_or(0, |instances| {
                            instances.iter().filter(|one| one["phase"] == "running").count()
                        });
                        fewest = fewest.min(served).min(running);
                        thread::sleep(Duration::from_millis(20));
                    }
                    fewest
                })
            })
            .collect();
        // Also when it fails: nobody waits for watchers that never end.
        let ends = Ends(&over);
        act();
        drop(ends);
        watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect()
    })
}

/// Says that it is over, when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a host serves a page on its mesh address, seen from itself.
fn answers(cluster: &Cluster, node: u8, port: u16) -> bool {
    let address: std::net::IpAddr = cluster.mesh_ip(node).parse().unwrap();
    let connect = move || {
        let address = std::net::SocketAddr::new(address, port);
        std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
    };
    cluster.inside(node, connect)
}

/// Waits until a host runs nothing.
#[track_caller]
fn wait_empty(cluster: &Cluster, node: u8) {
    wait_until(&format!("node {node} to be empty"), || {
        let view = cluster.node_view(node)?;
        let left = cluster.containers(node);
        let empty = view["instances"] == 0 && left.is_empty();
        if empty { Ok(()) } else { Err(format!("{left:?} {view}")) }
    });
}

fn anywhere(name: &str, replicas: u32, port: u16) -> Value {
    let mut manifest = page(name, 0, port, 0);
    manifest.as_object_mut().unwrap().remove("where");
    manifest["replicas"] = json!(replicas);
    manifest
}

#[test]
fn a_drained_host_is_emptied_with_never_fewer_healthy_instances_than_wanted() {
    let cluster = hosts();
    // Both have an instance on host 3, which is to be drained.
    cluster.set_availability(1, "cordoned");
    cluster.roll_out(&anywhere("pair", 2, 8094));
    cluster.set_availability(2, "cordoned");
    cluster.roll_out(&anywhere("solo", 1, 8095));
    cluster.set_availability(1, "active");
    cluster.set_availability(2, "active");
    assert_eq!(host_of(&cluster.wait_running("solo", 1)[0]), 3);

    let fewest = fewest_while(&cluster, &[("pair", 8094), ("solo", 8095)], || {
        cluster.set_availability(3, "draining");
        wait_empty(&cluster, 3);
        cluster.wait_running("pair", 2);
        cluster.wait_running("solo", 1);
    });
    assert_eq!(fewest, [2, 1], "never fewer than wanted\n{}", cluster.logs());
    assert_eq!(cluster.node_view(3).unwrap()["availability"], "draining");

    // Given back: it may have work again, and nothing moves for that.
    let before: Vec<_> = [1, 2].map(|node| cluster.containers(node)).into();
    cluster.set_availability(3, "active");
    cluster.roll_out(&anywhere("every", 3, 8096));
    assert_eq!(cluster.containers(3).len(), 1);
    for (before, node) in before.iter().zip([1, 2]) {
        let now = cluster.containers(node);
        assert!(before.iter().all(|container| now.contains(container)), "{before:?} {now:?}");
    }
}

#[test]
fn a_cordoned_host_keeps_what_it_has_and_gets_nothing_new() {
    let cluster = hosts();
    cluster.roll_out(&web("there", 3, 8080));
    let before = cluster.containers(2);
    cluster.set_availability(2, "cordoned");
    cluster.roll_out(&anywhere("new", 2, 8097));
    let hosts: Vec<_> = cluster.wait_running("new", 2).iter().map(host_of).collect();
    assert!(!hosts.contains(&2), "{hosts:?}");
    assert_eq!(cluster.containers(2), before);
    let why = cluster.get("/deployments/new/why-not?node=node-2").unwrap();
    assert!(why["reasons"].to_string().contains("cordon"), "{why}");
}

#[test]
fn a_lost_host_can_be_forgotten_and_is_let_in_again_as_it_is() {
    let cluster = hosts();
    let refused = cluster.ask("DELETE", "/nodes/node-3", &Value::Null).unwrap();
    assert_eq!(refused.status, 409, "a living node stays: {refused:?}");
    for part in ["agent", "mesh"] {
        cluster.kill(3, part);
    }
    cluster.wait_node(3, "lost");
    cluster.must("DELETE", "/nodes/node-3", &Value::Null);
    let names = || -> Result<Vec<_>, String> {
        let nodes = cluster.get("/nodes")?;
        let agents = nodes.as_array().unwrap().iter().filter(|node| node["id"].is_string());
        Ok(agents.map(|node| node["name"].as_str().unwrap().to_owned()).collect())
    };
    assert_eq!(names().unwrap(), ["node-1", "node-2"]);
    for part in ["mesh", "agent"] {
        cluster.start_part(3, part);
    }
    let pending = cluster.wait_node(3, "pending");
    assert!(pending["message"].as_str().unwrap().contains("knit node approve"), "{pending}");
    cluster.on(1, &["knit", "node", "approve", "node-3"]);
    cluster.wait_ready();
}
