//! `/deployments`.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use knit_rpc::api::{Accepted, DeploymentView, ErrorBody, FieldProblem, PlanView};
use knit_rpc::spec::{DeploymentSpec, Format, Problems, parse_in};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::access::Caller;
use super::audit::Subject;
use super::error::{ApiError, summary};
use super::params::{Expected, InProject, listed, names, project_name};

#[derive(Debug, Deserialize, IntoParams)]
pub struct PlanOnly {
    /// Whether only to say what would happen (200, `PlanView`).
    #[serde(default)]
    plan_only: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
pub struct WithVolumes {
    /// Whether the volumes that only this deployment uses are removed with their data.
    #[serde(default)]
    volumes: bool,
}

/// Lists deployments.
#[utoipa::path(
    get, path = "/deployments", params(InProject),
    responses((status = 200, body = Vec<DeploymentView>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<InProject>,
) -> Result<Json<Vec<DeploymentView>>, ApiError> {
    let project = listed(&shared.app, &caller, query.project).await?;
    let mut found = shared.app.deployments(project.as_ref()).await;
    found.retain(|view| caller.sees(&view.project));
    Ok(Json(found))
}

/// Takes a deployment in; it is carried out from then on, whoever watches. Or only says what would
/// happen.
#[utoipa::path(
    post, path = "/deployments", params(InProject, Expected, PlanOnly),
    request_body(
        description = "The manifest",
        content(
            (DeploymentSpec = "application/json"),
            (DeploymentSpec = "application/yaml"),
            (DeploymentSpec = "application/toml")
        )
    ),
    responses(
        (status = 200, description = "What would happen", body = PlanView),
        (status = 202, body = Accepted),
        (status = 400, body = ErrorBody),
        (status = 409, body = ErrorBody),
        (status = 415, body = ErrorBody)
    )
)]
pub async fn submit(
    State(shared): State<Shared>,
    caller: Caller,
    Query(of): Query<InProject>,
    Query(query): Query<Expected>,
    Query(only): Query<PlanOnly>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let format = format_of(&headers)?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| ApiError::invalid("the manifest is not UTF-8 text", Vec::new()))?;
    let project = of.project.map(project_name).transpose()?;
    let spec = parse_in(text, format, project.as_ref()).map_err(problems)?;
    if only.plan_only {
        caller.views(&spec.project)?;
        let plan = shared.app.plan_only(spec, query.revision).await?;
        return Ok(Json(plan).into_response());
    }
    caller.deploys(&spec.project)?;
    let accepted = shared.app.submit(&caller.0, spec, query.revision).await?;
    let subject = format!("{}/{} revision {}", accepted.project, accepted.name, accepted.revision);
    Ok((StatusCode::ACCEPTED, Extension(Subject(subject)), Json(accepted)).into_response())
}

/// Shows one deployment with its instances.
#[utoipa::path(
    get, path = "/deployments/{name}", params(("name" = String, Path), InProject),
    responses((status = 200, body = DeploymentView), (status = 404, body = ErrorBody))
)]
pub async fn show(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
) -> Result<Json<DeploymentView>, ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.views(&project)?;
    Ok(Json(shared.app.deployment(&project, &name).await?))
}

/// Removes a deployment and its containers; the name is free at once.
#[utoipa::path(
    delete, path = "/deployments/{name}",
    params(("name" = String, Path), InProject, Expected, WithVolumes),
    responses(
        (status = 202, description = "Its containers are being removed"),
        (status = 204, description = "It had none"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody)
    )
)]
pub async fn remove(
    State(shared): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<InProject>,
    Query(expected): Query<Expected>,
    Query(with): Query<WithVolumes>,
) -> Result<StatusCode, ApiError> {
    let (project, name) = names(query.project, name)?;
    caller.deploys(&project)?;
    let ran = shared.app.remove(&project, &name, with.volumes, expected.revision).await?;
    Ok(if ran { StatusCode::ACCEPTED } else { StatusCode::NO_CONTENT })
}

/// The format that the content type names; JSON when none is given.
fn format_of(headers: &HeaderMap) -> Result<Format, ApiError> {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return Ok(Format::Json) };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    // `text/yaml`, `application/x-yaml` and `application/vnd.x+json` are meant as well.
    let named = essence.rsplit(['/', '+', '-']).next().unwrap_or_default();
    match named {
        "json" | "yaml" | "toml" => Ok(Format::of_content_type(named)),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            format!(
                "a manifest cannot be {essence}: send it as application/json, application/yaml or \
                 application/toml, and say which in the header content-type"
            ),
        )),
    }
}

fn problems(problems: Problems) -> ApiError {
    let fields: Vec<FieldProblem> = problems
        .into_vec()
        .into_iter()
        .map(|problem| FieldProblem {
            field: problem.field,
            message: problem.message,
            line: problem.position.map(|at| at.line),
            column: problem.position.map(|at| at.column),
        })
        .collect();
    ApiError::invalid(summary(&fields), fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_names_the_format() {
        for (kind, format) in [
            (None, Some(Format::Json)),
            (Some("application/json"), Some(Format::Json)),
            (Some("Application/JSON; charset=utf-8"), Some(Format::Json)),
            (Some("text/x-yaml"), Some(Format::Yaml)),
            (Some("application/vnd.knit+toml"), Some(Format::Toml)),
            (Some("image/png"), None),
            (Some("text/plain; name=a.json"), None),
            (Some("application/x-www-form-urlencoded"), None),
            (Some(""), None),
        ] {
            let value = kind.map(|kind| (header::CONTENT_TYPE, kind.parse().unwrap()));
            let told = format_of(&value.into_iter().collect());
            assert_eq!(told.ok(), format, "{kind:?}");
        }
    }
}
