//! Nodes that fall silent, with peers that are asked about them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use knit_link::bus::MemoryBus;
use knit_rpc::api::{DeploymentState, NodeState};
use knit_rpc::event::EventKind;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

/// Three nodes that are ready; `web` runs on the first.
async fn three_nodes() -> (MemoryBus, Server, Vec<Agent>) {
    let bus = MemoryBus::new();
    let server = Server::start(&Home::new(), &bus).await;
    let disks = [1, 2, 3].map(Disk::new);
    disks[0].label("role", "web");
    let mut agents = Vec::new();
    for disk in &disks {
        agents.push(Agent::join(disk, &server.api, Arc::new(bus.client())).await);
    }
    server.deploy("{name: web, image: v1, node_selector: {role: web}}").await;
    server.until("web", DeploymentState::Running).await;
    // From here on it may run anywhere.
    server.deploy("{name: web, image: v1}").await;
    assert_eq!(agents[0].disk.images(), ["v1"]);
    (bus, server, agents)
}

async fn state_of(server: &Server, node: &str) -> Option<(NodeState, Option<String>)> {
    let nodes = server.api.nodes().await.ok()?;
    let found = nodes.into_iter().find(|view| view.name == node)?;
    Some((found.state, found.message))
}

#[tokio::test]
async fn a_node_that_no_peer_reaches_is_given_up_as_soon_as_it_is_stale() {
    let (_bus, server, mut agents) = three_nodes().await;
    for peer in &agents[1..] {
        peer.disk.lose_sight_of(1);
    }
    drop(agents.remove(0));
    let died = Instant::now();
    eventually("it runs elsewhere", || async {
        agents.iter().any(|agent| agent.disk.images() == ["v1"]).then_some(())
    })
    .await;
    let took = died.elapsed();
    assert!(took < Duration::from_secs(9), "replaced after {took:?}, without waiting for 12 s");
    let (state, why) = state_of(&server, "n1").await.unwrap();
    let why = why.unwrap();
    assert_eq!(state, NodeState::Lost);
    assert!(why.starts_with("no heartbeat for"), "{why}");
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_a_peer_reaches_keeps_what_it_runs() {
    let (_bus, server, mut agents) = three_nodes().await;
    agents[1].disk.lose_sight_of(1);
    drop(agents.remove(0));
    let (state, why) = eventually("its path is cut", || async {
        state_of(&server, "n1").await.filter(|(state, _)| *state == NodeState::Unreachable)
    })
    .await;
    assert_eq!(state, NodeState::Unreachable);
    assert!(why.unwrap().contains("its peers hear it"));
    assert!(agents.iter().all(|agent| agent.disk.images().is_empty()), "nothing moved");
    server.stop().await;
}

#[tokio::test]
async fn a_question_to_peers_is_no_roll_call() {
    let (_bus, server, mut agents) = three_nodes().await;
    let before = server.app.world().await.last_reports.clone();
    drop(agents.remove(0));
    eventually("they were asked", || async {
        let world = server.app.world().await;
        let probing = world.snapshot.probes.values().next()?;
        (!probing.answers.is_empty()).then_some(())
    })
    .await;
    assert_eq!(server.app.world().await.last_reports, before, "nobody sent an inventory");
    server.stop().await;
}

#[tokio::test]
async fn a_reboot_is_told_even_when_it_is_fast() {
    let (_bus, server, agents) = three_nodes().await;
    let mut events = server.api.events(Some(0)).await.unwrap();
    agents[1].disk.reboot();
    loop {
        let event = events.next().await.unwrap().expect("the stream goes on");
        if let EventKind::NodeRebooted { name, .. } = event.kind {
            assert_eq!(name, "n2");
            break;
        }
    }
    let view =
        server.api.nodes().await.unwrap().into_iter().find(|view| view.name == "n2").unwrap();
    assert_eq!((view.boot.as_str(), view.rebooted_at.is_some()), ("boot-1", true));
    assert_eq!(view.state, NodeState::Ready);
    server.stop().await;
}
