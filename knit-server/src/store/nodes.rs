//! Rows of nodes, and of those that were removed.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::api::Availability;
use knit_rpc::id::NodeId;
use knit_rpc::message::Generation;
use knit_rpc::sealed_box::SealingKey;
use knit_server_core::Node;

use super::{Store, StoreError, Write, from_json, int, moment, parsed, small, to_json, uint};

/// Stores all of a node that outlives the server's life.
pub async fn put(write: &mut Write, node: &Node) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO nodes (id, nkey, facts, subnet, lost, adopting, epoch, counter,
                            published_epoch, published_counter, number, availability,
                            label_changes, rebooted_at, sealing_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (id) DO UPDATE SET
             nkey = excluded.nkey, facts = excluded.facts, subnet = excluded.subnet,
             lost = excluded.lost, adopting = excluded.adopting, epoch = excluded.epoch,
             counter = excluded.counter, published_epoch = excluded.published_epoch,
             published_counter = excluded.published_counter, number = excluded.number,
             availability = excluded.availability, label_changes = excluded.label_changes,
             rebooted_at = excluded.rebooted_at,
             sealing_key = excluded.sealing_key",
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
    .bind(i64::from(node.number))
    .bind(node.availability.as_str())
    .bind(to_json("labels", &node.label_changes)?)
    .bind(node.rebooted_at.map(|at| int(at.as_millis())))
    .bind(node.sealing_key.as_ref().map(SealingKey::as_str))
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

/// Forgets a node and what was decided for it; what remains is `last`, its newest generation.
pub async fn remove(
    write: &mut Write,
    node: &NodeId,
    last: Generation,
    now: Timestamp,
) -> Result<(), StoreError> {
    for statement in ["DELETE FROM instances WHERE node_id = $1", "DELETE FROM nodes WHERE id = $1"]
    {
        sqlx::query(statement)
            .bind(node.as_str())
            .execute(&mut **write)
            .await
            .map_err(StoreError::Write)?;
    }
    sqlx::query(
        "INSERT INTO removed_nodes (id, epoch, counter, removed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET
             epoch = excluded.epoch, counter = excluded.counter, removed_at = excluded.removed_at",
    )
    .bind(node.as_str())
    .bind(int(last.epoch))
    .bind(int(last.counter))
    .bind(int(now.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// A node that was removed is back.
pub async fn welcome_back(write: &mut Write, node: &NodeId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM removed_nodes WHERE id = $1")
        .bind(node.as_str())
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

type Row = (
    String,
    String,
    String,
    Option<String>,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    String,
    String,
    Option<i64>,
    Option<String>,
);

impl Store {
    pub(super) async fn nodes(&self) -> Result<BTreeMap<NodeId, Node>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, nkey, facts, subnet, lost, adopting, epoch, counter, published_epoch,
                    published_counter, number, availability, label_changes, rebooted_at,
                    sealing_key
             FROM nodes",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::Read)?;
        rows.iter().map(|row| node(row).map(|node| (node.id.clone(), node))).collect()
    }

    /// The newest generation of every node that was removed.
    pub async fn removed_nodes(&self) -> Result<BTreeMap<NodeId, Generation>, StoreError> {
        let rows: Vec<(String, i64, i64)> =
            sqlx::query_as("SELECT id, epoch, counter FROM removed_nodes")
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(id, epoch, counter)| {
                let last = Generation { epoch: uint(epoch), counter: uint(counter) };
                Ok((parsed("node", &id)?, last))
            })
            .collect()
    }
}

fn node(row: &Row) -> Result<Node, StoreError> {
    let (id, nkey, facts, subnet, lost, adopting, epoch, counter, published_epoch, published, ..) =
        row;
    let (.., number, availability, label_changes, rebooted_at, sealing_key) = row;
    let mut node = Node::new(parsed("node", id)?, nkey.clone());
    node.facts = from_json("node", facts)?;
    node.subnet = subnet.as_deref().map(|text| parsed("subnet", text)).transpose()?;
    node.lost = *lost != 0;
    node.adopting = *adopting != 0;
    node.generation = Generation { epoch: uint(*epoch), counter: uint(*counter) };
    node.published = Generation { epoch: uint(*published_epoch), counter: uint(*published) };
    node.number = small(*number);
    node.availability = Availability::parse(availability).ok_or_else(|| StoreError::Decode {
        what: "node's availability",
        source: format!("{availability} is none").into(),
    })?;
    node.label_changes = from_json("labels", label_changes)?;
    node.rebooted_at = rebooted_at.map(moment);
    node.sealing_key = sealing_key.clone().map(SealingKey::from);
    Ok(node)
}
