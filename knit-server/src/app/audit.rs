//! Who did what.

use knit_rpc::audit::{AuditCheck, AuditEntry, AuditFact, BEGINNING, PAGE_MAX};
use tokio::sync::Mutex;

use super::App;
use crate::store::{self, StoreError};

/// The end of the chain.
pub(super) struct Audit {
    head: Mutex<(u64, String)>,
}

impl Audit {
    pub(super) fn behind(last: Option<AuditEntry>) -> Self {
        let head = last.map_or((0, BEGINNING.to_owned()), |entry| (entry.sequence, entry.hash));
        Self { head: Mutex::new(head) }
    }
}

impl App {
    /// Adds to the audit. What has been done has been done: an entry that cannot be stored is said
    /// in the log, which then is the only place that knows of it.
    pub async fn note(&self, fact: AuditFact) {
        let (actor, action) = (fact.actor.clone(), fact.action.clone());
        if let Err(error) = self.append(fact).await {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, actor, action, "the audit could not be written");
        }
    }

    async fn append(&self, fact: AuditFact) -> Result<(), StoreError> {
        let mut head = self.audit.head.lock().await;
        let entry = AuditEntry::following(head.0, &head.1, fact);
        let mut write = self.store.begin().await?;
        store::audit::append(&mut write, &entry).await?;
        store::commit(write).await?;
        *head = (entry.sequence, entry.hash);
        Ok(())
    }

    /// Entries after this one, the oldest first.
    pub async fn audit_after(
        &self,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.store.audit_after(sequence, limit.min(PAGE_MAX)).await
    }

    /// Walks the whole chain.
    pub async fn check_audit(&self) -> Result<AuditCheck, StoreError> {
        let (mut sequence, mut head) = (0, BEGINNING.to_owned());
        loop {
            let page = self.store.audit_after(sequence, PAGE_MAX).await?;
            if page.is_empty() {
                return Ok(AuditCheck { entries: sequence, head, broken: None });
            }
            for entry in page {
                if let Some(problem) = entry.problem_after(sequence, &head) {
                    return Ok(AuditCheck { entries: sequence, head, broken: Some(problem) });
                }
                (sequence, head) = (entry.sequence, entry.hash);
            }
        }
    }
}
