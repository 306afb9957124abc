//! Rollouts, nodes, volumes and networks as clients see them.

use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_rpc::api::{DeploymentState, NodeState, VolumeState};
use reqwest::Method;

use super::ask;
use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually, project};

/// Asks one after the other, all in JSON.
async fn ask_all(server: &Server, asked: &[(Method, &str, &str)]) -> String {
    let mut told = Vec::new();
    for (method, path, body) in asked {
        told.push(ask(server, method.clone(), path, "application/json", body).await);
    }
    told.join("\n\n")
}

/// A server with one node that runs what it is given.
async fn with_node() -> (Server, MemoryBus, Agent) {
    let bus = MemoryBus::new();
    let server = Server::start(&Home::new(), &bus).await;
    let agent = Agent::join(&Disk::new(1), &server.api, Arc::new(bus.client())).await;
    eventually("the node is ready", || async {
        let nodes = server.api.nodes().await.ok()?;
        (nodes.first()?.state == NodeState::Ready).then_some(())
    })
    .await;
    (server, bus, agent)
}

#[tokio::test]
async fn a_deployment_is_changed_and_its_past_is_told() {
    let (server, _bus, _agent) = with_node().await;
    // So long that the rollout is under way whenever it is looked at.
    server.deploy("{name: web, image: v1, update: {bake: 1h}}").await;
    server.until("web", DeploymentState::Running).await;
    let next = r#"{"name":"web","image":"v2","update":{"bake":"1h"}}"#;
    let told = ask_all(
        &server,
        &[
            (Method::POST, "/deployments?plan_only=true", next),
            (Method::POST, "/deployments?plan_only=true&revision=9", next),
            (Method::GET, "/deployments/web/history", ""),
            (Method::GET, "/deployments/web/rollout", ""),
            (Method::POST, "/deployments/web/rollout/pause", ""),
            (Method::POST, "/deployments/web/rollout/promote", ""),
            (Method::POST, "/deployments/web/rollout/dance", ""),
            (Method::POST, "/deployments/web/rollback", ""),
            (Method::POST, "/deployments/web/rollback", r#"{"to":7}"#),
            (Method::POST, "/deployments/web/rollback", r#"{"two":7}"#),
            (Method::POST, "/deployments/web/scale", r#"{"replicas":1}"#),
            (Method::POST, "/deployments/web/scale", r#"{"replicas":10001}"#),
            (Method::POST, "/deployments/web/scale", ""),
            (Method::POST, "/deployments/web/scale?revision=4", r#"{"replicas":2}"#),
            (Method::POST, "/v1/deployments/web/scale?revision=1", r#"{"replicas":2}"#),
            (Method::POST, "/deployments/web/stop", ""),
            (Method::POST, "/deployments/web/stop", ""),
            (Method::POST, "/deployments/web/start", ""),
            (Method::POST, "/deployments/web/restart?revision=1", ""),
            (Method::POST, "/deployments/web/restart", ""),
            (Method::GET, "/deployments/nobody/history", ""),
            (Method::GET, "/deployments/nobody/rollout", ""),
            (Method::POST, "/deployments/nobody/restart", ""),
            (Method::DELETE, "/deployments/web?revision=2", ""),
            (Method::DELETE, "/deployments/web?volumes=true&revision=3", ""),
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    server.stop().await;
}

#[tokio::test]
async fn why_and_why_not_are_answered() {
    let (server, _bus, _agent) = with_node().await;
    server.deploy("{name: web, image: v1}").await;
    server.until("web", DeploymentState::Running).await;
    server.deploy("{name: far, image: v1, where: 'label.region == \"eu\"'}").await;
    server.until("far", DeploymentState::Unplaced).await;
    let told = ask_all(
        &server,
        &[
            (Method::GET, "/deployments/web/why", ""),
            (Method::GET, "/deployments/web/why?slot=3", ""),
            (Method::GET, "/deployments/far/why?slot=0", ""),
            (Method::GET, "/deployments/far/why-not?node=n1", ""),
            (Method::GET, "/deployments/far/why-not?node=n2", ""),
            (Method::GET, "/deployments/far/why-not", ""),
            (Method::GET, "/deployments/nobody/why", ""),
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    server.stop().await;
}

#[tokio::test]
async fn a_node_is_labelled_cordoned_and_removed() {
    let (server, _bus, agent) = with_node().await;
    let id = agent.disk.node.clone();
    let by_id = format!("/nodes/{id}");
    let told = ask_all(
        &server,
        &[
            (Method::GET, "/nodes/n1", ""),
            (Method::PATCH, &by_id, r#"{"labels":{"role":"web","zone":null}}"#),
            (Method::PATCH, "/nodes/n1", r#"{"availability":"cordoned"}"#),
            (Method::PATCH, "/nodes/n1", r#"{"availability":"asleep"}"#),
            (Method::PATCH, "/nodes/n1", r#"{"labels":{"":"x"}}"#),
            (Method::PATCH, "/nodes/n1", r#"{"label":{}}"#),
            (Method::GET, "/nodes/n2", ""),
            (Method::PATCH, "/nodes/n2", "{}"),
            (Method::DELETE, "/nodes/n2", ""),
            (Method::DELETE, "/nodes/n1", ""),
            (Method::DELETE, "/nodes/n1?force=true", ""),
            (Method::GET, &by_id, ""),
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    server.stop().await;
}

#[tokio::test]
async fn volumes_are_shown_and_removed_when_nobody_uses_them() {
    let (server, _bus, _agent) = with_node().await;
    project(&server.app, "shop").await;
    server.deploy("{name: db, image: v1, volumes: [{name: data, path: /data}]}").await;
    server.until("db", DeploymentState::Running).await;
    eventually("its node has it", || async {
        let views = server.api.volumes(None).await.ok()?;
        (views.first()?.state == VolumeState::Present).then_some(())
    })
    .await;
    let told = ask_all(
        &server,
        &[
            (Method::GET, "/volumes", ""),
            (Method::GET, "/volumes/data", ""),
            (Method::GET, "/volumes/data.1", ""),
            (Method::DELETE, "/volumes/data.0", ""),
            (Method::DELETE, "/volumes/other", ""),
            (Method::GET, "/volumes?project=shop", ""),
            (Method::DELETE, "/deployments/db", ""),
            (Method::DELETE, "/volumes/data", ""),
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    eventually("the volume is gone", || async {
        server.app.world().await.snapshot.volumes.is_empty().then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn networks_are_made_shown_and_removed() {
    let (server, _bus, _agent) = with_node().await;
    project(&server.app, "shop").await;
    let told = ask_all(
        &server,
        &[
            (Method::POST, "/networks", r#"{"name":"back","subnet":"10.9.0.0/24"}"#),
            (Method::POST, "/networks", r#"{"name":"back"}"#),
            (Method::POST, "/networks", r#"{"name":"front","subnet":"10.9.0.128/25"}"#),
            (Method::POST, "/networks", r#"{"name":"front","subnet":"10.45.0.0/24"}"#),
            (Method::POST, "/networks", r#"{"name":"front","subnet":"10.208.7.0/24"}"#),
            (Method::POST, "/networks", r#"{"name":"knit","subnet":"127.0.0.0/8"}"#),
            (Method::POST, "/networks", r#"{"name":"x","internl":true}"#),
            (Method::POST, "/networks?project=shop", r#"{"name":"lan","driver":"host"}"#),
            (Method::GET, "/networks?project=shop", ""),
            (Method::POST, "/deployments", r#"{"name":"web","image":"v1","networks":["back"]}"#),
            (Method::DELETE, "/networks/back", ""),
            (Method::DELETE, "/deployments/web", ""),
            (Method::GET, "/networks/back", ""),
            (Method::DELETE, "/networks/back", ""),
            (Method::GET, "/networks/back", ""),
            (Method::DELETE, "/networks/back", ""),
        ],
    )
    .await;
    insta::assert_snapshot!(told);
    server.deploy("{name: web, project: shop, image: v1, networks: [lan]}").await;
    let shown = ask(&server, Method::GET, "/deployments/web?project=shop", "", "").await;
    assert!(shown.contains("\"host\""), "its rules are the host network's: {shown}");
    server.stop().await;
}
