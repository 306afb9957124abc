//! What survives a restart: SQLite through sqlx.
//!
//! ```text
//! write pool: 1 connection, BEGIN IMMEDIATE          read pool: N connections, read-only
//! ```
//!
//! Invariant: outside `open` all SQL is text that PostgreSQL runs as well (`$1`, `ON CONFLICT`,
//! `RETURNING`).

pub mod audit;
pub mod copy;
pub mod declared;
pub mod deployments;
pub mod joining;
pub mod networks;
pub mod nodes;
pub mod projects;
pub mod registries;
pub mod reports;
pub mod restored;
pub mod revocations;
pub mod secrets;
pub mod sessions;
mod snapshot;
pub mod tokens;
pub mod vault;
pub mod volumes;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::ClusterId;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqlitePool, Transaction};

pub use reports::StoredReport;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// How long a statement waits for the other connections.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {} cannot be opened", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error(
        "the database {} is damaged: restore a backup, or move the file away and start again: the \
         server then takes in what its agents run",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error(
        "the database {} was written by a newer knit-server (its schema is at {version}, this \
         program knows {known}): install that version, or restore a backup from before the upgrade",
        path.display()
    )]
    Newer { path: PathBuf, version: i64, known: i64 },
    #[error("the database {} cannot be brought up to date", path.display())]
    Migrate { path: PathBuf, source: MigrateError },
    #[error(
        "the database {} belongs to cluster {found}, the identity file to cluster {expected}: put \
         the right pair together, or move the database away",
        path.display()
    )]
    Cluster { path: PathBuf, found: String, expected: ClusterId },
    #[error("reading from the database failed")]
    Read(#[source] sqlx::Error),
    #[error("writing to the database failed")]
    Write(#[source] sqlx::Error),
    #[error("the database holds a {what} that cannot be read")]
    Decode {
        what: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// SQLite's code for a disk that has no room left.
const SQLITE_FULL: &str = "13";

impl StoreError {
    /// Whether it could not be written for want of room.
    pub fn is_disk_full(&self) -> bool {
        let (Self::Write(source) | Self::Read(source)) = self else { return false };
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| code == SQLITE_FULL)
    }
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    write: SqlitePool,
    read: SqlitePool,
}

/// One write: all of it or nothing.
pub type Write = Transaction<'static, Sqlite>;

impl Store {
    /// Opens the database of a cluster, makes it when there is none, brings it up to date.
    pub async fn open(path: &Path, cluster: &ClusterId) -> Result<Self, StoreError> {
        let open = |source| open_error(path, source);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            // What was erased is gone from the file as well.
            .pragma("secure_delete", "ON")
            .optimize_on_close(true, 400);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            // A full disk ends a transaction behind sqlx' back, which then takes the connection to
            // be within one for ever.
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(options.clone())
            .await
            .map_err(open)?;
        check(path, &write).await?;
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(open)?;
        let store = Self { write, read };
        store.prepare(path, cluster).await?;
        Ok(store)
    }

    /// A database in memory, for tests.
    pub async fn in_memory(cluster: &ClusterId) -> Result<Self, StoreError> {
        let path = Path::new(":memory:");
        let options = SqliteConnectOptions::from_str("sqlite::memory:")
            .map_err(StoreError::Read)?
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|source| open_error(path, source))?;
        let store = Self { write: pool.clone(), read: pool };
        store.prepare(path, cluster).await?;
        Ok(store)
    }

    async fn prepare(&self, path: &Path, cluster: &ClusterId) -> Result<(), StoreError> {
        MIGRATIONS.run(&self.write).await.map_err(|source| migrate_error(path, source))?;
        sqlx::query("INSERT INTO meta (key, value) VALUES ('cluster', $1) ON CONFLICT DO NOTHING")
            .bind(cluster.as_str())
            .execute(&self.write)
            .await
            .map_err(StoreError::Write)?;
        let found: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'cluster'")
            .fetch_one(&self.write)
            .await
            .map_err(StoreError::Read)?;
        if found != cluster.as_str() {
            let path = path.to_owned();
            return Err(StoreError::Cluster { path, found, expected: cluster.clone() });
        }
        Ok(())
    }

    /// Begins a write; nothing is stored before it is committed.
    pub async fn begin(&self) -> Result<Write, StoreError> {
        self.write.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::Write)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _: i64 =
            sqlx::query_scalar("SELECT 1").fetch_one(&self.read).await.map_err(StoreError::Read)?;
        Ok(())
    }

    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// Commits a write.
pub async fn commit(write: Write) -> Result<(), StoreError> {
    write.commit().await.map_err(StoreError::Write)
}

/// Stores the epoch.
pub async fn set_epoch(write: &mut Write, epoch: u64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('epoch', $1)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .bind(epoch.to_string())
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

async fn check(path: &Path, pool: &SqlitePool) -> Result<(), StoreError> {
    let answer: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await
        .map_err(|source| open_error(path, source))?;
    if answer == "ok" {
        return Ok(());
    }
    let source = sqlx::Error::Protocol(answer);
    Err(StoreError::Damaged { path: path.to_owned(), source })
}

fn open_error(path: &Path, source: sqlx::Error) -> StoreError {
    const CORRUPT: &str = "11";
    const NOT_A_DATABASE: &str = "26";
    let code =
        source.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    let path = path.to_owned();
    if code == CORRUPT || code == NOT_A_DATABASE {
        StoreError::Damaged { path, source }
    } else {
        StoreError::Open { path, source }
    }
}

fn migrate_error(path: &Path, source: MigrateError) -> StoreError {
    let path = path.to_owned();
    if let MigrateError::VersionMissing(version) = source {
        return StoreError::Newer { path, version, known: copy::known_schema() };
    }
    if let MigrateError::Execute(error) = source {
        return open_error(&path, error);
    }
    StoreError::Migrate { path, source }
}

/// SQL integers are signed.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(uint(millis))
}

fn small(value: i64) -> u32 {
    u32::try_from(value).unwrap_or_default()
}

fn parsed<T: FromStr>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|source| StoreError::Decode { what, source: Box::new(source) })
}

fn from_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|source| StoreError::Decode { what, source: Box::new(source) })
}

fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|source| StoreError::Decode { what, source: Box::new(source) })
}
