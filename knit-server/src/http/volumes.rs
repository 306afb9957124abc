//! `/volumes`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use knit_rpc::api::{ErrorBody, VolumeView};

use super::Shared;
use super::access::Caller;
use super::error::ApiError;
use super::params::{InProject, listed, project_or_default};

/// Lists volumes.
#[utoipa::path(
    get, path = "/volumes", params(InProject),
    responses((status = 200, body = Vec<VolumeView>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<VolumeView>>, ApiError> {
    let project = listed(&shared.app, &caller, query.project).await?;
    let mut found = shared.app.volumes(project.as_ref()).await;
    found.retain(|view| caller.sees(&view.volume.project));
    Ok(Json(found))
}

/// Shows every slot's volume of a name (`data`), or one slot's (`data.0`).
#[utoipa::path(
    get, path = "/volumes/{name}", params(("name" = String, Path), InProject),
    responses((status = 200, body = Vec<VolumeView>), (status = 404, body = ErrorBody))
)]
pub async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<VolumeView>>, ApiError> {
    let project = project_or_default(query.project)?;
    caller.views(&project)?;
    Ok(Json(shared.app.volume(&project, &name).await?))
}

/// Removes every slot's volume of a name (`data`), or one slot's (`data.0`), with its data.
#[utoipa::path(
    delete, path = "/volumes/{name}", params(("name" = String, Path), InProject),
    responses(
        (status = 202, description = "Its node removes it"),
        (status = 404, body = ErrorBody),
        (status = 409, description = "Something uses it", body = ErrorBody)
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
    shared.app.remove_volume(&project, &name).await?;
    Ok(StatusCode::ACCEPTED)
}
