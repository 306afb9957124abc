//! Rows of the audit.

use knit_rpc::audit::AuditEntry;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Write, int, moment, uint};

pub async fn append(write: &mut Write, entry: &AuditEntry) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit
             (sequence, at, actor, origin, action, subject, status, request_id, previous, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(int(entry.sequence))
    .bind(int(entry.at.as_millis()))
    .bind(&entry.actor)
    .bind(&entry.origin)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(i64::from(entry.status))
    .bind(&entry.request_id)
    .bind(&entry.previous)
    .bind(&entry.hash)
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    /// The entries after this one, in order.
    pub async fn audit_after(
        &self,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2")
                .bind(int(sequence))
                .bind(i64::from(limit))
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::Read)?;
        rows.iter().map(entry).collect()
    }

    /// The last entry.
    pub async fn audit_head(&self) -> Result<Option<AuditEntry>, StoreError> {
        let row = sqlx::query("SELECT * FROM audit ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::Read)?;
        row.as_ref().map(entry).transpose()
    }
}

fn entry(row: &SqliteRow) -> Result<AuditEntry, StoreError> {
    let text = |column| row.try_get::<String, _>(column).map_err(StoreError::Read);
    let number = |column| row.try_get::<i64, _>(column).map_err(StoreError::Read);
    Ok(AuditEntry {
        sequence: uint(number("sequence")?),
        at: moment(number("at")?),
        actor: text("actor")?,
        origin: text("origin")?,
        action: text("action")?,
        subject: text("subject")?,
        status: u16::try_from(number("status")?).unwrap_or_default(),
        request_id: text("request_id")?,
        previous: text("previous")?,
        hash: text("hash")?,
    })
}
