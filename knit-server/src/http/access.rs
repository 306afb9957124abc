//! Who asks: every request but a few carries a token, or comes from root on this host.
//!
//! ```text
//! request ─> open path? ──────────────────────────────────────────┐
//!         ─> Unix socket, peer is root or the server's user ─> admin
//!         ─> Authorization: Bearer knit_… ─> holder ──────────────┤
//!         ─> a browser's cookie ─> session ─> guard ──────────────┴─> handler ─> Caller::may
//! ```
//!
//! Invariant: a handler is reached by an open path or with a [`Caller`]; what the caller may do is
//! decided by `knit_server_core::access` alone.

mod failures;
mod origin;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use knit_rpc::access::{Role, Scope, Token};
use knit_rpc::id::ProjectName;
use knit_server_core::access::{Action, Actor, Resource, allowed};

use super::Shared;
use super::audit::AskedBy;
use super::error::ApiError;
use super::sessions::{self, Browser};
use crate::app::tokens::Holder;

pub use failures::Failures;
pub use origin::{Doorway, Origin};

/// What answers everybody: whether a server is here and well, and what proves itself by its own
/// signature.
const OPEN_PATHS: [&str; 6] =
    ["/ping", "/healthz", "/identity", "/nodes/register", "/nodes/farewell", "/nodes/pull"];
const HOW: &str = "ask an admin for one (knit token create), then knit login, or set KNIT_TOKEN; \
                   programs send the header Authorization: Bearer TOKEN";

/// Who sent a request.
#[derive(Debug, Clone)]
pub struct Caller(pub Actor);

impl Caller {
    pub fn may(&self, action: Action, resource: Resource<'_>) -> Result<(), ApiError> {
        allowed(&self.0, action, resource)
            .map_err(|denied| ApiError::new(StatusCode::FORBIDDEN, "denied", denied.to_string()))
    }

    /// May look at a project.
    pub fn views(&self, project: &ProjectName) -> Result<(), ApiError> {
        self.may(Action::View, Resource::Project(project))
    }

    /// May change what a project has.
    pub fn deploys(&self, project: &ProjectName) -> Result<(), ApiError> {
        self.may(Action::Deploy, Resource::Project(project))
    }

    /// Whether lists show it what this project has.
    pub fn sees(&self, project: &ProjectName) -> bool {
        self.views(project).is_ok()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| unknown("this takes a token"))
    }
}

/// Finds out who asks, and turns away who may not ask at all.
pub async fn identify(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let browser = Browser::of(&shared, request.headers()).await;
    if sessions::is_page(request.uri().path()) {
        request.extensions_mut().insert(browser);
        return next.run(request).await;
    }
    let origin = request.extensions().get::<ConnectInfo<Origin>>().map(|info| info.0);
    match caller(&shared, origin, request.headers(), &browser).await {
        Ok(caller) => {
            tracing::Span::current().record("caller", &caller.0.name);
            let asked_by = AskedBy(caller.0.name.clone());
            let is_by_cookie = !request.headers().contains_key(header::AUTHORIZATION);
            let guarded = if is_by_cookie { browser.guard(&shared, &request) } else { Ok(()) };
            let mut response = match guarded {
                Ok(()) => {
                    request.extensions_mut().insert(caller);
                    next.run(request).await
                }
                Err(foreign) => foreign.into_response(),
            };
            response.extensions_mut().insert(asked_by);
            response
        }
        Err(error) => error.into_response(),
    }
}

pub(super) fn is_open(path: &str) -> bool {
    OPEN_PATHS.contains(&path.strip_prefix("/v1").unwrap_or(path))
}

async fn caller(
    shared: &Shared,
    origin: Option<Origin>,
    headers: &HeaderMap,
    browser: &Browser,
) -> Result<Caller, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return match origin {
            Some(Origin::Unix { uid }) if origin::is_local_admin(uid) => Ok(local_admin(uid)),
            _ if browser.is_known() => browser.caller(),
            Some(Origin::Unix { uid }) => Err(unknown(&format!(
                "on this socket only root and the server's own user need no token, and you are \
                 user {uid}"
            ))),
            Some(Origin::Tcp(_)) | None => Err(unknown("this takes a token")),
        };
    };
    let from = origin.and_then(Origin::ip);
    if let Some(wait) = from.and_then(|from| shared.failures.wait(from)) {
        return Err(ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-failures",
            format!("too many wrong tokens came from here: try again in {} s", wait.as_secs() + 1),
        )
        .retry_after(wait));
    }
    let bearer = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let why = match bearer.map(Token::parse) {
        None => "the header Authorization must read: Bearer TOKEN".to_owned(),
        Some(Err(no_token)) => no_token.to_string(),
        Some(Ok(token)) => {
            match shared.app.holder(&token).await.map_err(crate::app::AppError::from)? {
                Holder::Known(actor) => return Ok(Caller(actor)),
                Holder::Expired => format!("token {} has expired", token.id()),
                Holder::Unknown => {
                    "this token is not known here: it was revoked, or is another cluster's"
                        .to_owned()
                }
            }
        }
    };
    if let Some(from) = from {
        shared.failures.note(from);
    }
    Err(unknown(&why))
}

fn local_admin(uid: u32) -> Caller {
    let name = match uid {
        0 => "root on the server's host".to_owned(),
        uid => format!("the server's own user {uid}"),
    };
    Caller(Actor { name, role: Role::Admin, scope: Scope::All })
}

fn unknown(why: &str) -> ApiError {
    let message = format!("{why}; {HOW}");
    ApiError::new(StatusCode::UNAUTHORIZED, "no-token", message)
}
