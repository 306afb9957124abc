//! `/ping`, `/identity` and `/healthz`.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use knit_link::bus::BusState;
use knit_rpc::api::{ErrorBody, Ping, ServerIdentity};
use knit_rpc::signed::{self, Context};
use knit_runtime::clock;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::error::ApiError;
use crate::app::AppError;

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

#[derive(Debug, Deserialize, IntoParams)]
pub struct Nonce {
    /// 32 to 128 hex digits that the asker drew for this question.
    nonce: String,
}

/// Proves that this is the server: the answer travels signed,
/// `{"body": …, "signature": "base64"}`.
#[utoipa::path(
    get, path = "/identity", params(Nonce),
    responses((status = 200, body = ServerIdentity), (status = 400, body = ErrorBody))
)]
pub async fn identity(
    State(shared): State<Shared>,
    Query(query): Query<Nonce>,
) -> Result<impl IntoResponse, ApiError> {
    let nonce = query.nonce;
    if !(32..=128).contains(&nonce.len()) || !nonce.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ApiError::invalid("the nonce must be 32 to 128 hex digits", Vec::new()));
    }
    let identity = &shared.app.identity;
    let server_key = identity.public_key();
    let body = ServerIdentity { cluster: identity.cluster.clone(), server_key, nonce };
    let signed = signed::sign(&identity.server, Context::Identity, &body)
        .map_err(|error| AppError::Internal(Box::new(error)))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], signed))
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
