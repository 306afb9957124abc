//! The agent on a real Docker and real nftables, with a neighbour in the mesh who looks on.

mod stores;

use std::net::Ipv4Addr;

use knit_agent::agent::Agent;
use knit_agent::engine::Engine;
use knit_agent::engine::docker::Docker;
use knit_agent::firewall::nftables::Nftables;
use knit_agent::mesh::MeshAddress;
use knit_agent_core::Owner;
use knit_agent_core::container::{self, ContainerPlan};
use knit_rpc::message::{AssignedInstance, Phase};
use knit_rpc::spec::InstanceSpec;
use serde_json::json;

use crate::support::agent::{instance, start_at};
use crate::support::dockerd::{Dockerd, IMAGE, web_command};
use crate::support::namespace::{Neighbour, in_namespace, run};
use crate::support::server::Server;
use crate::support::{TempDir, until};

mod health;
mod registries;

const MESH: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PUBLISHED: (Ipv4Addr, u16) = (MESH, 8080);

struct Host {
    dir: TempDir,
    server: Server,
    dockerd: Dockerd,
    mesh: Neighbour,
}

type Instance = (AssignedInstance, InstanceSpec);

impl Host {
    async fn new() -> Self {
        let mesh = Neighbour::new("mesh0", Some("10.99.0.1/24"), "10.99.0.2/24", None);
        let (dir, server) = (TempDir::new(), Server::start().await);
        Self { dir, server, dockerd: Dockerd::start().await, mesh }
    }

    fn agent(&self) -> Agent {
        let mesh =
            MeshAddress { ip: MESH, interface: "mesh0".to_owned(), pubkey: "key".to_owned() };
        let (engine, firewall) = (self.dockerd.engine(), Nftables::new());
        start_at(mesh, self.dir.path(), &self.server, &engine, &firewall).unwrap()
    }

    async fn until_phase(&self, (assigned, _): &Instance, phase: Option<Phase>) {
        until(&format!("{} is {phase:?}", assigned.id), || {
            self.server.seen(|seen| seen.instances.get(&assigned.id).map(|one| one.phase)) == phase
        })
        .await;
    }

    fn owner(&self, agent: &Agent) -> Owner {
        Owner { cluster: self.server.cluster.clone(), node: agent.shared.identity.node.clone() }
    }
}

fn web(revision: u64) -> Instance {
    instance(
        "web",
        revision,
        json!({
            "image": IMAGE,
            "command": web_command(),
            "env": {"REVISION": revision.to_string()},
            "ports": [{"container_port": 80, "host_port": 8080}],
            "templates": [{
                "destination": "/www/index.html",
                "content": "revision {{env.REVISION}} on {{node.name}}",
            }],
        }),
    )
}

async fn containers(engine: &Docker, owner: &Owner) -> Vec<String> {
    engine.list(owner).await.unwrap().into_iter().map(|found| found.id).collect()
}

#[test]
fn rollouts_and_a_restarted_agent_lose_no_connection() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        let first = web(1);
        host.server.assign(&node, 1, std::slice::from_ref(&first)).await;
        host.until_phase(&first, Some(Phase::Running)).await;
        until("it answers", || host.mesh.fetch(PUBLISHED).is_some()).await;
        assert_eq!(host.mesh.fetch(PUBLISHED).unwrap(), "revision 1 on host-a");

        let load = host.mesh.load(PUBLISHED);
        let second = web(2);
        host.server.assign(&node, 2, &[first.clone(), second.clone()]).await;
        host.until_phase(&second, Some(Phase::Running)).await;
        host.server.assign(&node, 3, std::slice::from_ref(&second)).await;
        host.until_phase(&first, None).await;

        let engine = host.dockerd.engine();
        let before = containers(&engine, &host.owner(&agent)).await;
        agent.stop().await;
        let reports = host.server.seen(|seen| seen.reports.len());
        let agent = host.agent();
        until("the second agent reported", || {
            host.server.seen(|seen| seen.reports.len()) > reports
        })
        .await;
        assert_eq!(containers(&engine, &host.owner(&agent)).await, before);
        run("nft flush chain ip knit guard");
        until("the guard is back", || run("nft list chain ip knit guard").contains("@mesh_addr"))
            .await;

        let answers = load.stop();
        let lost = answers.iter().filter(|answer| answer.is_none()).count();
        assert_eq!(lost, 0, "of {} connections", answers.len());
        for revision in ["revision 1 on host-a", "revision 2 on host-a"] {
            assert!(answers.iter().flatten().any(|answer| answer == revision), "{revision}");
        }

        host.server.assign(&node, 4, &[]).await;
        host.until_phase(&second, None).await;
        assert!(containers(&engine, &host.owner(&agent)).await.is_empty());
        assert_eq!(host.mesh.fetch(PUBLISHED), None);
        agent.stop().await;
    });
}

