//! Rows of networks that users made.

use std::collections::BTreeMap;

use knit_rpc::id::ProjectName;
use knit_rpc::message::NetworkSpec;
use knit_server_core::snapshot::Network;

use super::{Store, StoreError, Write, from_json, int, moment, to_json};

pub async fn put(write: &mut Write, network: &Network) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO networks (project, name, spec, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (project, name) DO UPDATE SET
             spec = excluded.spec, created_at = excluded.created_at",
    )
    .bind(network.spec.project.as_str())
    .bind(&network.spec.name)
    .bind(to_json("network", &network.spec)?)
    .bind(int(network.created_at.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove(
    write: &mut Write,
    project: &ProjectName,
    name: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM networks WHERE project = $1 AND name = $2")
        .bind(project.as_str())
        .bind(name)
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    pub(super) async fn networks(
        &self,
    ) -> Result<BTreeMap<(ProjectName, String), Network>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT spec, created_at FROM networks")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(spec, created_at)| {
                let spec: NetworkSpec = from_json("network", &spec)?;
                let key = (spec.project.clone(), spec.name.clone());
                Ok((key, Network { spec, created_at: moment(created_at) }))
            })
            .collect()
    }
}
