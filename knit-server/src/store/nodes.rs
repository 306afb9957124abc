//! Rows of nodes.

use knit_rpc::id::NodeId;
use knit_server_core::Node;

use super::{StoreError, Write, int, to_json};

/// Stores all of a node that outlives the server's life.
pub async fn put(write: &mut Write, node: &Node) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO nodes (id, nkey, facts, subnet, lost, adopting, epoch, counter,
                            published_epoch, published_counter)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (id) DO UPDATE SET
             nkey = excluded.nkey, facts = excluded.facts, subnet = excluded.subnet,
             lost = excluded.lost, adopting = excluded.adopting, epoch = excluded.epoch,
             counter = excluded.counter, published_epoch = excluded.published_epoch,
             published_counter = excluded.published_counter",
    )
    .bind(node.id.as_str())
    .bind(&node.nkey)
    .bind(to_json("node", &node.facts)?)
    .bind(node.subnet.map(|subnet| subnet.to_string()))
    .bind(i64::from(node.lost))
    .bind(i64::from(node.adopting))
    .bind(int(node.generation.epoch))
    .bind(int(node.generation.counter))
    .bind(int(node.published.epoch))
    .bind(int(node.published.counter))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Remembers which report of the node was stored last.
pub async fn set_report(
    write: &mut Write,
    node: &NodeId,
    agent_start: u64,
    sequence: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE nodes SET report_start = $2, report_sequence = $3 WHERE id = $1")
        .bind(node.as_str())
        .bind(int(agent_start))
        .bind(int(sequence))
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}
