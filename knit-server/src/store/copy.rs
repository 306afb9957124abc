//! Copies of a database: taken under a running server, looked at, and marked as restored.
//!
//! Invariant: a copy is one moment of the database, whatever is written meanwhile, and nobody's
//! schema is changed by looking at it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use knit_rpc::Timestamp;

use super::{BUSY_TIMEOUT, MIGRATIONS, StoreError, open_error};
use crate::vault::Sealed;

/// The key of the mark that a restore leaves.
pub(super) const RESTORED: &str = "restored";

/// What a copy is of.
#[derive(Debug, Clone)]
pub struct Facts {
    pub cluster: String,
    /// The newest migration that it has.
    pub schema: i64,
    pub deployments: u64,
    pub instances: u64,
    pub nodes: u64,
    /// The vault's data key; none while nothing was ever sealed.
    pub sealed: Option<Sealed>,
}

/// What a restore tells the server that starts on what it restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub taken_at: Timestamp,
    pub restored_at: Timestamp,
}

/// The newest migration that this program knows.
pub fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Copies the database as it is at one moment into a file that is empty.
pub async fn take(database: &Path, into: &Path) -> Result<(), StoreError> {
    let mut connection = open(database).await?;
    let taken = sqlx::query("VACUUM INTO $1")
        .bind(into.to_string_lossy())
        .execute(&mut connection)
        .await
        .map_err(StoreError::Read);
    close(connection).await?;
    taken.map(drop)
}

/// Checks a copy, and says what it is of.
pub async fn look(copy: &Path) -> Result<Facts, StoreError> {
    let mut connection = open(copy).await?;
    let facts = facts(copy, &mut connection).await;
    close(connection).await?;
    facts
}

/// Marks a copy: the server that starts on it was set back.
pub async fn mark_restored(copy: &Path, restored: Restored) -> Result<(), StoreError> {
    let mut connection = open(copy).await?;
    let marked = sqlx::query(
        "INSERT INTO meta (key, value) VALUES ($1, $2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(RESTORED)
    .bind(super::to_json("mark of a restore", &restored)?)
    .execute(&mut connection)
    .await
    .map_err(StoreError::Write);
    close(connection).await?;
    marked.map(drop)
}

async fn facts(path: &Path, connection: &mut SqliteConnection) -> Result<Facts, StoreError> {
    let answer: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *connection)
        .await
        .map_err(|source| open_error(path, source))?;
    if answer != "ok" {
        let source = sqlx::Error::Protocol(answer);
        return Err(StoreError::Damaged { path: path.to_owned(), source });
    }
    let cluster: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'cluster'")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::Read)?;
    let schema: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::Read)?;
    let live = "SELECT COUNT(*) FROM deployments WHERE removed_at IS NULL";
    Ok(Facts {
        cluster,
        schema,
        deployments: count(connection, live).await?,
        instances: count(connection, "SELECT COUNT(*) FROM instances").await?,
        nodes: count(connection, "SELECT COUNT(*) FROM nodes").await?,
        sealed: sealed(connection).await?,
    })
}

async fn count(connection: &mut SqliteConnection, query: &'static str) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar(query).fetch_one(connection).await.map_err(StoreError::Read)?;
    Ok(super::uint(count))
}

/// Older schemas have no vault.
async fn sealed(connection: &mut SqliteConnection) -> Result<Option<Sealed>, StoreError> {
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'vault'";
    if count(connection, tables).await? == 0 {
        return Ok(None);
    }
    let row: Option<String> = sqlx::query_scalar("SELECT sealed_key FROM vault WHERE id = 1")
        .fetch_optional(connection)
        .await
        .map_err(StoreError::Read)?;
    Ok(row.map(Sealed::from_stored))
}

async fn open(path: &Path) -> Result<SqliteConnection, StoreError> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .connect()
        .await
        .map_err(|source| open_error(path, source))
}

async fn close(connection: SqliteConnection) -> Result<(), StoreError> {
    connection.close().await.map_err(StoreError::Read)
}
