//! `/nodes` and `/instances`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use knit_rpc::api::{ErrorBody, InstanceView, NodeView, RegisterRequest, RegisterResponse};

use super::Shared;
use super::error::ApiError;

/// Lists hosts: nodes, and mesh peers without an agent.
#[utoipa::path(get, path = "/nodes", responses((status = 200, body = Vec<NodeView>)))]
pub async fn list(State(shared): State<Shared>) -> Json<Vec<NodeView>> {
    Json(shared.app.nodes().await)
}

/// Lists instances: those wanted, and those that nodes still have.
#[utoipa::path(get, path = "/instances", responses((status = 200, body = Vec<InstanceView>)))]
pub async fn instances(State(shared): State<Shared>) -> Json<Vec<InstanceView>> {
    Json(shared.app.instances().await)
}

/// Registers a node or renews its token. Both bodies travel signed:
/// `{"body": …, "signature": "base64"}`.
#[utoipa::path(
    post, path = "/nodes/register", request_body = RegisterRequest,
    responses(
        (status = 200, body = RegisterResponse),
        (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 503, body = ErrorBody)
    )
)]
pub async fn register(
    State(shared): State<Shared>,
    body: Bytes,
) -> Result<impl IntoResponse, ApiError> {
    let answer = shared.app.register(&body).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer))
}
