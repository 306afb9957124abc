//! What files declare on a server that was restored.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_rpc::Timestamp;
use knit_rpc::api::{DeploymentState, RolloutState};
use knit_server_core::adoption::HOLD;

use super::{back_up, set_back, two_nodes};
use crate::declared::{apply, files, revisions};
use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

#[tokio::test]
async fn a_restored_server_declares_nothing_before_its_nodes_have_shown_what_they_run() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let (disks, agents) = two_nodes(&server, &bus).await;
    let dir = files(&[("web.yaml", "{name: web, image: v1, replicas: 2}")]);
    assert_eq!(apply(&server, dir.path()).await, None);
    server.until("web", DeploymentState::Running).await;
    let backup = back_up(&home);
    std::fs::write(dir.path().join("web.yaml"), "{name: web, image: v2, replicas: 2}").unwrap();
    assert_eq!(apply(&server, dir.path()).await, None);
    server.until_rollout("web", RolloutState::Succeeded).await;
    server.until("web", DeploymentState::Running).await;
    eventually("only the second runs", || async {
        let images: Vec<_> = disks.iter().flat_map(Disk::images).collect();
        (images == ["v2", "v2"]).then_some(())
    })
    .await;
    let (running, started) =
        (disks.each_ref().map(Disk::running), disks.each_ref().map(Disk::started));
    drop(agents);
    server.stop().await;

    set_back(&home, &backup);
    std::fs::write(dir.path().join("new.yaml"), "{name: new, image: v1, project: shop}").unwrap();
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    let told = apply(&server, dir.path()).await.expect("it waits");
    assert!(told.contains("2 of 2 manifests") && told.contains("(2 of 2 have not)"), "{told}");
    assert_eq!(revisions(&server).await, ["default/web 1"], "nothing is decided");
    let _a = Agent::resume(&disks[0], Arc::new(bus.client()), false);
    eventually("the first is taken in", || async {
        let world = server.app.world().await;
        (!world.snapshot.nodes[&disks[0].node].adopting).then_some(())
    })
    .await;
    let told = apply(&server, dir.path()).await.expect("it waits for the other");
    assert!(told.contains("(1 of 2 have not)"), "{told}");
    let _b = Agent::resume(&disks[1], Arc::new(bus.client()), false);
    server.until("web", DeploymentState::Running).await;
    eventually("both are taken in", || async {
        disks.iter().all(|disk| disk.generation().epoch >= 1).then_some(())
    })
    .await;
    assert_eq!(apply(&server, dir.path()).await, None);
    assert_eq!(revisions(&server).await, ["default/web 2", "shop/new 1"]);
    server.until("web", DeploymentState::Running).await;
    for (disk, running) in disks.iter().zip(running) {
        let here = disk.running();
        assert!(running.iter().all(|id| here.contains(id)), "every container is the same");
    }
    assert_eq!(
        disks.each_ref().map(Disk::started).iter().sum::<usize>(),
        started.iter().sum::<usize>() + 1
    );
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_is_no_more_keeps_nothing_from_being_declared_for_long() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let agent = Agent::join(&Disk::new(1), &server.api, Arc::new(bus.client())).await;
    let backup = back_up(&home);
    drop(agent);
    server.stop().await;
    set_back(&home, &backup);
    let dir = files(&[("web.yaml", "{name: web, image: v1, replicas: 0}")]);
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    let told = apply(&server, dir.path()).await.expect("it waits");
    assert!(told.contains("for 30 s at most"), "{told}");
    let mut world = server.app.world().await;
    assert!(world.snapshot.nodes.values().all(|node| node.adopting), "it never shows anything");
    let then = world.snapshot.started.as_millis() - u64::try_from(HOLD.as_millis()).unwrap();
    world.snapshot.started = Timestamp::from_millis(then);
    drop(world);
    assert_eq!(apply(&server, dir.path()).await, None);
    assert_eq!(revisions(&server).await, ["default/web 1"]);
    server.stop().await;
}
