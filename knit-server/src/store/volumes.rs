//! Rows of volumes: where data is.

use std::collections::BTreeMap;

use knit_rpc::spec::VolumeName;
use knit_server_core::snapshot::Volume;

use super::{Store, StoreError, Write, int, moment, parsed};

pub async fn put(write: &mut Write, name: &VolumeName, volume: &Volume) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO volumes (name, node_id, created_at, removing) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET
             node_id = excluded.node_id, created_at = excluded.created_at,
             removing = excluded.removing",
    )
    .bind(name.to_string())
    .bind(volume.node.as_str())
    .bind(int(volume.created_at.as_millis()))
    .bind(i64::from(volume.removing))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

pub async fn remove(write: &mut Write, name: &VolumeName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM volumes WHERE name = $1")
        .bind(name.to_string())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    pub(super) async fn volumes(&self) -> Result<BTreeMap<VolumeName, Volume>, StoreError> {
        let rows: Vec<(String, String, i64, i64)> =
            sqlx::query_as("SELECT name, node_id, created_at, removing FROM volumes")
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(name, node, created_at, removing)| {
                let name = VolumeName::parse(&name).map_err(|problem| StoreError::Decode {
                    what: "volume",
                    source: problem.into(),
                })?;
                let volume = Volume {
                    node: parsed("node", &node)?,
                    created_at: moment(created_at),
                    removing: removing != 0,
                };
                Ok((name, volume))
            })
            .collect()
    }
}
