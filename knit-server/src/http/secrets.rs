//! `/secrets`: values go in, and never come out.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use knit_rpc::api::{ErrorBody, NewSecret, SecretStored, SecretVersion, SecretView};
use knit_rpc::id::{ProjectName, SecretName};

use super::Shared;
use super::access::Caller;
use super::audit::Subject;
use super::error::ApiError;
use super::params::{InProject, body, listed, project_or_default};

/// Lists secrets, without their values.
#[utoipa::path(
    get, path = "/secrets", params(InProject),
    responses((status = 200, body = Vec<SecretView>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<SecretView>>, ApiError> {
    let project = listed(&shared.app, &caller, query.project).await?;
    let mut found = shared.app.secrets(project.as_ref()).await;
    found.retain(|view| caller.sees(&view.project));
    Ok(Json(found))
}

/// Lists the versions of a secret, the newest first, without their values.
#[utoipa::path(
    get, path = "/secrets/{name}", params(("name" = String, Path), InProject),
    responses((status = 200, body = Vec<SecretVersion>), (status = 404, body = ErrorBody))
)]
pub async fn history(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<SecretVersion>>, ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.views(&project)?;
    Ok(Json(shared.app.secret(&project, &name).await?))
}

/// Sets a secret: makes it, or gives it a new version, which is rolled out to who uses it.
#[utoipa::path(
    put, path = "/secrets/{name}", params(("name" = String, Path), InProject),
    request_body = NewSecret,
    responses(
        (status = 200, body = SecretStored),
        (status = 400, body = ErrorBody),
        (status = 409, description = "Somebody was faster", body = ErrorBody),
        (status = 503, description = "The vault is shut", body = ErrorBody)
    )
)]
pub async fn set(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    bytes: Bytes,
) -> Result<(Extension<Subject>, Json<SecretStored>), ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.deploys(&project)?;
    let new: NewSecret = body(&bytes, &["value", "version"])?;
    let stored = shared.app.set_secret(&project, &name, &new, &caller.0.name).await?;
    let subject = format!("secret {project}/{name} version {}", stored.version);
    Ok((Extension(Subject(subject)), Json(stored)))
}

/// Removes a secret that nothing uses.
#[utoipa::path(
    delete, path = "/secrets/{name}", params(("name" = String, Path), InProject),
    responses(
        (status = 204, description = "It is gone, with all its versions"),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Something uses it", body = ErrorBody)
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<(Extension<Subject>, StatusCode), ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.deploys(&project)?;
    shared.app.remove_secret(&project, &name).await?;
    Ok((Extension(Subject(format!("secret {project}/{name}"))), StatusCode::NO_CONTENT))
}

fn names(project: Option<String>, name: String) -> Result<(ProjectName, SecretName), ApiError> {
    let name = SecretName::parse(name)
        .map_err(|error| ApiError::invalid(error.to_string(), Vec::new()))?;
    Ok((project_or_default(project)?, name))
}
