//! `/nodes` and `/instances`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use knit_rpc::api::{
    ErrorBody, InstanceView, NodePatch, NodeRemoved, NodeView, RegisterRequest, RegisterResponse,
};
use knit_rpc::join::{MintedJoinToken, NewJoinToken};
use knit_server_core::access::{Action, Resource};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::access::Caller;
use super::error::ApiError;
use super::params::{InProject, body, listed};

/// Lists hosts: nodes, and mesh peers without an agent.
#[utoipa::path(get, path = "/nodes", responses((status = 200, body = Vec<NodeView>)))]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<NodeView>>, ApiError> {
    caller.may(Action::ViewNodes, Resource::Cluster)?;
    Ok(Json(shared.app.nodes().await))
}

/// Shows one host, by its id or its name.
#[utoipa::path(
    get, path = "/nodes/{node}", params(("node" = String, Path)),
    responses(
        (status = 200, body = NodeView),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Several have that name", body = ErrorBody)
    )
)]
pub async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(node): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    caller.may(Action::ViewNodes, Resource::Cluster)?;
    Ok(Json(shared.app.node(&node).await?))
}

/// Changes a node's labels, and whether it takes work: what is absent stays.
#[utoipa::path(
    patch, path = "/nodes/{node}", params(("node" = String, Path)),
    request_body = Option<NodePatch>,
    responses(
        (status = 200, body = NodeView),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Several have that name", body = ErrorBody)
    )
)]
pub async fn patch(
    State(shared): State<Shared>,
    caller: Caller,
    Path(node): Path<String>,
    bytes: Bytes,
) -> Result<Json<NodeView>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Cluster)?;
    let patch: NodePatch = body(&bytes, &["labels", "availability"])?;
    Ok(Json(shared.app.patch_node(&node, patch).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
pub struct Force {
    /// Whether it is removed even though it is ready, has instances or holds data.
    #[serde(default)]
    force: bool,
}

/// Removes a node from the cluster; what ran there is placed elsewhere.
#[utoipa::path(
    delete, path = "/nodes/{node}", params(("node" = String, Path), Force),
    responses(
        (status = 200, description = "It is no longer of the cluster", body = NodeRemoved),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Only with force", body = ErrorBody)
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(node): Path<String>,
    Query(query): Query<Force>,
) -> Result<Json<NodeRemoved>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Cluster)?;
    Ok(Json(shared.app.remove_node(&node, query.force).await?))
}

/// Lets in a host that asks to join (`pending`), by its id or its name.
#[utoipa::path(
    post, path = "/nodes/{node}/approve", params(("node" = String, Path)),
    responses(
        (status = 200, body = NodeView),
        (status = 404, description = "No such host asks", body = ErrorBody),
        (status = 409, description = "Several of that name ask", body = ErrorBody)
    )
)]
pub async fn approve(
    State(shared): State<Shared>,
    caller: Caller,
    Path(node): Path<String>,
) -> Result<Json<NodeView>, ApiError> {
    caller.may(Action::ManageNodes, Resource::Cluster)?;
    Ok(Json(shared.app.approve_node(&caller.0, &node).await?))
}

/// Keeps out a host that asks to join, until it is approved after all or shows a join token; a node
/// that is in is taken out.
#[utoipa::path(
    post, path = "/nodes/{node}/reject", params(("node" = String, Path), Force),
    responses(
        (status = 200, description = "It was a node and is none any more", body = NodeRemoved),
        (status = 204, description = "It is not asked about again"),
        (status = 404, description = "No such host asks", body = ErrorBody),
        (status = 409, description = "Several of that name ask, or only with force", body = ErrorBody)
    )
)]
pub async fn reject(
    State(shared): State<Shared>,
    caller: Caller,
    Path(node): Path<String>,
    Query(query): Query<Force>,
) -> Result<Response, ApiError> {
    caller.may(Action::ManageNodes, Resource::Cluster)?;
    Ok(match shared.app.reject_node(&caller.0, &node, query.force).await? {
        Some(removed) => Json(removed).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Makes a token that lets one host in, once; it is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/join-tokens", request_body = Option<NewJoinToken>,
    responses((status = 201, body = MintedJoinToken), (status = 400, body = ErrorBody))
)]
pub async fn join_token(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<(StatusCode, Json<MintedJoinToken>), ApiError> {
    caller.may(Action::ManageNodes, Resource::Cluster)?;
    let new: NewJoinToken = body(&bytes, &["ttl", "labels", "wg_pubkey"])?;
    Ok((StatusCode::CREATED, Json(shared.app.create_join_token(&caller.0, new).await?)))
}

/// Makes a join token that was not spent worth nothing, by its public half (`U…`).
#[utoipa::path(
    delete, path = "/join-tokens/{token}", params(("token" = String, Path)),
    responses(
        (status = 204, description = "It lets nobody in"),
        (status = 404, description = "It was spent, revoked, or never made", body = ErrorBody)
    )
)]
pub async fn revoke_join_token(
    State(shared): State<Shared>,
    caller: Caller,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.may(Action::ManageNodes, Resource::Cluster)?;
    shared.app.revoke_join_token(&caller.0, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists instances: those wanted, and those that nodes still have.
#[utoipa::path(
    get, path = "/instances", params(InProject),
    responses((status = 200, body = Vec<InstanceView>), (status = 400, body = ErrorBody))
)]
pub async fn instances(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<InstanceView>>, ApiError> {
    let project = listed(&shared.app, &caller, query.project).await?;
    let mut found = shared.app.instances().await;
    found.retain(|view| project.as_ref().is_none_or(|project| view.project == *project));
    found.retain(|view| caller.sees(&view.project));
    Ok(Json(found))
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

/// Gives a node that was removed its last assignment, which is empty and signed. It asks with a
/// request to register, which it signed.
#[utoipa::path(
    post, path = "/nodes/farewell", request_body = RegisterRequest,
    responses(
        (status = 200, description = "A signed assignment"),
        (status = 400, body = ErrorBody),
        (status = 403, body = ErrorBody),
        (status = 404, description = "It was not removed", body = ErrorBody)
    )
)]
pub async fn farewell(
    State(shared): State<Shared>,
    body: Bytes,
) -> Result<impl IntoResponse, ApiError> {
    let answer = shared.app.farewell_for(&body).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer))
}
