//! What people do to nodes, and what becomes of what runs there.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_rpc::api::{Availability, DeploymentState, NodePatch, NodeState};
use knit_rpc::id::{DeploymentName, ProjectName};

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

async fn nodes(count: u8) -> (MemoryBus, Server, Vec<Agent>) {
    let bus = MemoryBus::new();
    let server = Server::start(&Home::new(), &bus).await;
    let mut agents = Vec::new();
    for n in 1..=count {
        agents.push(Agent::join(&Disk::new(n), &server.api, Arc::new(bus.client())).await);
    }
    eventually("all nodes are ready", || async {
        let nodes = server.api.nodes().await.ok()?;
        nodes.iter().all(|node| node.state == NodeState::Ready).then_some(())
    })
    .await;
    (bus, server, agents)
}

async fn set(server: &Server, agent: &Agent, availability: Availability) {
    let patch = NodePatch { availability: Some(availability), ..NodePatch::default() };
    server.api.patch_node(&agent.disk.node, &patch).await.expect("patched");
}

fn running(agents: &[Agent]) -> Vec<usize> {
    agents.iter().map(|agent| agent.disk.images().len()).collect()
}

#[tokio::test]
async fn a_drained_node_is_empty_in_the_end_and_nothing_was_missing_meanwhile() {
    let (_bus, server, agents) = nodes(2).await;
    server.deploy("{name: web, image: v1, replicas: 4}").await;
    server.until("web", DeploymentState::Running).await;
    assert_eq!(running(&agents), [2, 2]);
    set(&server, &agents[0], Availability::Draining).await;
    eventually("it is empty", || async {
        assert!(running(&agents).iter().sum::<usize>() >= 4, "never fewer than were wanted");
        (running(&agents) == [0, 4]).then_some(())
    })
    .await;
    let view = server.until("web", DeploymentState::Running).await;
    assert_eq!(view.running, 4);
    set(&server, &agents[0], Availability::Active).await;
    server.deploy("{name: other, image: v1, replicas: 2}").await;
    server.until("other", DeploymentState::Running).await;
    assert_eq!(running(&agents), [1, 5], "it takes work again");
    server.stop().await;
}

#[tokio::test]
async fn a_cordoned_node_keeps_what_it_has_and_gets_nothing_new() {
    let (_bus, server, agents) = nodes(2).await;
    server.deploy("{name: web, image: v1, replicas: 2}").await;
    server.until("web", DeploymentState::Running).await;
    set(&server, &agents[0], Availability::Cordoned).await;
    server.deploy("{name: other, image: v1, replicas: 2}").await;
    server.until("other", DeploymentState::Running).await;
    assert_eq!(running(&agents), [1, 3]);
    server.stop().await;
}

#[tokio::test]
async fn labels_that_people_set_go_before_the_agents() {
    let (_bus, server, agents) = nodes(2).await;
    agents[0].disk.label("role", "web");
    server.deploy("{name: web, image: v1, node_selector: {role: db}}").await;
    server.until("web", DeploymentState::Unplaced).await;
    let labels = [("role".to_owned(), Some("db".to_owned()))].into();
    let patch = NodePatch { labels, ..NodePatch::default() };
    let view = server.api.patch_node(&agents[0].disk.node, &patch).await.unwrap();
    assert_eq!(view.labels["role"], "db");
    server.until("web", DeploymentState::Running).await;
    assert_eq!(running(&agents), [1, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_removed_node_is_emptied_and_begins_anew_when_it_returns() {
    let (bus, server, mut agents) = nodes(2).await;
    server.deploy("{name: web, image: v1, replicas: 2}").await;
    server.until("web", DeploymentState::Running).await;
    let gone = agents.remove(0);
    let generation = gone.disk.generation();
    let error = server.api.remove_node(&gone.disk.node, false).await.unwrap_err();
    assert_eq!(error.status(), Some(409));
    assert!(error.to_string().contains("1 instance would be placed elsewhere"), "{error}");
    server.api.remove_node(&gone.disk.node, true).await.unwrap();
    eventually("it was told to run nothing, and the rest moved", || async {
        (gone.disk.images().is_empty() && running(&agents) == [2]).then_some(())
    })
    .await;
    let view = server.until("web", DeploymentState::Running).await;
    assert_eq!(view.running, 2);
    assert_eq!(server.api.nodes().await.unwrap().len(), 1, "its beats do not bring it back");

    let disk = gone.disk.clone();
    drop(gone);
    assert!(disk.register(&server.api).await.is_err(), "it is not let in by itself");
    server.api.approve_node(&disk.node).await.unwrap();
    assert!(!disk.register(&server.api).await.unwrap().adopt, "it is a new node");
    let _back = Agent::resume(&disk, Arc::new(bus.client()), false);
    eventually("it is ready", || async {
        let nodes = server.api.nodes().await.ok()?;
        (nodes.len() == 2 && nodes.iter().all(|node| node.state == NodeState::Ready)).then_some(())
    })
    .await;
    assert!(disk.generation() > generation && disk.images().is_empty());
    server.deploy("{name: other, image: v1}").await;
    server.until("other", DeploymentState::Running).await;
    assert_eq!(disk.images(), ["v1"], "it works");
    server.stop().await;
}

#[tokio::test]
async fn data_stays_where_it_is_until_somebody_gives_it_up() {
    let (_bus, server, agents) = nodes(2).await;
    let (project, name) = (ProjectName::default(), DeploymentName::parse("db").unwrap());
    let db = "{name: db, image: v1, volumes: [{name: data, path: /data}]}";
    server.deploy(db).await;
    server.until("db", DeploymentState::Running).await;
    assert_eq!(agents[0].disk.volumes(), ["default/data.0"]);
    server.api.undeploy(&project, &name).await.unwrap();
    server.until_gone("db").await;
    assert_eq!(agents[0].disk.volumes(), ["default/data.0"], "the data is kept");

    // The other node has less to do, and still it comes back to its data.
    server.deploy("{name: web, image: v1}").await;
    server.until("web", DeploymentState::Running).await;
    server.deploy(db).await;
    server.until("db", DeploymentState::Running).await;
    assert!(agents[1].disk.volumes().is_empty());
    let error = server.api.remove_volume(&project, "data").await.unwrap_err();
    assert_eq!(error.status(), Some(409));
    let error = server.api.remove_node(&agents[0].disk.node, false).await.unwrap_err();
    assert!(error.to_string().contains("the data of default/data.0 would be given up"), "{error}");

    server.api.undeploy_with_volumes(&project, &name).await.unwrap();
    eventually("the data is gone", || async {
        let known = server.api.volumes(None).await.ok()?;
        (known.is_empty() && agents[0].disk.volumes().is_empty()).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_forgot_learns_where_data_is_from_the_nodes() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let disk = Disk::new(1);
    let server = Server::start(&home, &bus).await;
    let agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    server.deploy("{name: db, image: v1, volumes: [{name: data, path: /data}]}").await;
    server.until("db", DeploymentState::Running).await;
    drop(agent);
    server.stop().await;

    let bus = MemoryBus::new();
    let server = Server::start(&home, &bus).await;
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    let found = eventually("it is known", || async {
        server.api.volumes(None).await.ok()?.into_iter().next()
    })
    .await;
    assert_eq!((found.volume.to_string().as_str(), found.node), ("default/data.0", disk.node));
    server.stop().await;
}
