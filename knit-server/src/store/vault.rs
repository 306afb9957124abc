//! The row of the vault: its data key, sealed.

use knit_rpc::Timestamp;

use super::{Store, StoreError, Write, int};
use crate::vault::Sealed;

/// Stores the data key as it is sealed now.
pub async fn put(write: &mut Write, sealed: &Sealed, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO vault (id, sealed_key, created_at, sealed_at) VALUES (1, $1, $2, $2)
         ON CONFLICT (id) DO UPDATE SET
             sealed_key = excluded.sealed_key, sealed_at = excluded.sealed_at",
    )
    .bind(sealed.as_str())
    .bind(int(now.as_millis()))
    .execute(&mut **write)
    .await
    .map_err(StoreError::Write)?;
    Ok(())
}

impl Store {
    pub async fn sealed_data_key(&self) -> Result<Option<Sealed>, StoreError> {
        let row: Option<String> = sqlx::query_scalar("SELECT sealed_key FROM vault WHERE id = 1")
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::Read)?;
        Ok(row.map(Sealed::from_stored))
    }
}
