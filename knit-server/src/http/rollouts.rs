//! `/deployments/{name}/…`: what people do to a deployment that is there, and what became of it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use knit_rpc::api::{
    Accepted, ErrorBody, RevisionView, RollbackRequest, RolloutView, ScaleRequest,
};

use super::Shared;
use super::access::Caller;
use super::error::ApiError;
use super::params::{Expected, InProject, body, names};
use crate::app::deployments::Change;

type Changed = Result<(StatusCode, Json<Accepted>), ApiError>;
type Steered = Result<Json<RolloutView>, ApiError>;

/// Lists the revisions that are remembered, the newest first.
#[utoipa::path(
    get, path = "/deployments/{name}/history", params(("name" = String, Path), InProject),
    responses((status = 200, body = Vec<RevisionView>), (status = 404, body = ErrorBody))
)]
pub async fn history(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<RevisionView>>, ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.views(&project)?;
    Ok(Json(shared.app.history(&project, &name).await?))
}

/// Goes back to an earlier revision's spec, by way of a new revision.
#[utoipa::path(
    post, path = "/deployments/{name}/rollback",
    params(("name" = String, Path), InProject, Expected), request_body = Option<RollbackRequest>,
    responses(
        (status = 202, body = Accepted),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub async fn rollback(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
    bytes: Bytes,
) -> Changed {
    let request: RollbackRequest = body(&bytes, &["to"])?;
    change((&shared, &caller), query, name, expected, Change::Rollback(request.to)).await
}

/// Sets the number of replicas.
#[utoipa::path(
    post, path = "/deployments/{name}/scale",
    params(("name" = String, Path), InProject, Expected), request_body = ScaleRequest,
    responses(
        (status = 202, body = Accepted),
        (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub async fn scale(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
    bytes: Bytes,
) -> Changed {
    let request: ScaleRequest = body(&bytes, &["replicas"])?;
    change((&shared, &caller), query, name, expected, Change::Scale(request.replicas)).await
}

/// Replaces every container by a new one of the same spec, as the update policy says.
#[utoipa::path(
    post, path = "/deployments/{name}/restart",
    params(("name" = String, Path), InProject, Expected),
    responses((status = 202, body = Accepted), (status = 404, body = ErrorBody))
)]
pub async fn restart(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
) -> Changed {
    change((&shared, &caller), query, name, expected, Change::Restart).await
}

/// Stops every container; slots, data and revisions are kept.
#[utoipa::path(
    post, path = "/deployments/{name}/stop",
    params(("name" = String, Path), InProject, Expected),
    responses((status = 202, body = Accepted), (status = 404, body = ErrorBody))
)]
pub async fn stop(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
) -> Changed {
    change((&shared, &caller), query, name, expected, Change::Stop).await
}

/// Has what was stopped run again.
#[utoipa::path(
    post, path = "/deployments/{name}/start",
    params(("name" = String, Path), InProject, Expected),
    responses((status = 202, body = Accepted), (status = 404, body = ErrorBody))
)]
pub async fn start(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
) -> Changed {
    change((&shared, &caller), query, name, expected, Change::Start).await
}

/// Shows the newest rollout, under way or ended.
#[utoipa::path(
    get, path = "/deployments/{name}/rollout", params(("name" = String, Path), InProject),
    responses((status = 200, body = RolloutView), (status = 404, body = ErrorBody))
)]
pub async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Steered {
    let (project, name) = names(query.project, name)?;
    caller.views(&project)?;
    Ok(Json(shared.app.rollout(&project, &name).await?))
}

/// Steers the rollout that is under way: `pause`, `resume`, `promote` or `abort`.
#[utoipa::path(
    post, path = "/deployments/{name}/rollout/{step}",
    params(("name" = String, Path), ("step" = String, Path), InProject, Expected),
    responses(
        (status = 200, body = RolloutView),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub async fn steer(
    State(shared): State<Shared>,
    caller: Caller,
    Path((name, step)): Path<(String, String)>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
) -> Steered {
    let step = match step.as_str() {
        "pause" => Change::Pause,
        "resume" => Change::Resume,
        "promote" => Change::Promote,
        "abort" => Change::Abort,
        _ => {
            let message = format!(
                "a rollout is steered by pause, resume, promote or abort, not by \"{step}\""
            );
            return Err(ApiError::new(StatusCode::NOT_FOUND, "not-found", message));
        }
    };
    let (project, name) = names(query.project, name)?;
    caller.deploys(&project)?;
    shared.app.change(&caller.0, &project, &name, step, expected.revision).await?;
    Ok(Json(shared.app.rollout(&project, &name).await?))
}

async fn change(
    (shared, caller): (&Shared, &Caller),
    query: InProject,
    name: String,
    expected: Expected,
    change: Change,
) -> Changed {
    let (project, name) = names(query.project, name)?;
    caller.deploys(&project)?;
    let accepted = shared.app.change(&caller.0, &project, &name, change, expected.revision).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}
