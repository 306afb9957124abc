//! `/networks`.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use knit_rpc::api::{ErrorBody, NetworkView};
use knit_rpc::message::{NetworkDriver, NetworkSpec};
use knit_server_core::access::{Action, Resource};

use super::Shared;
use super::access::Caller;
use super::audit::Subject;
use super::error::ApiError;
use super::params::{InProject, agreed_project, body, listed, project_or_default};

/// Lists networks that users made.
#[utoipa::path(
    get, path = "/networks", params(InProject),
    responses((status = 200, body = Vec<NetworkView>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<NetworkView>>, ApiError> {
    let project = listed(&shared.app, &caller, query.project).await?;
    let mut found = shared.app.networks(project.as_ref()).await;
    found.retain(|view| caller.sees(&view.network.project));
    Ok(Json(found))
}

/// Makes a network; each node that needs it makes its own part.
#[utoipa::path(
    post, path = "/networks", params(InProject), request_body = NetworkSpec,
    responses(
        (status = 201, body = NetworkView),
        (status = 400, body = ErrorBody),
        (status = 409, description = "The name or the subnet is taken", body = ErrorBody)
    )
)]
pub async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
    bytes: Bytes,
) -> Result<(StatusCode, Extension<Subject>, Json<NetworkView>), ApiError> {
    let mut spec: NetworkSpec = body(&bytes, &["project", "name", "driver", "subnet", "internal"])?;
    spec.project = agreed_project(query.project, &bytes)?;
    let action = match spec.driver {
        NetworkDriver::Bridge => Action::Deploy,
        NetworkDriver::Host => Action::DeployPrivileged,
    };
    caller.may(action, Resource::Project(&spec.project))?;
    let made = shared.app.create_network(spec).await?;
    let subject = format!("network {}/{}", made.network.project, made.network.name);
    Ok((StatusCode::CREATED, Extension(Subject(subject)), Json(made)))
}

/// Shows one network.
#[utoipa::path(
    get, path = "/networks/{name}", params(("name" = String, Path), InProject),
    responses((status = 200, body = NetworkView), (status = 404, body = ErrorBody))
)]
pub async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<Json<NetworkView>, ApiError> {
    let project = project_or_default(query.project)?;
    caller.views(&project)?;
    Ok(Json(shared.app.network(&project, &name).await?))
}

/// Removes a network that no deployment names.
#[utoipa::path(
    delete, path = "/networks/{name}", params(("name" = String, Path), InProject),
    responses(
        (status = 204, description = "Nodes remove it with the last container on it"),
        (status = 404, body = ErrorBody),
        (status = 409, description = "A deployment names it", body = ErrorBody)
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<StatusCode, ApiError> {
    let project = project_or_default(query.project)?;
    caller.deploys(&project)?;
    shared.app.remove_network(&project, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
