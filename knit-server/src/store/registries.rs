//! Rows of registries: passwords are sealed by the vault.

use knit_rpc::Timestamp;
use knit_rpc::api::RegistryView;
use knit_rpc::id::ProjectName;

use super::{Store, StoreError, Write, int, moment, parsed};
use crate::vault::Sealed;

/// A registry as it is stored.
#[derive(Debug, Clone)]
pub struct StoredRegistry {
    pub project: ProjectName,
    pub host: String,
    pub username: String,
    pub password: Sealed,
    pub ca: Option<String>,
    pub insecure: bool,
    pub changed_by: String,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

type Row = (String, String, String, String, Option<String>, i64, String, i64, i64);

/// Stores a registry; one that was there keeps the moment when it was first made.
pub async fn put(write: &mut Write, one: &StoredRegistry) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO registries
             (project, host, username, password, ca, insecure, changed_by, created_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (project, host) DO UPDATE SET
             username = excluded.username, password = excluded.password, ca = excluded.ca,
             insecure = excluded.insecure, changed_by = excluded.changed_by,
             changed_at = excluded.changed_at",
    )
    .bind(one.project.as_str())
    .bind(&one.host)
    .bind(&one.username)
    .bind(one.password.as_str())
    .bind(&one.ca)
    .bind(i64::from(one.insecure))
    .bind(&one.changed_by)
    .bind(int(one.created_at.as_millis()))
    .bind(int(one.changed_at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets a registry; whether there was one.
pub async fn remove(
    write: &mut Write,
    project: &ProjectName,
    host: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM registries WHERE project = $1 AND host = $2")
        .bind(project.as_str())
        .bind(host)
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(done.rows_affected() > 0)
}

impl Store {
    /// All registries, by project and host.
    pub async fn registries(&self) -> Result<Vec<StoredRegistry>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT project, host, username, password, ca, insecure, changed_by, created_at,
                    changed_at
             FROM registries ORDER BY project, host",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)?;
        rows.into_iter().map(read).collect()
    }

    pub async fn registry(
        &self,
        project: &ProjectName,
        host: &str,
    ) -> Result<Option<StoredRegistry>, StoreError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT project, host, username, password, ca, insecure, changed_by, created_at,
                    changed_at
             FROM registries WHERE project = $1 AND host = $2",
        )
        .bind(project.as_str())
        .bind(host)
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::Read)?;
        row.map(read).transpose()
    }
}

fn read(row: Row) -> Result<StoredRegistry, StoreError> {
    let (project, host, username, password, ca, insecure, changed_by, created_at, changed_at) = row;
    Ok(StoredRegistry {
        project: parsed("project", &project)?,
        host,
        username,
        password: Sealed::from_stored(password),
        ca,
        insecure: insecure != 0,
        changed_by,
        created_at: moment(created_at),
        changed_at: moment(changed_at),
    })
}

impl StoredRegistry {
    pub fn view(&self) -> RegistryView {
        RegistryView {
            project: self.project.clone(),
            host: self.host.clone(),
            username: self.username.clone(),
            own_ca: self.ca.is_some(),
            insecure: self.insecure,
            created_at: self.created_at,
            changed_at: self.changed_at,
            changed_by: self.changed_by.clone(),
        }
    }
}
