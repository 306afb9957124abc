//! Rows of deployments that files on this host declare.

use std::collections::BTreeMap;

use knit_rpc::id::{DeploymentName, ProjectName};

use super::{Store, StoreError, Write, parsed};

/// A deployment's project and name.
pub type Named = (ProjectName, DeploymentName);

/// Stores which file declared a deployment last.
pub async fn put(write: &mut Write, named: &Named, file: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO declared (project, name, file) VALUES ($1, $2, $3)
         ON CONFLICT (project, name) DO UPDATE SET file = excluded.file",
    )
    .bind(named.0.as_str())
    .bind(named.1.as_str())
    .bind(file)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove(write: &mut Write, named: &Named) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM declared WHERE project = $1 AND name = $2")
        .bind(named.0.as_str())
        .bind(named.1.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    /// What was declared, each with the file that said so last.
    pub async fn declared(&self) -> Result<BTreeMap<Named, String>, StoreError> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT project, name, file FROM declared")
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(project, name, file)| {
                Ok(((parsed("project", &project)?, parsed("deployment", &name)?), file))
            })
            .collect()
    }
}
