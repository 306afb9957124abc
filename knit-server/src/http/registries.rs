//! `/registries`, and what nodes are handed of them.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use knit_rpc::api::{
    ErrorBody, NewRegistry, PullRequest, PullResponse, RegistryTest, RegistryView,
};
use knit_server_core::access::{Action, Resource};

use super::Shared;
use super::access::Caller;
use super::audit::Subject;
use super::error::ApiError;
use super::params::{InProject, agreed_project, body, listed, project_or_default};

const KEYS: [&str; 6] = ["project", "host", "username", "password", "ca", "insecure"];

/// Lists registries, never with their passwords.
#[utoipa::path(
    get, path = "/registries", params(InProject),
    responses((status = 200, body = Vec<RegistryView>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<RegistryView>>, ApiError> {
    let project = listed(&shared.app, &caller, query.project).await?;
    let mut found = shared.app.registries(project.as_ref()).await?;
    found.retain(|view| caller.sees(&view.project));
    Ok(Json(found))
}

/// Keeps how to sign in to a registry, in place of what was kept before.
#[utoipa::path(
    post, path = "/registries", params(InProject), request_body = NewRegistry,
    responses(
        (status = 201, body = RegistryView),
        (status = 400, body = ErrorBody),
        (status = 409, description = "The project has too many", body = ErrorBody),
        (status = 503, description = "The vault is shut", body = ErrorBody)
    )
)]
pub async fn put(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
    bytes: Bytes,
) -> Result<(StatusCode, Extension<Subject>, Json<RegistryView>), ApiError> {
    let project = agreed_project(query.project, &bytes)?;
    caller.may(Action::Deploy, Resource::Project(&project))?;
    let new: NewRegistry = body(&bytes, &KEYS)?;
    let kept = shared.app.put_registry(&caller.0, NewRegistry { project, ..new }).await?;
    let subject = format!("registry {}/{}", kept.project, kept.host);
    Ok((StatusCode::CREATED, Extension(Subject(subject)), Json(kept)))
}

/// Forgets how to sign in to a registry.
#[utoipa::path(
    delete, path = "/registries/{host}", params(("host" = String, Path), InProject),
    responses(
        (status = 204, description = "Nodes are handed nothing for it any more"),
        (status = 404, body = ErrorBody)
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(host): Path<String>,
    Query(query): Query<InProject>,
) -> Result<StatusCode, ApiError> {
    let project = project_or_default(query.project)?;
    caller.deploys(&project)?;
    shared.app.remove_registry(&project, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs in to a registry from the server, and says how that went.
#[utoipa::path(
    post, path = "/registries/{host}/test", params(("host" = String, Path), InProject),
    responses((status = 200, body = RegistryTest), (status = 404, body = ErrorBody))
)]
pub async fn test(
    State(shared): State<Shared>,
    caller: Caller,
    Path(host): Path<String>,
    Query(query): Query<InProject>,
) -> Result<Json<RegistryTest>, ApiError> {
    let project = project_or_default(query.project)?;
    caller.deploys(&project)?;
    Ok(Json(shared.app.test_registry(&project, &host).await?))
}

/// Hands a node what it needs for one pull of an image that it was assigned. Both bodies travel
/// signed: `{"body": …, "signature": "base64"}`.
#[utoipa::path(
    post, path = "/nodes/pull", request_body = PullRequest,
    responses(
        (status = 200, body = PullResponse),
        (status = 403, body = ErrorBody),
        (status = 409, description = "Its agent is too old", body = ErrorBody),
        (status = 503, description = "The vault is shut", body = ErrorBody)
    )
)]
pub async fn pull(
    State(shared): State<Shared>,
    body: Bytes,
) -> Result<impl IntoResponse, ApiError> {
    let answer = shared.app.pull_credentials(&body).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer))
}
