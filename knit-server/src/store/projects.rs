//! Rows of projects.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::api::ProjectContents;
use knit_rpc::id::ProjectName;
use sqlx::SqliteConnection;

use super::{Store, StoreError, Write, int, moment, parsed};

/// Which number of a project a table's rows are.
type Counted = fn(&mut ProjectContents) -> &mut u64;

/// What the snapshot does not hold, by the table whose column `project` says where it is.
const BESIDE_THE_SNAPSHOT: &[(&str, Counted)] = &[("registries", |found| &mut found.registries)];

/// Stores a project; one that is there stays as it is.
pub async fn put(
    write: &mut Write,
    project: &ProjectName,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO projects (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
    )
    .bind(project.as_str())
    .bind(int(created_at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove(write: &mut Write, project: &ProjectName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM projects WHERE name = $1")
        .bind(project.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

/// Adds what is in a project beside what the snapshot holds.
pub async fn count(
    connection: &mut SqliteConnection,
    project: &ProjectName,
    contents: &mut ProjectContents,
) -> Result<(), StoreError> {
    for (table, counted) in BESIDE_THE_SNAPSHOT {
        let select = format!("SELECT COUNT(*) FROM {table} WHERE project = $1");
        let found: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(select))
            .bind(project.as_str())
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::Read)?;
        *counted(contents) = super::uint(found);
    }
    Ok(())
}

impl Store {
    /// Adds what is in a project beside what the snapshot holds.
    pub async fn count_in_project(
        &self,
        project: &ProjectName,
        contents: &mut ProjectContents,
    ) -> Result<(), StoreError> {
        let mut connection = self.read.acquire().await.map_err(StoreError::Read)?;
        count(&mut connection, project, contents).await
    }

    /// Every project, with the moment that it was made.
    pub async fn projects(&self) -> Result<BTreeMap<ProjectName, Timestamp>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT name, created_at FROM projects")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        rows.into_iter().map(|(name, at)| Ok((parsed("project", &name)?, moment(at)))).collect()
    }
}
