//! Rows of browsers' sessions. Of the session's id only a digest is stored.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::access::{Role, Scope};
use knit_rpc::id::TokenId;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, Write, from_json, int, moment, parsed, to_json};

/// SHA-256 of a session's id.
pub type SessionDigest = [u8; 32];

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    pub digest: SessionDigest,
    pub holder: SessionHolder,
    pub created_at: Timestamp,
    pub used_at: Timestamp,
    pub expires_at: Timestamp,
}

/// For whom a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionHolder {
    /// For whom this token stands, while it does.
    Token(TokenId),
    /// For somebody whom an identity provider vouched for.
    Vouched(Vouched),
}

/// Whom an identity provider vouched for, and what that came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    pub name: String,
    pub role: Role,
    pub scope: Scope,
}

pub async fn put(write: &mut Write, session: &StoredSession) -> Result<(), StoreError> {
    let (token, actor) = match &session.holder {
        SessionHolder::Token(id) => (Some(id.as_str()), None),
        SessionHolder::Vouched(actor) => (None, Some(to_json("session", actor)?)),
    };
    sqlx::query(
        "INSERT INTO sessions (digest, token_id, actor, created_at, used_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(hex::encode(session.digest))
    .bind(token)
    .bind(actor)
    .bind(int(session.created_at.as_millis()))
    .bind(int(session.used_at.as_millis()))
    .bind(int(session.expires_at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn used(
    write: &mut Write,
    digest: &SessionDigest,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET used_at = $2 WHERE digest = $1")
        .bind(hex::encode(digest))
        .bind(int(at.as_millis()))
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove(write: &mut Write, digest: &SessionDigest) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE digest = $1")
        .bind(hex::encode(digest))
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

type Row = (String, Option<String>, Option<String>, i64, i64, i64);

impl Store {
    pub async fn sessions(&self) -> Result<BTreeMap<SessionDigest, StoredSession>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT digest, token_id, actor, created_at, used_at, expires_at FROM sessions",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)?;
        rows.iter().map(|row| session(row).map(|session| (session.digest, session))).collect()
    }
}

fn session(row: &Row) -> Result<StoredSession, StoreError> {
    let (hex, token, actor, created_at, used_at, expires_at) = row;
    let mut digest = [0; 32];
    hex::decode_to_slice(hex, &mut digest)
        .map_err(|source| StoreError::Decode { what: "session", source: Box::new(source) })?;
    let holder = match token {
        Some(id) => SessionHolder::Token(parsed("session", id)?),
        None => SessionHolder::Vouched(from_json("session", actor.as_deref().unwrap_or_default())?),
    };
    let (created_at, used_at, expires_at) =
        (moment(*created_at), moment(*used_at), moment(*expires_at));
    Ok(StoredSession { digest, holder, created_at, used_at, expires_at })
}
