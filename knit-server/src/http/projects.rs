//! `/projects`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use knit_rpc::api::{ErrorBody, NewProject, ProjectView};
use knit_server_core::access::{Action, Resource};

use super::Shared;
use super::access::Caller;
use super::audit::Subject;
use super::error::ApiError;
use super::params::{body, project_name};

/// Lists the projects that the token holds for, with the numbers of what is in them.
#[utoipa::path(get, path = "/projects", responses((status = 200, body = Vec<ProjectView>)))]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<ProjectView>>, ApiError> {
    Ok(Json(shared.app.projects(|name| caller.sees(name)).await?))
}

/// Makes a project.
#[utoipa::path(
    post, path = "/projects", request_body = NewProject,
    responses(
        (status = 201, body = ProjectView),
        (status = 400, body = ErrorBody),
        (status = 409, description = "It exists already", body = ErrorBody)
    )
)]
pub async fn create(
    State(shared): State<Shared>,
    caller: Caller,
    bytes: Bytes,
) -> Result<(StatusCode, Extension<Subject>, Json<ProjectView>), ApiError> {
    caller.may(Action::ManageProjects, Resource::Cluster)?;
    let NewProject { name } = body(&bytes, &["name"])?;
    let made = shared.app.create_project(&name).await?;
    Ok((StatusCode::CREATED, Extension(Subject(format!("project {name}"))), Json(made)))
}

/// Shows one project.
#[utoipa::path(
    get, path = "/projects/{name}", params(("name" = String, Path)),
    responses((status = 200, body = ProjectView), (status = 404, body = ErrorBody))
)]
pub async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<ProjectView>, ApiError> {
    let name = project_name(name)?;
    caller.views(&name)?;
    Ok(Json(shared.app.project(&name).await?))
}

/// Removes a project that nothing is in.
#[utoipa::path(
    delete, path = "/projects/{name}", params(("name" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Something is in it, or it is `default`", body = ErrorBody)
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.may(Action::ManageProjects, Resource::Cluster)?;
    let name = project_name(name)?;
    shared.app.remove_project(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
