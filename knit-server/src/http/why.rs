//! `/deployments/{name}/why` and `/why-not`.

use axum::Json;
use axum::extract::{Path, Query, State};
use knit_rpc::api::{ErrorBody, WhyNot, WhyView};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::access::Caller;
use super::error::ApiError;
use super::params::{InProject, names};

#[derive(Debug, Deserialize, IntoParams)]
pub struct OfSlot {
    /// Only this slot.
    slot: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
pub struct OnNode {
    /// The node's id, or its name if no other has it.
    node: String,
}

/// Says why each instance is where it is, or what it waits for.
#[utoipa::path(
    get, path = "/deployments/{name}/why", params(("name" = String, Path), InProject, OfSlot),
    responses((status = 200, body = WhyView), (status = 404, body = ErrorBody))
)]
pub async fn why(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(of): Query<OfSlot>,
) -> Result<Json<WhyView>, ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.views(&project)?;
    Ok(Json(shared.app.why(&project, &name, of.slot).await?))
}

/// Says all that keeps a node from running a deployment.
#[utoipa::path(
    get, path = "/deployments/{name}/why-not",
    params(("name" = String, Path), InProject, OnNode),
    responses(
        (status = 200, body = WhyNot),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub async fn why_not(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(on): Query<OnNode>,
) -> Result<Json<WhyNot>, ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.views(&project)?;
    Ok(Json(shared.app.why_not(&project, &name, &on.node).await?))
}
