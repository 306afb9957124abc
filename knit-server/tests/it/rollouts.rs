//! Rollouts, driven through the API: how they end, what stops them, what does not.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_link::http::RolloutStep;
use knit_rpc::access::{Role, Scope};
use knit_rpc::api::{Cause, DeploymentState, RolloutState};
use knit_rpc::event::EventKind;
use knit_rpc::id::{DeploymentName, ProjectName};

use knit_server_core::access::Actor;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

/// Waves of one, each of which has to stay healthy for a moment.
const UPDATE: &str = "update: {wave: 1, bake: 100ms}";

fn web() -> (ProjectName, DeploymentName) {
    (ProjectName::default(), DeploymentName::parse("web").expect("a name"))
}

async fn one_node(server: &Server, bus: &MemoryBus) -> Agent {
    Agent::join(&Disk::new(1), &server.api, Arc::new(bus.client())).await
}

fn manifest(image: &str, replicas: u32) -> String {
    format!("{{name: web, image: {image}, replicas: {replicas}, {UPDATE}}}")
}

/// Deploys and waits for success.
async fn settle(server: &Server, image: &str, replicas: u32) {
    server.deploy(&manifest(image, replicas)).await;
    let rollout = server.until_rollout("web", RolloutState::Succeeded).await;
    assert_eq!((rollout.healthy, rollout.slots), (replicas, replicas));
}

/// `revision state cause` of each revision, the newest first.
async fn history(server: &Server) -> Vec<String> {
    let (project, name) = web();
    let all = server.api.history(&project, &name).await.expect("a history").into_iter();
    all.map(|view| {
        let cause = match view.cause {
            Cause::Deploy => "deploy".to_owned(),
            Cause::Scale => "scale".to_owned(),
            Cause::Secret { name, version } => format!("secret {name} {version}"),
            Cause::Restart => "restart".to_owned(),
            Cause::Rollback { to, of, automatic } => {
                format!("{} from {of} to {to}", if automatic { "falls back" } else { "rollback" })
            }
        };
        let stable = if view.stable { ", stable" } else { "" };
        format!("{} {} ({cause}{stable})", view.revision, view.state.as_str())
    })
    .collect()
}

#[tokio::test]
async fn a_revision_that_is_healthy_succeeds_and_is_the_one_to_go_back_to() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    settle(&server, "v1", 3).await;
    settle(&server, "v2", 3).await;
    assert_eq!(history(&server).await, ["2 succeeded (deploy, stable)", "1 succeeded (deploy)"]);
    assert_eq!(agent.disk.images(), ["v2"; 3]);

    let (project, name) = web();
    server.api.rollback(&project, &name, None).await.unwrap();
    server.until_rollout("web", RolloutState::Succeeded).await;
    assert_eq!(agent.disk.images(), ["v1"; 3]);
    assert_eq!(history(&server).await[0], "3 succeeded (rollback from 2 to 1, stable)");
    server.stop().await;
}

#[tokio::test]
async fn a_revision_that_fails_is_rolled_back_and_history_tells_why() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    agent.disk.break_image("broken");
    settle(&server, "v1", 2).await;
    let before = agent.disk.running();
    let mut events = server.api.events(None).await.unwrap();
    server.deploy(&manifest("broken", 2)).await;
    let rollout = server.until_rollout("web", RolloutState::RolledBack).await;
    assert!(rollout.message.unwrap().contains("No such image: broken"));
    let view = server.until("web", DeploymentState::Running).await;
    assert_eq!((view.image.as_str(), view.running), ("v1", 2));
    assert_eq!(agent.disk.running(), before, "what ran was not touched");
    assert_eq!(
        history(&server).await,
        [
            "3 succeeded (falls back from 2 to 1, stable)",
            "2 rolled-back (deploy)",
            "1 succeeded (deploy)"
        ]
    );
    let (project, name) = web();
    let given_up = server.api.history(&project, &name).await.unwrap().remove(1);
    assert!(given_up.message.unwrap().contains("No such image: broken"));

    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "3 succeeded") {
        let event = events.next().await.unwrap().expect("the stream goes on");
        if let EventKind::RolloutChanged { revision, state, .. } = event.kind {
            told.push(format!("{revision} {state}"));
        }
    }
    // Its instances were there all along, so it may have run for no time at all.
    told.retain(|one| one != "3 running");
    assert_eq!(told, ["2 running", "2 rolled-back", "3 succeeded"]);
    let again = server.deploy(&manifest("v1", 2)).await;
    assert_eq!((again.revision, again.unchanged), (3, true), "that is what is there already");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_of_a_rollout_goes_on() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    settle(&server, "v1", 4).await;
    server.deploy("{name: web, image: v2, replicas: 4, update: {wave: 1, bake: 2s}}").await;
    eventually("the first wave runs", || async {
        agent.disk.images().contains(&"v2".to_owned()).then_some(())
    })
    .await;
    let (project, name) = web();
    let rollout = server.api.rollout(&project, &name).await.unwrap();
    assert_eq!((rollout.state, rollout.admitted), (RolloutState::Running, 1));
    server.stop().await;

    let server = Server::start_on_disk(&home, &bus).await;
    let rollout = server.api.rollout(&project, &name).await.unwrap();
    assert_eq!((rollout.revision, rollout.from, rollout.admitted), (2, Some(1), 1));
    server.until_rollout("web", RolloutState::Succeeded).await;
    assert_eq!(agent.disk.images(), ["v2"; 4]);
    assert_eq!(agent.disk.started(), 8, "each slot changed once");
    server.stop().await;
}

