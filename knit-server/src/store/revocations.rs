//! Rows of nodes' keys whose NATS tokens are refused.

use knit_rpc::message::Generation;
use knit_server_core::revocation::{Revocation, Revocations};

use super::{Store, StoreError, Write, int, moment, parsed, uint};

pub async fn put(write: &mut Write, nkey: &str, one: &Revocation) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revocations (nkey, node_id, until, at, epoch, counter)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (nkey) DO UPDATE SET
             node_id = excluded.node_id, until = excluded.until, at = excluded.at,
             epoch = excluded.epoch, counter = excluded.counter",
    )
    .bind(nkey)
    .bind(one.node.as_str())
    .bind(int(one.until))
    .bind(int(one.at.as_millis()))
    .bind(int(one.last.epoch))
    .bind(int(one.last.counter))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

/// Forgets a revocation that refuses nothing any more.
pub async fn remove(write: &mut Write, nkey: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM revocations WHERE nkey = $1")
        .bind(nkey)
        .execute(&mut **write)
        .await
        .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    pub async fn revocations(&self) -> Result<Revocations, StoreError> {
        let rows: Vec<(String, String, i64, i64, i64, i64)> =
            sqlx::query_as("SELECT nkey, node_id, until, at, epoch, counter FROM revocations")
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.into_iter()
            .map(|(nkey, node, until, at, epoch, counter)| {
                let revocation = Revocation {
                    node: parsed("node", &node)?,
                    until: uint(until),
                    at: moment(at),
                    last: Generation { epoch: uint(epoch), counter: uint(counter) },
                    // Whoever was to hear of it in time has had the time: it asks from now on.
                    taken: true,
                };
                Ok((nkey, revocation))
            })
            .collect()
    }
}
