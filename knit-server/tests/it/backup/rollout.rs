//! A rollout that was under way when the backup was made.

use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::MemoryBus;
use knit_rpc::api::RolloutState;

use super::{back_up, set_back, two_nodes};
use crate::support::agent::Agent;
use crate::support::{Home, Server, eventually};

#[tokio::test]
async fn a_rollout_that_was_under_way_goes_on_and_is_not_given_up_unheard() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let (disks, agents) = two_nodes(&server, &bus).await;
    let update = "{deadline: 60s, bake: 0s}";
    server.deploy(&format!("{{name: web, image: v1, replicas: 2, update: {update}}}")).await;
    server.until_rollout("web", RolloutState::Succeeded).await;
    let update = "{deadline: 3s, bake: 60s, wave: 1}";
    server.deploy(&format!("{{name: web, image: v2, replicas: 2, update: {update}}}")).await;
    eventually("the first wave is healthy", || async {
        let images = [disks[0].images(), disks[1].images()].concat();
        let world = server.app.world().await;
        let rollout = world.snapshot.deployments.values().next()?.rollout.clone()?;
        (rollout.healthy == 1 && images.len() == 2).then_some(())
    })
    .await;
    let backup = back_up(&home);
    let running = [0, 1].map(|n: usize| disks[n].running());
    drop(agents);
    server.stop().await;
    // Longer than the deadline.
    tokio::time::sleep(Duration::from_millis(3200)).await;

    set_back(&home, &backup);
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    let _agents = [0, 1].map(|n: usize| Agent::resume(&disks[n], Arc::new(bus.client()), false));
    eventually("both nodes showed what they hold", || async {
        let world = server.app.world().await;
        world.snapshot.nodes.values().all(|node| !node.adopting).then_some(())
    })
    .await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(4);
    while tokio::time::Instant::now() < deadline {
        let web = server.view("web").await.unwrap();
        assert_eq!((web.revision, web.image.as_str()), (2, "v2"));
        assert_eq!([0, 1].map(|n: usize| disks[n].running()), running);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.view("web").await.unwrap().rollout.unwrap().state, RolloutState::Running);
    server.stop().await;
}