#[test]
fn a_docker_that_restarts_and_rules_that_vanish_are_mended() {
    in_namespace(|| async {
        let mut host = Host::new().await;
        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        let one = web(1);
        host.server.assign(&node, 1, std::slice::from_ref(&one)).await;
        host.until_phase(&one, Some(Phase::Running)).await;

        // Others' containers: another cluster's, and one without labels.
        let engine = host.dockerd.engine();
        let mut other = host.owner(&agent);
        other.cluster = knit_rpc::id::ClusterId::from_bytes([0xee; 16]);
        let foreign = foreign(&other);
        engine.create(&foreign).await.unwrap();

        host.dockerd.stop();
        until("the node says that Docker is away", || {
            agent.shared.engine.borrow().trouble.is_some()
        })
        .await;
        run("nft flush ruleset");
        host.dockerd.run().await;
        until("all is as before", || {
            agent.shared.engine.borrow().trouble.is_none() && host.mesh.fetch(PUBLISHED).is_some()
        })
        .await;
        assert_eq!(containers(&engine, &other).await.len(), 1, "untouched");

        run("nft flush ruleset");
        until("the rules are back", || host.mesh.fetch(PUBLISHED).is_some()).await;
        host.server.assign(&node, 2, &[]).await;
        host.until_phase(&one, None).await;
        assert_eq!(containers(&engine, &other).await.len(), 1, "untouched");
        agent.stop().await;
    });
}

#[test]
fn a_network_that_is_taken_away_comes_back_with_its_containers() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let node = agent.shared.identity.node.clone();
        let (one, two) = (web(1), on_host());
        host.server.assign(&node, 1, &[one.clone(), two.clone()]).await;
        host.until_phase(&one, Some(Phase::Running)).await;
        host.until_phase(&two, Some(Phase::Running)).await;
        until("it answers", || host.mesh.fetch(PUBLISHED).is_some()).await;
        let engine = host.dockerd.engine();
        let owner = host.owner(&agent);
        let found = engine.list(&owner).await.unwrap();
        let on_knit = found.iter().find(|one| one.networks.contains("knit")).unwrap();
        let on_host = found.iter().find(|one| one.networks.contains("host")).unwrap();

        host.dockerd.take_network_away("knit", &on_knit.id).await;
        until("it answers again", || host.mesh.fetch(PUBLISHED).is_some()).await;
        host.until_phase(&one, Some(Phase::Running)).await;
        let now = containers(&engine, &owner).await;
        assert!(!now.contains(&on_knit.id), "by another container");
        assert!(now.contains(&on_host.id), "which had no network to lose");
        host.server.assign(&node, 2, &[]).await;
        host.until_phase(&one, None).await;
        agent.stop().await;
    });
}

fn on_host() -> Instance {
    let command = ["/bin/busybox", "httpd", "-f", "-p", "8282"];
    instance("on-host", 1, json!({"image": IMAGE, "command": command, "networks": ["host"]}))
}

#[test]
fn a_port_of_the_hosts_is_refused_and_taken_once_it_is_free() {
    in_namespace(|| async {
        let host = Host::new().await;
        let listener = std::net::TcpListener::bind((MESH, 8080)).unwrap();
        let agent = host.agent();
        let one = web(1);
        host.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
        host.until_phase(&one, Some(Phase::Failed)).await;
        let message = host.server.seen(|seen| seen.instances[&one.0.id].message.clone()).unwrap();
        assert!(message.starts_with("port 8080/tcp on mesh is taken: "), "{message}");
        drop(listener);
        host.until_phase(&one, Some(Phase::Running)).await;
        host.server.assign(&agent.shared.identity.node, 2, &[]).await;
        host.until_phase(&one, None).await;
        agent.stop().await;
    });
}

#[test]
fn cleaning_up_leaves_what_is_not_this_nodes() {
    in_namespace(|| async {
        let host = Host::new().await;
        let agent = host.agent();
        let one = web(1);
        host.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
        host.until_phase(&one, Some(Phase::Running)).await;
        let owner = host.owner(&agent);
        let mut other = owner.clone();
        other.cluster = knit_rpc::id::ClusterId::from_bytes([0xee; 16]);
        let engine = host.dockerd.engine();
        engine.create(&foreign(&other)).await.unwrap();
        agent.stop().await;

        let mut config = crate::support::agent::config(host.dir.path(), &host.server);
        config.docker_socket = host.dockerd.socket();
        for _ in 0..2 {
            knit_agent::cleanup::run(&config).await.unwrap();
        }
        assert!(containers(&engine, &owner).await.is_empty());
        assert_eq!(containers(&engine, &other).await.len(), 1);
        assert!(!run("nft list tables").contains("ip knit"));
        assert!(!run("iptables -S DOCKER-USER").contains("0x6b6e"));
        assert!(!run("ip link").contains("knit0"));
        assert!(!host.dir.path().join("instances").exists());
        assert!(host.dir.path().join("identity.json").exists(), "it is still the same node");
    });
}

fn foreign(owner: &Owner) -> ContainerPlan {
    let args = ["/bin/busybox", "sleep", "1000"];
    let spec = json!({"image": IMAGE, "networks": ["bridge"], "args": args});
    let (assigned, spec) = instance("other", 1, spec);
    let wanted = knit_agent_core::Wanted {
        assigned,
        spec: spec.into(),
        policy: std::sync::Arc::default(),
        secrets: std::sync::Arc::default(),
    };
    container::plan(owner, &wanted, std::path::Path::new("/nonexistent"))
}
