//! Deploying, changing, losing nodes: the server and scripted agents in one process.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_rpc::api::{DeploymentState, NodeState};
use knit_rpc::event::EventKind;
use knit_rpc::id::{DeploymentName, ProjectName};

use crate::support::agent::{Agent, Disk, Link};
use crate::support::{Home, Server, eventually};

async fn cluster(nodes: u8) -> (Home, MemoryBus, Server, Vec<Agent>) {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let mut agents = Vec::new();
    for n in 1..=nodes {
        agents.push(Agent::join(&Disk::new(n), &server.api, Arc::new(bus.client())).await);
    }
    eventually("all nodes are ready", || async {
        let nodes = server.api.nodes().await.ok()?;
        nodes.iter().all(|node| node.state == NodeState::Ready).then_some(())
    })
    .await;
    (home, bus, server, agents)
}

fn name(text: &str) -> DeploymentName {
    DeploymentName::parse(text).expect("a name")
}

#[tokio::test]
async fn a_deployment_runs_changes_and_goes() {
    let (_home, _bus, server, agents) = cluster(2).await;
    let accepted = server.deploy("{name: web, image: v1, replicas: 2}").await;
    assert_eq!((accepted.revision, accepted.unchanged), (1, false));
    let view = server.until("web", DeploymentState::Running).await;
    assert_eq!((view.running, view.instances.len()), (2, 2));
    assert!(agents.iter().all(|agent| agent.disk.images() == ["v1"]), "one on each");

    let again = server.deploy("{name: web, image: v1, replicas: 2}").await;
    assert_eq!((again.revision, again.unchanged), (1, true));

    server.deploy("{name: web, image: v2, replicas: 2}").await;
    eventually("v2 alone runs", || async {
        agents.iter().all(|agent| agent.disk.images() == ["v2"]).then_some(())
    })
    .await;
    let view = server.until("web", DeploymentState::Running).await;
    assert_eq!(view.revision, 2);

    server.api.undeploy(&ProjectName::default(), &name("web")).await.unwrap();
    let fresh = server.deploy("{name: web, image: v3}").await;
    assert_eq!(fresh.revision, 1, "the name is free at once");
    server.until("web", DeploymentState::Running).await;
    eventually("nothing of the former life is left", || async {
        let images: Vec<String> = agents.iter().flat_map(|agent| agent.disk.images()).collect();
        (images == ["v3"]).then_some(())
    })
    .await;
    server.api.undeploy(&ProjectName::default(), &name("web")).await.unwrap();
    server.until_gone("web").await;
    assert!(server.api.instances(None).await.unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_failure_is_shown_in_dockers_words_and_the_old_one_stays() {
    let (_home, _bus, server, agents) = cluster(1).await;
    agents[0].disk.break_image("broken");
    server.deploy("{name: web, image: good}").await;
    server.until("web", DeploymentState::Running).await;
    server.deploy("{name: web, image: broken, update: {on_failure: pause}}").await;
    let view = server.until("web", DeploymentState::Paused).await;
    let failed = view.instances.iter().find(|instance| instance.revision == 2).unwrap();
    assert_eq!(failed.message.as_deref(), Some("No such image: broken"));
    assert_eq!(agents[0].disk.images(), ["good"], "the old one was not touched");

    server.deploy("{name: web, image: good}").await;
    server.until("web", DeploymentState::Running).await;
    assert_eq!(agents[0].disk.started(), 1, "it is the very same one");
    server.stop().await;
}

#[tokio::test]
async fn a_bad_link_changes_nothing_about_the_outcome() {
    let (_home, _bus, server, agents) = cluster(2).await;
    for agent in &agents {
        agent.disk.set_link(Link::Bad);
    }
    for revision in 1..=4 {
        for (name, replicas) in [("web", 4), ("db", 3)] {
            let spec = format!("name: {name}, image: v{revision}, replicas: {replicas}");
            server.deploy(&format!("{{{spec}, update: {{bake: 0s}}}}")).await;
        }
    }
    for one in ["web", "db"] {
        server.until(one, DeploymentState::Running).await;
    }
    let images: Vec<String> = agents.iter().flat_map(|agent| agent.disk.images()).collect();
    assert_eq!(images, ["v4"; 7]);
    for one in ["web", "db"] {
        server.api.undeploy(&ProjectName::default(), &name(one)).await.unwrap();
        server.until_gone(one).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_dead_nodes_instances_move_and_leave_it_when_it_returns() {
    let (_home, bus, server, mut agents) = cluster(2).await;
    server.deploy("{name: web, image: v1}").await;
    server.until("web", DeploymentState::Running).await;
    assert_eq!(agents[0].disk.images(), ["v1"]);
    // The other one says that it does not hear the dead one.
    agents[1].disk.set_unheard(1);
    agents[1].disk.lose_sight_of(1);
    let disk = agents[1].disk.clone();
    agents[1] = Agent::resume(&disk, Arc::new(bus.client()), false);
    let dead = agents.remove(0).disk.clone();

    eventually("it moved", || async { (disk.images() == ["v1"]).then_some(()) }).await;
    let lost =
        server.api.nodes().await.unwrap().into_iter().find(|node| node.name == "n1").unwrap();
    assert_eq!(lost.state, NodeState::Lost, "{lost:?}");
    server.until("web", DeploymentState::Running).await;

    let _back = Agent::resume(&dead, Arc::new(bus.client()), false);
    eventually("it left", || async { dead.images().is_empty().then_some(()) }).await;
    assert_eq!(disk.images(), ["v1"]);
    server.stop().await;
}

#[tokio::test]
async fn what_has_no_place_says_why_and_gets_one_when_there_is_one() {
    let (_home, bus, server, _agents) = cluster(1).await;
    server.deploy("{name: web, image: v1, node_selector: {role: web}}").await;
    let view = server.until("web", DeploymentState::Unplaced).await;
    assert_eq!(
        view.unplaced[0].summary,
        "no node matches the node_selector role=web: 1 node: label role=web is missing"
    );
    assert_eq!(view.unplaced[0].reasons, ["node n1: label role=web is missing"]);
    let disk = Disk::new(2);
    disk.label("role", "web");
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    server.until("web", DeploymentState::Running).await;
    assert_eq!(disk.images(), ["v1"]);
    server.stop().await;
}

#[tokio::test]
async fn a_cut_bus_is_repaired_by_the_next_beat() {
    let (_home, bus, server, agents) = cluster(1).await;
    // What is sent while the agent is cut off is lost; only the stored one is there to be read.
    let dead = agents.into_iter().next().unwrap().disk.clone();
    server.deploy("{name: web, image: v1}").await;
    let cut = bus.client();
    let agent = Agent::resume(&dead, Arc::new(cut.clone()), false);
    cut.fail(true);
    server.deploy("{name: web, image: v2}").await;
    cut.fail(false);
    server.until("web", DeploymentState::Running).await;
    assert_eq!(agent.disk.images(), ["v2"]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_restarts_goes_on_where_it_was() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let disk = Disk::new(1);
    server.deploy("{name: web, image: v1, replicas: 2}").await;
    server.stop().await;

    let server = Server::start_on_disk(&home, &bus).await;
    let agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    server.until("web", DeploymentState::Running).await;
    let generation = disk.generation();
    server.stop().await;

    let server = Server::start_on_disk(&home, &bus).await;
    server.until("web", DeploymentState::Running).await;
    server.deploy("{name: other, image: v1}").await;
    server.until("other", DeploymentState::Running).await;
    assert_eq!(disk.started(), 3, "nothing was started twice");
    assert!(disk.generation() > generation && disk.generation().epoch == generation.epoch);
    drop(agent);
    server.stop().await;
}

#[tokio::test]
async fn two_hosts_with_one_identity_get_no_work() {
    let (_home, bus, server, agents) = cluster(1).await;
    let clone = Agent::resume(&agents[0].disk, Arc::new(bus.client()), false);
    eventually("it is a duplicate", || async {
        let nodes = server.api.nodes().await.ok()?;
        (nodes[0].state == NodeState::Duplicate).then_some(())
    })
    .await;
    server.deploy("{name: web, image: v1}").await;
    let view = server.until("web", DeploymentState::Unplaced).await;
    assert_eq!(view.unplaced[0].summary, "1 node: it is duplicate");
    drop(clone);
    server.stop().await;
}

#[tokio::test]
async fn events_tell_what_happens() {
    let (_home, _bus, server, _agents) = cluster(1).await;
    let mut events = server.api.events(Some(0)).await.unwrap();
    server.deploy("{name: web, image: v1}").await;
    let mut seen = Vec::new();
    loop {
        let event = events.next().await.unwrap().expect("the stream goes on");
        if let EventKind::InstanceChanged { phase, slot, .. } = &event.kind {
            seen.push(format!("{slot} {phase}"));
        }
        if seen.last().is_some_and(|last| last == "0 running") {
            break;
        }
    }
    server.stop().await;
    assert!(events.next().await.is_ok(), "it ends when the server stops");
}
