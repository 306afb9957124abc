//! Rows of API tokens. Of the secret only a digest is stored.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::access::TokenView;
use knit_rpc::id::TokenId;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Write, from_json, int, moment, parsed, to_json};

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    pub view: TokenView,
    /// SHA-256 of the whole token.
    pub digest: [u8; 32],
}

pub async fn put(write: &mut Write, token: &StoredToken) -> Result<(), StoreError> {
    let view = &token.view;
    let projects = view.projects.as_ref().map(|projects| to_json("token", projects)).transpose()?;
    sqlx::query(
        "INSERT INTO tokens
             (id, name, digest, role, projects, created_by, created_at, expires_at, last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(view.id.as_str())
    .bind(&view.name)
    .bind(hex::encode(token.digest))
    .bind(view.role.as_str())
    .bind(projects)
    .bind(&view.created_by)
    .bind(int(view.created_at.as_millis()))
    .bind(view.expires_at.map(|at| int(at.as_millis())))
    .bind(view.last_used_at.map(|at| int(at.as_millis())))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn used(write: &mut Write, id: &TokenId, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE tokens SET last_used_at = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(int(at.as_millis()))
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove(write: &mut Write, id: &TokenId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM tokens WHERE id = $1")
        .bind(id.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    pub async fn tokens(&self) -> Result<BTreeMap<TokenId, StoredToken>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tokens")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        rows.iter().map(|row| token(row).map(|token| (token.view.id.clone(), token))).collect()
    }
}

fn token(row: &SqliteRow) -> Result<StoredToken, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::Read);
    let at = |column| {
        let millis = row.try_get::<Option<i64>, _>(column).map_err(StoreError::Read)?;
        Ok::<_, StoreError>(millis.map(moment))
    };
    let projects: Option<String> = row.try_get("projects").map_err(StoreError::Read)?;
    let mut digest = [0; 32];
    hex::decode_to_slice(text("digest")?, &mut digest)
        .map_err(|source| StoreError::Decode { what: "token", source: Box::new(source) })?;
    let view = TokenView {
        id: parsed("token", &text("id")?)?,
        name: text("name")?,
        role: parsed("token", &text("role")?)?,
        projects: projects.map(|json| from_json("token", &json)).transpose()?,
        created_by: text("created_by")?,
        created_at: moment(row.try_get("created_at").map_err(StoreError::Read)?),
        expires_at: at("expires_at")?,
        last_used_at: at("last_used_at")?,
    };
    Ok(StoredToken { view, digest })
}
