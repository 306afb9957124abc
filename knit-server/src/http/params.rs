//! What requests say in their paths, queries and bodies.

use axum::body::Bytes;
use knit_rpc::id::{DeploymentName, ProjectName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;

use super::access::Caller;
use super::error::ApiError;
use crate::app::App;

#[derive(Debug, Deserialize, IntoParams)]
pub struct InProject {
    /// The project; in a list all of them, else `default`, when absent.
    pub project: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
pub struct Expected {
    /// The revision that the deployment must be at (0: it must not exist).
    pub revision: Option<u64>,
}

/// The project and the deployment that a request is about.
pub(super) fn names(
    project: Option<String>,
    name: String,
) -> Result<(ProjectName, DeploymentName), ApiError> {
    let name = DeploymentName::parse(name)
        .map_err(|error| ApiError::invalid(error.to_string(), Vec::new()))?;
    Ok((project_or_default(project)?, name))
}

pub(super) fn project_or_default(project: Option<String>) -> Result<ProjectName, ApiError> {
    project.map_or_else(|| Ok(ProjectName::default()), project_name)
}

/// The project that a list is asked for, if it is one: it exists, and the caller may look at it.
pub(super) async fn listed(
    app: &App,
    caller: &Caller,
    project: Option<String>,
) -> Result<Option<ProjectName>, ApiError> {
    let Some(project) = project.map(project_name).transpose()? else { return Ok(None) };
    caller.views(&project)?;
    app.expect_project(&project).await?;
    Ok(Some(project))
}

/// The project that a query names, or a JSON body by its key `project`, or both alike.
pub(super) fn agreed_project(
    query: Option<String>,
    bytes: &Bytes,
) -> Result<ProjectName, ApiError> {
    #[derive(Default, Deserialize)]
    struct Named {
        project: Option<String>,
    }
    let named: Named = serde_json::from_slice(bytes).unwrap_or_default();
    let query = query.map(project_name).transpose()?;
    let body = named.project.map(project_name).transpose()?;
    match (query, body) {
        (Some(query), Some(body)) if query != body => {
            let message =
                format!("the query says project {query}, the body says {body}: which is it?");
            Err(ApiError::invalid(message, Vec::new()))
        }
        (Some(project), _) | (None, Some(project)) => Ok(project),
        (None, None) => Ok(ProjectName::default()),
    }
}

pub(super) fn project_name(text: String) -> Result<ProjectName, ApiError> {
    ProjectName::parse(text).map_err(|error| ApiError::invalid(error.to_string(), Vec::new()))
}

/// Reads a JSON body that knows these keys and no other. An empty one is `{}`.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes, keys: &[&str]) -> Result<T, ApiError> {
    let wrong = |message: String| ApiError::invalid(message, Vec::new());
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| wrong(format!("the body is no JSON: {error}")))?;
    // A list of its values would be read as the value too.
    let Value::Object(members) = &value else {
        return Err(wrong("the body must be a JSON object".to_owned()));
    };
    if let Some(key) = members.keys().find(|key| !keys.contains(&key.as_str())) {
        return Err(wrong(format!("the body knows no \"{key}\": it may have {}", keys.join(", "))));
    }
    serde_json::from_value(value)
        .map_err(|error| wrong(format!("the body is not what it should be: {error}")))
}

#[cfg(test)]
mod tests {
    use knit_rpc::api::{RollbackRequest, ScaleRequest};

    use super::*;

    #[test]
    fn query_and_body_agree_on_the_project() {
        let agreed = |query: Option<&str>, body: &'static str| {
            agreed_project(query.map(str::to_owned), &Bytes::from_static(body.as_bytes())).ok()
        };
        for (query, body, project) in [
            (None, "{}", Some("default")),
            (None, r#"{"project":"shop"}"#, Some("shop")),
            (Some("shop"), "{}", Some("shop")),
            (Some("shop"), r#"{"project":"shop"}"#, Some("shop")),
            (Some("shop"), r#"{"project":"default"}"#, None),
            (Some("Shop"), "{}", None),
        ] {
            assert_eq!(
                agreed(query, body).as_ref().map(ProjectName::as_str),
                project,
                "{query:?} {body}"
            );
        }
    }

    #[test]
    fn a_body_is_read_strictly() {
        let read = |text: &'static str| {
            body::<ScaleRequest>(&Bytes::from_static(text.as_bytes()), &["replicas"])
        };
        assert_eq!(read("{\"replicas\": 3}").unwrap().replicas, 3);
        for bad in ["", "{", "[]", "{\"replica\": 3}", "{\"replicas\": -1}", "{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let nothing = body::<RollbackRequest>(&Bytes::new(), &["to"]).unwrap();
        assert_eq!(nothing.to, None);
        assert!(body::<RollbackRequest>(&Bytes::from_static(b"[]"), &["to"]).is_err());
    }
}
