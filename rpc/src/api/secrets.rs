//! Secrets: values go in, and never come out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroize;

use crate::Timestamp;
use crate::id::{ProjectName, SecretName};

/// Bytes of one secret, at most.
pub const SECRET_BYTES_MAX: usize = 512 * 1024;

/// `PUT /secrets/{name}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewSecret {
    /// In standard base64: any bytes, at most 512 KiB of them.
    pub value: String,
    /// The version that must be the newest (0: there must be none), or somebody was faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl NewSecret {
    pub fn of(value: &[u8], version: Option<u64>) -> Self {
        Self { value: STANDARD.encode(value), version }
    }
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSecret").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Drop for NewSecret {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

/// Answer to `PUT /secrets/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretStored {
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub name: SecretName,
    pub version: u64,
    /// Whether the newest version was of this value already: then nothing was done.
    pub unchanged: bool,
    /// Deployments that roll the change out now.
    pub rolled_out: Vec<String>,
    /// Deployments whose running containers get the new file and a signal.
    pub signalled: Vec<String>,
}

/// A secret as the API shows it: all but its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub name: SecretName,
    /// The newest.
    pub version: u64,
    /// Of its value.
    pub bytes: u64,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[schema(value_type = u64)]
    pub updated_at: Timestamp,
    pub updated_by: String,
    /// Deployments that use it, or would after a rollback.
    pub used_by: Vec<String>,
}

/// One version of a secret, as `GET /secrets/{name}` lists them, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretVersion {
    pub version: u64,
    pub bytes: u64,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    pub created_by: String,
    /// Whether its value is gone for good.
    pub erased: bool,
    /// When its value will be; none for the newest, and for one that was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub erased_at: Option<Timestamp>,
    /// Who still needs it, so that it is not erased.
    pub used_by: Vec<String>,
}
