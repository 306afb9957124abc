//! Rows of what nodes said about their instances.

use std::collections::BTreeMap;

use knit_rpc::id::{InstanceId, NodeId};
use knit_rpc::message::InstanceStatus;

use super::{Store, StoreError, Write, nodes, parsed, to_json, uint};

/// The newest report of a node that was stored: (agent start, sequence).
pub type StoredReport = (u64, u64);

/// Replaces all that is known of a node by `statuses`.
pub async fn replace(
    write: &mut Write,
    node: &NodeId,
    statuses: &BTreeMap<InstanceId, InstanceStatus>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM observed WHERE node_id = $1")
        .bind(node.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    for status in statuses.values() {
        put(write, node, status).await?;
    }
    Ok(())
}

/// Stores what a node said of one instance.
pub async fn put(
    write: &mut Write,
    node: &NodeId,
    status: &InstanceStatus,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO observed (node_id, instance_id, status) VALUES ($1, $2, $3)
         ON CONFLICT (node_id, instance_id) DO UPDATE SET status = excluded.status",
    )
    .bind(node.as_str())
    .bind(status.id.as_str())
    .bind(to_json("report", status)?)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets an instance that is gone from its node.
pub async fn remove(
    write: &mut Write,
    node: &NodeId,
    instance: &InstanceId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM observed WHERE node_id = $1 AND instance_id = $2")
        .bind(node.as_str())
        .bind(instance.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

/// Remembers which report was stored last.
pub async fn set_last(
    write: &mut Write,
    node: &NodeId,
    last: StoredReport,
) -> Result<(), StoreError> {
    nodes::set_report(write, node, last.0, last.1).await
}

impl Store {
    /// The newest stored report of every node.
    pub async fn last_reports(&self) -> Result<BTreeMap<NodeId, StoredReport>, StoreError> {
        let rows: Vec<(String, i64, i64)> =
            sqlx::query_as("SELECT id, report_start, report_sequence FROM nodes")
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(id, start, sequence)| Ok((parsed("node", &id)?, (uint(start), uint(sequence)))))
            .collect()
    }
}
