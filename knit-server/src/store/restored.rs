//! What follows from having been set back, all in one write.

use super::{Store, StoreError, Write, copy, from_json};
pub use copy::Restored;

/// Every node has to show what it holds; join tokens and sessions are worth nothing any more, because
/// some of them may have been spent or ended since; the mark goes.
pub async fn take_effect(write: &mut Write) -> Result<(), StoreError> {
    for statement in [
        "UPDATE nodes SET adopting = 1",
        "DELETE FROM join_tokens",
        "DELETE FROM sessions",
        "DELETE FROM meta WHERE key = 'restored'",
    ] {
        sqlx::query(statement).execute(&mut **write).await.map_err(StoreError::Write)?;
    }
    Ok(())
}

impl Store {
    /// The mark of a restore, until it took effect.
    pub async fn restored(&self) -> Result<Option<Restored>, StoreError> {
        let row: Option<String> = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1")
            .bind(copy::RESTORED)
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::Read)?;
        row.map(|text| from_json("mark of a restore", &text)).transpose()
    }
}
