//! `/tokens` and `/whoami`.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use knit_rpc::access::{MintedToken, NewToken, Scope, TokenView, Whoami};
use knit_rpc::api::ErrorBody;

use super::Shared;
use super::access::Caller;
use super::audit::Subject;
use super::error::ApiError;
use super::params::body;

/// Says as whom the request counts.
#[utoipa::path(get, path = "/whoami", responses((status = 200, body = Whoami)))]
pub async fn whoami(State(shared): State<Shared>, Caller(actor): Caller) -> Json<Whoami> {
    let projects = match actor.scope {
        Scope::All => None,
        Scope::Projects(projects) => Some(projects),
    };
    let server_key = shared.app.identity.public_key();
    Json(Whoami { name: actor.name, role: actor.role, projects, server_key })
}

/// Lists the tokens that the caller may manage.
#[utoipa::path(get, path = "/tokens", responses((status = 200, body = Vec<TokenView>)))]
pub async fn list(State(shared): State<Shared>, Caller(actor): Caller) -> Json<Vec<TokenView>> {
    Json(shared.app.list_tokens(&actor))
}

/// Makes a token; its secret is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/tokens", request_body = NewToken,
    responses((status = 201, body = MintedToken), (status = 400, body = ErrorBody))
)]
pub async fn create(
    State(shared): State<Shared>,
    Caller(actor): Caller,
    bytes: Bytes,
) -> Result<(StatusCode, Extension<Subject>, Json<MintedToken>), ApiError> {
    let new: NewToken = body(&bytes, &["name", "role", "projects", "ttl"])?;
    let minted = shared.app.create_token(&actor, new).await?;
    let subject = format!("token {} ({})", minted.view.name, minted.view.id);
    Ok((StatusCode::CREATED, Extension(Subject(subject)), Json(minted)))
}

/// Revokes a token at once.
#[utoipa::path(
    delete, path = "/tokens/{id}", params(("id" = String, Path)),
    responses((status = 204, description = "It is worth nothing"), (status = 404, body = ErrorBody))
)]
pub async fn revoke(
    State(shared): State<Shared>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared.app.revoke_token(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
