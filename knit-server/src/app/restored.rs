//! The first start on a restored backup.
//!
//! Invariant: nothing is decided for a node before it showed what it holds, or said that it holds
//! nothing newer than the backup.

use knit_rpc::Timestamp;
use knit_rpc::audit::{AuditEntry, AuditFact, BEGINNING};

use crate::store::{self, Store, StoreError};

/// Has a restore take effect, once.
pub(super) async fn begin(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let Some(restored) = store.restored().await? else { return Ok(()) };
    let last = store.audit_head().await?;
    let (sequence, head) =
        last.map_or((0, BEGINNING.to_owned()), |entry| (entry.sequence, entry.hash));
    let taken_at = utc(restored.taken_at);
    let entry = AuditEntry::following(
        sequence,
        &head,
        AuditFact {
            at: now,
            actor: "knit-server restore".to_owned(),
            origin: "the server's host".to_owned(),
            action: "restored".to_owned(),
            subject: format!("from the backup of {taken_at}; what was written down since is lost"),
            status: 200,
            request_id: String::new(),
        },
    );
    let epoch = store.epoch().await?.saturating_add(1);
    let mut write = store.begin().await?;
    store::set_epoch(&mut write, epoch).await?;
    store::restored::take_effect(&mut write).await?;
    store::audit::append(&mut write, &entry).await?;
    store::commit(write).await?;
    tracing::warn!(
        %taken_at, epoch,
        "starting on a restored backup: every node shows what it holds before anything is decided \
         for it"
    );
    Ok(())
}

/// A moment as people read it.
pub(crate) fn utc(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or_default();
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| at.as_millis().to_string(), |at| at.strftime("%F %T UTC").to_string())
}
