//! Rows of join tokens, and of hosts that were rejected.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::id::NodeId;

use super::{Store, StoreError, Write, from_json, int, moment, parsed, to_json};

/// A join token as it is stored: nobody can join with this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJoinToken {
    /// Its public half (an nkey, `U…`).
    pub public_key: String,
    pub labels: BTreeMap<String, String>,
    pub wg_pubkey: Option<String>,
    pub created_by: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

pub async fn put(write: &mut Write, token: &StoredJoinToken) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO join_tokens
             (public_key, labels, wg_pubkey, created_by, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&token.public_key)
    .bind(to_json("join token", &token.labels)?)
    .bind(&token.wg_pubkey)
    .bind(&token.created_by)
    .bind(int(token.created_at.as_millis()))
    .bind(int(token.expires_at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Makes a token worth nothing; returns whether it was worth something.
pub async fn spend(write: &mut Write, public_key: &str) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM join_tokens WHERE public_key = $1")
        .bind(public_key)
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(done.rows_affected() > 0)
}

/// Forgets tokens that expired before this.
pub async fn forget_expired(write: &mut Write, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM join_tokens WHERE expires_at < $1")
        .bind(int(before.as_millis()))
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn reject(
    write: &mut Write,
    node: &NodeId,
    by: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rejected_nodes (id, rejected_by, rejected_at) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(node.as_str())
    .bind(by)
    .bind(int(at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Takes a rejection back.
pub async fn forgive(write: &mut Write, node: &NodeId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM rejected_nodes WHERE id = $1")
        .bind(node.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    /// The token with this public half, if it was made and not spent.
    pub async fn join_token(
        &self,
        public_key: &str,
    ) -> Result<Option<StoredJoinToken>, StoreError> {
        let row: Option<(String, Option<String>, String, i64, i64)> = sqlx::query_as(
            "SELECT labels, wg_pubkey, created_by, created_at, expires_at
             FROM join_tokens WHERE public_key = $1",
        )
        .bind(public_key)
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::Read)?;
        row.map(|(labels, wg_pubkey, created_by, created_at, expires_at)| {
            Ok(StoredJoinToken {
                public_key: public_key.to_owned(),
                labels: from_json("join token", &labels)?,
                wg_pubkey,
                created_by,
                created_at: moment(created_at),
                expires_at: moment(expires_at),
            })
        })
        .transpose()
    }

    pub async fn rejected_nodes(&self) -> Result<BTreeSet<NodeId>, StoreError> {
        let rows: Vec<String> = sqlx::query_scalar("SELECT id FROM rejected_nodes")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        rows.iter().map(|id| parsed("rejected node", id)).collect()
    }
}
