//! `/ping` and `/healthz`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use knit_link::bus::BusState;
use knit_rpc::api::Ping;
use knit_runtime::clock;
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;

/// How long ago the planner may have looked last.
const PLANNER_AGE_MAX: Duration = Duration::from_secs(10);

/// Whether the server does its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    pub healthy: bool,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

/// Says that a Knit server answers here, and whose.
#[utoipa::path(get, path = "/ping", responses((status = 200, body = Ping)))]
pub async fn ping(State(shared): State<Shared>) -> Json<Ping> {
    Json(Ping {
        service: "knit-server".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: shared.app.identity.cluster.clone(),
        server_key: shared.app.identity.public_key(),
    })
}

/// Says whether the server does its work, and what is wrong when not.
#[utoipa::path(
    get, path = "/healthz",
    responses((status = 200, body = Health), (status = 503, body = Health))
)]
pub async fn healthz(State(shared): State<Shared>) -> (StatusCode, Json<Health>) {
    let app = &shared.app;
    let mut problems = Vec::new();
    if let Err(error) = app.store.ping().await {
        problems.push(error.to_string());
    }
    if app.nats_url.borrow().is_none() {
        problems.push("the mesh address is awaited: is a sidecar running?".to_owned());
    } else {
        match &*app.bus_state.borrow() {
            BusState::Connected if app.hears() => {}
            BusState::Connected => problems.push("NATS does not answer".to_owned()),
            BusState::Connecting => problems.push("NATS is being connected".to_owned()),
            BusState::Disconnected { reason } => {
                problems.push(format!("NATS is not connected: {reason}"));
            }
        }
    }
    let age = clock::now().since(app.planned_at());
    if age > PLANNER_AGE_MAX {
        problems.push("the planner has not looked for over 10 s".to_owned());
    }
    if let Some(frozen) = &app.world().await.verdicts.frozen {
        problems.push(frozen.clone());
    }
    let healthy = problems.is_empty();
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { healthy, problems }))
}