#[tokio::test]
async fn scaling_recreates_nothing_and_restarting_everything() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    let (project, name) = web();
    settle(&server, "v1", 2).await;
    for (replicas, started) in [(4, 4), (1, 4), (2, 5)] {
        let accepted = server.api.scale(&project, &name, replicas).await.unwrap();
        assert!(!accepted.unchanged);
        let rollout = server.until_rollout("web", RolloutState::Succeeded).await;
        assert_eq!((rollout.revision, rollout.slots), (accepted.revision, replicas));
        assert_eq!((agent.disk.images().len(), agent.disk.started()), (replicas as usize, started));
    }
    let before = agent.disk.running();
    server.api.restart(&project, &name).await.unwrap();
    server.until_rollout("web", RolloutState::Succeeded).await;
    assert!(agent.disk.running().iter().all(|id| !before.contains(id)), "all are new");
    assert_eq!(agent.disk.images(), ["v1"; 2]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_stopped_keeps_its_slots_and_starts_again() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    let (project, name) = web();
    settle(&server, "v1", 2).await;
    server.api.stop(&project, &name).await.unwrap();
    server.until("web", DeploymentState::Stopped).await;
    eventually("nothing runs", || async { agent.disk.images().is_empty().then_some(()) }).await;
    server.api.start(&project, &name).await.unwrap();
    let view = server.until("web", DeploymentState::Running).await;
    assert_eq!((view.revision, view.running), (1, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_later_deploy_takes_a_rollouts_place() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    let (project, name) = web();
    settle(&server, "v1", 4).await;
    server.deploy("{name: web, image: v2, replicas: 4, update: {wave: 1, bake: 1h}}").await;
    eventually("the first wave runs", || async {
        agent.disk.images().contains(&"v2".to_owned()).then_some(())
    })
    .await;
    let paused = server.api.steer(&project, &name, RolloutStep::Pause).await.unwrap();
    assert_eq!(paused.state, RolloutState::Paused);
    server.until("web", DeploymentState::Paused).await;
    settle(&server, "v3", 4).await;
    assert_eq!(agent.disk.images(), ["v3"; 4], "nothing of the second is left");
    assert_eq!(history(&server).await[1], "2 superseded (deploy)");
    server.stop().await;
}

#[tokio::test]
async fn a_rollout_that_is_aborted_goes_back() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let agent = one_node(&server, &bus).await;
    let (project, name) = web();
    settle(&server, "v1", 3).await;
    server.deploy("{name: web, image: v2, replicas: 3, update: {wave: 1, bake: 1h}}").await;
    eventually("the first wave runs", || async {
        agent.disk.images().contains(&"v2".to_owned()).then_some(())
    })
    .await;
    server.api.steer(&project, &name, RolloutStep::Abort).await.unwrap();
    let rollout = server.until_rollout("web", RolloutState::RolledBack).await;
    assert_eq!(rollout.message.as_deref(), Some("aborted by a person"));
    assert_eq!(agent.disk.images(), ["v1"; 3]);
    server.stop().await;
}

#[tokio::test]
async fn of_two_who_deploy_at_once_one_is_told() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let spec = |image: &str| {
        knit_rpc::spec::parse(&manifest(image, 1), knit_rpc::spec::Format::Yaml).expect("a spec")
    };
    let actor = Actor { name: "test".to_owned(), role: Role::Deployer, scope: Scope::All };
    server.app.submit(&actor, spec("v1"), Some(0)).await.unwrap();
    let (one, two) = (
        server.app.submit(&actor, spec("a"), Some(1)),
        server.app.submit(&actor, spec("b"), Some(1)),
    );
    let (one, two) = tokio::join!(one, two);
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let error = one.err().or(two.err()).unwrap().to_string();
    assert!(error.contains("is at revision 2, not at 1"), "{error}");
    server.stop().await;
}
