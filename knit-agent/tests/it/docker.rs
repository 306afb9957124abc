//! The engine on a real Docker.

mod changes;
mod health;
mod options;
mod stores;

use std::path::Path;
use std::time::Duration;

use knit_agent::engine::{Engine, EngineError};
use knit_agent_core::container::{self, ContainerPlan, NETWORK};
use knit_agent_core::network::NetworkPlan;
use knit_agent_core::{ContainerState, Owner, Wanted};
use knit_rpc::id::{ClusterId, NodeId};
use serde_json::{Value, json};

use crate::support::agent::instance;
use crate::support::dockerd::{Dockerd, IMAGE};
use crate::support::namespace::{in_namespace, run};

fn owner(node: u8) -> Owner {
    Owner { cluster: ClusterId::from_bytes([1; 16]), node: NodeId::from_bytes([node; 16]) }
}

fn plan(owner: &Owner, name: &str, spec: Value) -> ContainerPlan {
    let (assigned, spec) = instance(name, 1, spec);
    let wanted = Wanted {
        assigned,
        spec: spec.into(),
        policy: std::sync::Arc::default(),
        secrets: std::sync::Arc::default(),
    };
    container::plan(owner, &wanted, Path::new("/nonexistent"))
}

fn network(owner: &Owner, subnet: &str) -> NetworkPlan {
    NetworkPlan::own(owner, subnet.parse().unwrap())
}

fn sleeper() -> Value {
    json!({"image": IMAGE, "command": ["/bin/busybox", "sleep", "1000"], "stop_grace": "1s"})
}

fn permanent(result: Result<(), EngineError>) -> String {
    let error = result.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    error.to_string()
}

#[test]
fn containers_are_made_once_seen_and_gone() {
    in_namespace(|| async {
        let dockerd = Dockerd::start().await;
        let (engine, owner) = (dockerd.engine(), owner(1));
        engine.ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();
        let plan = plan(&owner, "web", sleeper());
        for _ in 0..2 {
            engine.create(&plan).await.unwrap();
        }
        let found = engine.list(&owner).await.unwrap();
        assert_eq!((found.len(), found[0].state), (1, ContainerState::Created));
        for _ in 0..2 {
            engine.start(&plan.name).await.unwrap();
        }
        let found = engine.list(&owner).await.unwrap().remove(0);
        assert_eq!((found.state, &found.labels), (ContainerState::Running, &plan.labels));
        let address = found.address().unwrap().to_string();
        assert!(address.starts_with("10.208.7."), "{address}");
        assert!(engine.list(&self::owner(2)).await.unwrap().is_empty(), "another node's");
        let bridges = engine.networks().await.unwrap().into_iter().filter_map(|one| one.bridge);
        assert!(bridges.into_iter().any(|bridge| bridge == "knit0"));
        assert!(run("ip link show knit0").contains("mtu 1420"));
        for _ in 0..2 {
            engine.stop(&found.id, None).await.unwrap();
        }
        let ended = engine.list(&owner).await.unwrap().remove(0);
        assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, Some(137)));
        for _ in 0..2 {
            engine.remove(&found.id).await.unwrap();
        }
        assert!(engine.list(&owner).await.unwrap().is_empty());
    });
}

#[test]
fn what_waiting_will_not_mend_is_said_in_dockers_words() {
    in_namespace(|| async {
        let dockerd = Dockerd::start().await;
        let (engine, owner) = (dockerd.engine(), owner(1));
        engine.ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();

        let start = std::time::Instant::now();
        let error = permanent(engine.pull("nosuchimage:1", None, &|_| {}).await);
        assert!(error.contains("registry-1.docker.io"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));

        let bad = plan(&owner, "bad", json!({"image": IMAGE, "command": ["/nope"]}));
        engine.create(&bad).await.unwrap();
        let error = permanent(engine.start(&bad.name).await);
        assert!(error.contains("/nope"), "{error}");
        let left = engine.list(&owner).await.unwrap().remove(0);
        assert_eq!(left.state, ContainerState::Created);
        assert!(!left.error.is_empty(), "by which it is told from one that may be started");

        let mut spec = sleeper();
        spec["networks"] = json!(["elsewhere"]);
        let error = permanent(engine.create(&plan(&owner, "lost", spec)).await);
        assert_eq!(
            error,
            "there is no Docker network \"elsewhere\" on this node: make it with `docker network create elsewhere`"
        );

        // The same name with another node's labels: a cloned disk.
        let ours = plan(&owner, "twin", sleeper());
        let mut theirs = plan(&self::owner(2), "twin", sleeper());
        theirs.networks = vec!["bridge".to_owned()];
        engine.create(&theirs).await.unwrap();
        assert!(permanent(engine.create(&ours).await).contains("already in use"));
        assert_eq!(engine.list(&self::owner(2)).await.unwrap().len(), 1);
    });
}

#[test]
fn loopback_ports_and_the_hosts_network_are_dockers_own() {
    in_namespace(|| async {
        let dockerd = Dockerd::start().await;
        let (engine, owner) = (dockerd.engine(), owner(1));
        engine.ensure_network(&network(&owner, "10.208.7.0/24")).await.unwrap();
        let web = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/bin"];
        let port = json!({"container_port": 80, "host_port": 8181, "host_ip": "loopback"});
        let second = json!({"container_port": 80, "host_port": 8182, "host_ip": "loopback"});
        let local =
            plan(&owner, "local", json!({"image": IMAGE, "command": web, "ports": [port, second]}));
        let host = plan(
            &owner,
            "host",
            json!({"image": IMAGE, "command": ["/bin/busybox", "httpd", "-f", "-p", "8282"], "networks": ["host"], "ports": [port]}),
        );
        for plan in [&local, &host] {
            engine.create(plan).await.unwrap();
            engine.start(&plan.name).await.unwrap();
        }
        for port in [8181, 8182, 8282] {
            crate::support::until("it answers on loopback", || {
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            })
            .await;
        }
        assert!(std::net::TcpStream::connect(("127.0.0.2", 8181)).is_err());
        for plan in [&local, &host] {
            engine.remove(&plan.name).await.unwrap();
        }
    });
}

#[test]
fn the_network_follows_its_subnet_while_nothing_is_on_it() {
    in_namespace(|| async {
        let dockerd = Dockerd::start().await;
        let (engine, owner) = (dockerd.engine(), owner(1));
        for subnet in ["10.208.7.0/24", "10.208.7.0/24", "10.208.9.0/24"] {
            engine.ensure_network(&network(&owner, subnet)).await.unwrap();
            let gateway = subnet.replace("0/24", "1/24");
            assert!(run("ip addr show knit0").contains(&gateway), "{subnet}");
        }
        let plan = plan(&owner, "web", sleeper());
        engine.create(&plan).await.unwrap();
        engine.start(&plan.name).await.unwrap();
        engine.ensure_network(&network(&owner, "10.208.11.0/24")).await.unwrap();
        assert!(run("ip addr show knit0").contains("10.208.9.1/24"), "a container is on it");

        let error =
            permanent(engine.ensure_network(&network(&self::owner(2), "10.1.0.0/24")).await);
        assert!(error.contains(&format!("\"{NETWORK}\" that is not this node's")), "{error}");
        engine.remove(&plan.name).await.unwrap();
        engine.remove_network(&self::owner(2), NETWORK).await.unwrap();
        assert!(run("ip addr show knit0").contains("10.208.9.1/24"), "another node's stays");
        engine.remove_network(&owner, NETWORK).await.unwrap();
        assert!(!run("ip link").contains("knit0"));
    });
}
