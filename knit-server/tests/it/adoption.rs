//! A server that forgot, on an empty or an older database, and hosts that are full.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_rpc::api::DeploymentState;
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::message::{Generation, Heartbeat, InstanceReport};
use knit_server::app::reports::Received;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

/// Two nodes that run `web` twice and `db` once, their server gone.
async fn full_hosts(home: &Home) -> (Disk, Disk) {
    let bus = MemoryBus::new();
    let server = Server::start(home, &bus).await;
    let (one, two) = (Disk::new(1), Disk::new(2));
    one.label("role", "db");
    let _a = Agent::join(&one, &server.api, Arc::new(bus.client())).await;
    let _b = Agent::join(&two, &server.api, Arc::new(bus.client())).await;
    eventually("both are there", || async {
        (server.api.nodes().await.ok()?.len() == 2).then_some(())
    })
    .await;
    server.deploy("{name: db, image: pg, node_selector: {role: db}}").await;
    server.until("db", DeploymentState::Running).await;
    server.deploy("{name: web, image: v1, replicas: 2}").await;
    server.until("web", DeploymentState::Running).await;
    server.stop().await;
    (one, two)
}

#[tokio::test]
async fn an_empty_server_takes_full_hosts_in_and_removes_nothing() {
    let home = Home::new();
    let (one, two) = full_hosts(&home).await;
    let before = (one.running(), two.running());

    let bus = MemoryBus::new();
    let server = Server::start(&home, &bus).await;
    assert!(one.register(&server.api).await.unwrap().adopt, "the server says that it forgot");
    let _a = Agent::join(&one, &server.api, Arc::new(bus.client())).await;
    let _b = Agent::join(&two, &server.api, Arc::new(bus.client())).await;
    let web = server.until("web", DeploymentState::Running).await;
    assert_eq!((web.replicas, web.revision), (2, 1));
    let db = server.until("db", DeploymentState::Running).await;
    assert_eq!(db.spec.node_selector["role"], "db");
    eventually("the new epoch has arrived", || async {
        (one.generation().epoch == 1 && two.generation().epoch == 1).then_some(())
    })
    .await;
    assert_eq!((one.running(), two.running()), before, "every container is the same");
    assert_eq!(one.started() + two.started(), 3, "none was started again");

    server.deploy("{name: web, image: v2, replicas: 2}").await;
    eventually("it can be changed", || async {
        let images = [one.images(), two.images()].concat();
        (images.iter().filter(|image| *image == "v2").count() == 2 && images.len() == 3)
            .then_some(())
    })
    .await;
    for name in ["web", "db"] {
        let name = DeploymentName::parse(name).unwrap();
        server.api.undeploy(&ProjectName::default(), &name).await.unwrap();
        server.until_gone(name.as_str()).await;
    }
    assert_eq!((one.running().len(), two.running().len()), (0, 0), "and removed");
    server.stop().await;
}

#[tokio::test]
async fn agents_that_keep_their_token_are_taken_in_without_registering() {
    let home = Home::new();
    let (one, two) = full_hosts(&home).await;
    let before = (one.running(), two.running());
    let bus = MemoryBus::new();
    let server = Server::start(&home, &bus).await;
    let _a = Agent::resume(&one, Arc::new(bus.client()), false);
    let _b = Agent::resume(&two, Arc::new(bus.client()), false);
    server.until("web", DeploymentState::Running).await;
    assert_eq!((one.running(), two.running()), before);
    server.stop().await;
}

#[tokio::test]
async fn an_older_database_learns_what_it_missed() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let disk = Disk::new(1);
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    server.deploy("{name: old, image: v1}").await;
    server.until("old", DeploymentState::Running).await;
    server.stop().await;
    let path = home.dir.path().join("knit.db");
    let backup = std::fs::read(&path).unwrap();

    let server = Server::start_on_disk(&home, &bus).await;
    server.deploy("{name: old, image: v2}").await;
    server.deploy("{name: new, image: v1}").await;
    server.until("old", DeploymentState::Running).await;
    server.until("new", DeploymentState::Running).await;
    let before = disk.running();
    server.stop().await;

    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{suffix}", path.display())));
    }
    std::fs::write(&path, backup).unwrap();
    let server = Server::start_on_disk(&home, &bus).await;
    let new = server.until("new", DeploymentState::Running).await;
    assert_eq!(new.image, "v1");
    let old = server.until("old", DeploymentState::Running).await;
    assert_eq!((old.revision, old.image.as_str()), (2, "v2"));
    assert_eq!(disk.running(), before);
    server.stop().await;
}

#[tokio::test]
async fn another_clusters_node_is_refused() {
    let home = Home::new();
    let (one, _) = full_hosts(&home).await;
    let (stranger, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&stranger, &bus).await;
    let error = one.register(&server.api).await.unwrap_err();
    assert_eq!(error.status(), Some(409));
    assert!(error.to_string().contains("belongs to cluster"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn nobody_drives_the_epoch_to_its_end() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let disk = Disk::new(1);
    disk.register(&server.api).await.unwrap();
    let mut beat = disk.heartbeat();
    beat.applied.epoch = u64::MAX;
    server.app.beat(&disk.node, beat.clone()).await.unwrap();
    disk.claim(beat.applied);
    let error = disk.register(&server.api).await.unwrap_err();
    assert_eq!(error.status(), Some(400));
    assert!(error.to_string().contains("applied must be a generation"), "{error}");
    let world = server.app.world().await;
    assert_eq!((world.snapshot.epoch, world.snapshot.nodes[&disk.node].last_beat), (0, None));
    drop(world);

    beat.applied.epoch = 5;
    server.app.beat(&disk.node, beat).await.unwrap();
    assert_eq!(server.app.world().await.snapshot.epoch, 6, "what can be is believed");
    server.stop().await;
}

#[tokio::test]
async fn a_node_gets_nothing_back_by_showing_what_it_was_sent_once() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let disk = Disk::new(1);
    let agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    server.deploy("{name: web, image: v1}").await;
    server.until("web", DeploymentState::Running).await;
    let once = String::from_utf8(disk.held_bytes()).unwrap();
    server.api.undeploy(&ProjectName::default(), &"web".parse().unwrap()).await.unwrap();
    server.until_gone("web").await;
    eventually("the node holds nothing any more", || async {
        disk.held().is_some_and(|held| held.instances.is_empty()).then_some(())
    })
    .await;
    drop(agent);

    // It says that it holds what this server never sent, and then shows the old one.
    let ahead = Generation { epoch: 99, counter: 1 };
    let beat = Heartbeat { applied: ahead, ..disk.heartbeat() };
    let (cluster, agent_start) = (beat.cluster.clone(), knit_runtime::clock::now());
    server.app.beat(&disk.node, beat).await.unwrap();
    assert!(server.app.world().await.snapshot.nodes[&disk.node].adopting, "that is believed");
    let report = InstanceReport {
        cluster,
        node: disk.node.clone(),
        agent_start,
        sequence: u64::MAX / 2,
        full: true,
        applied: ahead,
        instances: Vec::new(),
        removed: Vec::new(),
        held: Some(once),
    };
    let received = Received { sender: disk.node.clone(), report };
    server.app.store_reports(vec![received]).await.unwrap();
    let world = server.app.world().await;
    assert!(!world.snapshot.nodes[&disk.node].adopting, "it was listened to");
    assert!(world.snapshot.deployments.values().all(|one| one.removed_at.is_some()));
    assert_eq!(world.snapshot.instances.values().count(), 0);
    drop(world);
    server.stop().await;
}
