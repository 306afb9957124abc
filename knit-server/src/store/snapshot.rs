//! Reads everything once, at start; from then on the snapshot in memory leads.

use knit_rpc::Timestamp;
use knit_rpc::id::ClusterId;
use knit_rpc::message::InstanceStatus;
use knit_server_core::Snapshot;
use knit_server_core::observed::Observed;

use super::{Store, StoreError, from_json, parsed};

impl Store {
    /// Reads the cluster as it was stored.
    pub async fn snapshot(
        &self,
        cluster: ClusterId,
        started: Timestamp,
    ) -> Result<Snapshot, StoreError> {
        let mut deployments = self.deployments().await?;
        for rollout in deployments.values_mut().filter_map(|one| one.rollout.as_mut()) {
            // Nobody saw whether it came forward while there was no server.
            rollout.progress_at = rollout.progress_at.max(started);
        }
        Ok(Snapshot {
            epoch: self.epoch().await?,
            nodes: self.nodes().await?,
            deployments,
            removed: self.removed_deployments().await?,
            specs: self.specs().await?,
            instances: self.instances().await?,
            observed: self.observed().await?,
            volumes: self.volumes().await?,
            networks: self.networks().await?,
            secrets: self.secrets().await?,
            ..Snapshot::empty(cluster, started)
        })
    }

    /// The epoch that this server is in.
    pub async fn epoch(&self) -> Result<u64, StoreError> {
        let found: Option<String> =
            sqlx::query_scalar("SELECT value FROM meta WHERE key = 'epoch'")
                .fetch_optional(&self.read)
                .await
                .map_err(StoreError::Read)?;
        found.map_or(Ok(0), |text| parsed("epoch", &text))
    }

    async fn observed(&self) -> Result<Observed, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT node_id, status FROM observed")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::Read)?;
        let mut found = Observed::default();
        for (node, status) in rows {
            let status: InstanceStatus = from_json("report", &status)?;
            found.put(&parsed("node", &node)?, status);
        }
        Ok(found)
    }
}
