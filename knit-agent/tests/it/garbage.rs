//! What a node tells of images and volumes, and what it clears away.

use knit_agent::agent::{Agent, Parts};
use knit_agent::engine::Engine as _;
use knit_agent::engine::fake::FakeEngine;
use knit_agent::firewall::fake::FakeFirewall;
use knit_agent::session::BusSource;
use knit_agent_core::garbage::Marks;
use knit_rpc::message::{AssignedInstance, NodeFacts, Phase};
use knit_rpc::spec::{InstanceSpec, VolumeName};
use serde_json::json;

use crate::support::agent::{config, instance, loopback, start};
use crate::support::dockerd::{Dockerd, IMAGE};
use crate::support::namespace::{in_namespace, run};
use crate::support::registry::{REGISTRY, Registry};
use crate::support::server::Server;
use crate::support::{TempDir, until};

type Instance = (AssignedInstance, InstanceSpec);

fn facts(server: &Server) -> NodeFacts {
    let newest = |seen: &mut crate::support::server::Seen| {
        seen.beats.iter().rev().find_map(|(_, beat)| beat.facts.clone())
    };
    server.seen(newest).unwrap_or_default()
}

async fn until_phase(server: &Server, one: &Instance, phase: Option<Phase>) {
    until(&format!("{} is {phase:?}", one.0.deployment), || {
        server.seen(|seen| seen.instances.get(&one.0.id).map(|one| one.phase)) == phase
    })
    .await;
}

#[tokio::test]
async fn a_node_tells_which_volumes_and_images_it_has() {
    let (dir, server) = (TempDir::new(), Server::start().await);
    let (engine, firewall) = (FakeEngine::new(), FakeFirewall::new());
    let agent = start(dir.path(), &server, &engine, &firewall).unwrap();
    let node = agent.shared.identity.node.clone();
    let volumes = json!([{"name": "data", "path": "/data"}]);
    let db = instance("db", 1, json!({"image": "db:1", "volumes": volumes}));
    server.assign(&node, 1, std::slice::from_ref(&db)).await;
    let data = VolumeName::parse("default/data.0").unwrap();
    until("the volume is told of", || facts(&server).volumes == [data.clone()].into()).await;
    until("the image is told of", || facts(&server).images == ["db:1".to_owned()].into()).await;

    let remove = [data.clone(), VolumeName::parse("default/other").unwrap()];
    server
        .assign_with(&node, 2, std::slice::from_ref(&db), |assignment| {
            assignment.remove_volumes = remove.clone().into();
        })
        .await;
    until_phase(&server, &db, Some(Phase::Running)).await;
    server.assign(&node, 3, &[]).await;
    until_phase(&server, &db, None).await;
    assert_eq!(facts(&server).volumes, [data.clone()].into(), "undeploying keeps data");
    server.assign_with(&node, 4, &[], |assignment| assignment.remove_volumes = remove.into()).await;
    until("it is gone", || facts(&server).volumes.is_empty()).await;
    agent.stop().await;
}

/// Pushes images of 25 MiB each that share nothing, and leaves none of them here.
fn push_images(docker: &impl Fn(&str) -> String, dir: &TempDir, names: &[String]) {
    for name in names {
        let blob = dir.path().join("blob");
        run(&format!("dd if=/dev/urandom of={} bs=1M count=25 status=none", blob.display()));
        let tar = dir.path().join("image.tar");
        run(&format!(
            "tar -cf {} -C {} blob -C / bin/busybox",
            tar.display(),
            dir.path().display()
        ));
        docker(&format!("import {} {name}", tar.display()));
        docker(&format!("push -q {name}"));
        docker(&format!("rmi {name}"));
    }
    let _ = std::fs::remove_file(dir.path().join("image.tar"));
}

#[test]
fn images_that_nothing_needs_go_when_the_disk_fills_up() {
    in_namespace(|| async {
        let (dockerd, _registry) = (Dockerd::start_on(160).await, Registry::start().await);
        let (dir, server) = (TempDir::new(), Server::start().await);
        let docker = |words: &str| run(&format!("docker -H unix://{} {words}", dockerd.socket()));
        let names: Vec<String> = (1..=3).map(|n| format!("{REGISTRY}/app:{n}")).collect();
        push_images(&docker, &dir, &names);

        let mut config = config(dir.path(), &server);
        config.garbage = Marks { high: 45, low: 40 };
        let (engine, firewall) = (dockerd.engine(), FakeFirewall::new());
        let parts = Parts {
            engine: std::sync::Arc::new(engine.clone()),
            firewall: std::sync::Arc::new(firewall),
            bus: BusSource::Given(std::sync::Arc::new(server.bus.client())),
            mesh: Some(loopback()),
        };
        let agent = Agent::start(config, parts).unwrap();
        let node = agent.shared.identity.node.clone();
        for (revision, image) in (1..).zip(&names) {
            let command = ["/bin/busybox", "sleep", "1000"];
            let spec = json!({"image": image, "command": command, "stop_grace": "0s"});
            let app = instance("app", revision, spec);
            server
                .assign_with(&node, revision, std::slice::from_ref(&app), |assignment| {
                    assignment.keep_images = [names[0].clone()].into();
                })
                .await;
            until_phase(&server, &app, Some(Phase::Running)).await;
        }
        // Three of them fill more than 45 percent, two do not.
        let mut left = Vec::new();
        let start = std::time::Instant::now();
        while left.len() != 3 {
            assert!(start.elapsed() < crate::support::DEADLINE, "{left:?} are still here");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let images = engine.images().await.unwrap();
            left = images.into_iter().flat_map(|image| image.tags).collect();
        }
        left.sort();
        assert_eq!(left, [names[0].as_str(), names[2].as_str(), IMAGE], "kept, run, not ours");
        let expected = [names[0].clone(), names[2].clone()].into();
        until("the server knows", || facts(&server).images == expected).await;
        let disk = facts(&server).disk;
        assert_eq!(disk, 160 << 20, "of Docker's own file system");
        agent.stop().await;
    });
}
