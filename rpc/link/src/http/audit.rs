//! Who did what.

use knit_rpc::audit::{AuditCheck, AuditEntry};

use super::{ApiClient, HttpError};

impl ApiClient {
    /// Entries after this one, the oldest first; one answer holds 1000 at most.
    pub async fn audit(&self, after: u64) -> Result<Vec<AuditEntry>, HttpError> {
        self.get(&format!("/v1/audit?after={after}")).await
    }

    /// Has the server walk the whole chain.
    pub async fn check_audit(&self) -> Result<AuditCheck, HttpError> {
        self.get("/v1/audit/check").await
    }
}
