//! `/audit`, and what writes it: every request that changes something or was denied.

use axum::Json;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use knit_rpc::api::ErrorBody;
use knit_rpc::audit::{AuditCheck, AuditEntry, AuditFact, PAGE_MAX};
use knit_runtime::clock;
use knit_server_core::access::{Action, Resource};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::access::{Caller, Origin};
use super::error::{ApiError, RequestId};
use super::sessions;
use crate::app::AppError;

/// Who shows a token that is none.
pub const WRONG_TOKEN: &str = "a wrong token";
/// Of a method, a path and a query, so much is kept.
const ACTION_CHARS_MAX: usize = 300;

/// Put into a response by a handler: what was changed, where the path does not say it.
#[derive(Debug, Clone)]
pub struct Subject(pub String);

/// Put into a response by a handler that let somebody in: that is written down as a change is.
#[derive(Debug, Clone, Copy)]
pub struct Opened;

/// Who asked, put into the response by whoever found it out.
#[derive(Debug, Clone)]
pub struct AskedBy(pub String);

#[derive(Debug, Deserialize, IntoParams)]
pub struct Page {
    /// Only entries after this one.
    #[serde(default)]
    #[param(minimum = 0)]
    after: i64,
    /// At most so many; 1000 without it.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Lists who did what, the oldest first.
#[utoipa::path(
    get, path = "/audit", params(Page),
    responses((status = 200, body = Vec<AuditEntry>), (status = 400, body = ErrorBody))
)]
pub async fn list(
    State(shared): State<Shared>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Vec<AuditEntry>>, ApiError> {
    caller.may(Action::ReadAudit, Resource::Cluster)?;
    let limit = page.limit.unwrap_or(PAGE_MAX);
    let Ok(after) = u64::try_from(page.after) else {
        let message = format!("after is {}; entries are numbered from 1", page.after);
        return Err(ApiError::invalid(message, Vec::new()));
    };
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!("limit is {limit}; it must be from 1 to {PAGE_MAX}");
        return Err(ApiError::invalid(message, Vec::new()));
    }
    Ok(Json(shared.app.audit_after(after, limit).await.map_err(AppError::from)?))
}

/// Walks the whole chain of entries, and says where it is broken if it is.
#[utoipa::path(get, path = "/audit/check", responses((status = 200, body = AuditCheck)))]
pub async fn check(
    State(shared): State<Shared>,
    caller: Caller,
) -> Result<Json<AuditCheck>, ApiError> {
    caller.may(Action::ReadAudit, Resource::Cluster)?;
    Ok(Json(shared.app.check_audit().await.map_err(AppError::from)?))
}

/// Writes down what changes something, and what is denied to somebody or to a wrong token.
pub async fn write(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let shows_token = request.headers().contains_key(header::AUTHORIZATION);
    let uri = request.uri().path_and_query().map_or("", |uri| uri.as_str());
    // What comes with a login is a secret, or leads to one.
    let uri = if sessions::is_page(request.uri().path()) { request.uri().path() } else { uri };
    let action = format!("{} {uri}", request.method()).chars().take(ACTION_CHARS_MAX).collect();
    let origin = request.extensions().get::<ConnectInfo<Origin>>().map(|info| info.0);
    let request_id = request.extensions().get::<RequestId>().cloned();
    let response = next.run(request).await;
    let status = response.status();
    let asked_by = response.extensions().get::<AskedBy>().map(|by| by.0.clone());
    let is_noted = match status {
        // Who shows nothing is nobody; a flood of that must not fill the disk.
        StatusCode::UNAUTHORIZED => shows_token || asked_by.is_some(),
        StatusCode::TOO_MANY_REQUESTS => false,
        StatusCode::FORBIDDEN => asked_by.is_some(),
        _ => (is_change || response.extensions().get::<Opened>().is_some()) && asked_by.is_some(),
    };
    if is_noted {
        let subject = response.extensions().get::<Subject>().map(|subject| subject.0.clone());
        let origin = origin.and_then(Origin::ip).map(|ip| ip.to_string());
        let fact = AuditFact {
            at: clock::now(),
            actor: asked_by.unwrap_or_else(|| WRONG_TOKEN.to_owned()),
            origin: origin.unwrap_or_else(|| "socket".to_owned()),
            action,
            subject: subject.unwrap_or_default(),
            status: status.as_u16(),
            request_id: request_id.map(|id| id.0).unwrap_or_default(),
        };
        shared.app.note(fact).await;
    }
    response
}
