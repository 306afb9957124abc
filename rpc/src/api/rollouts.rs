//! What became of each revision, and what people do about it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::SecretName;
use crate::spec::DeploymentSpec;

/// A rollout as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// Where it leads.
    pub revision: u64,
    /// The stable revision that it started from.
    pub from: Option<u64>,
    pub cause: Cause,
    pub state: RolloutState,
    /// Why it paused, failed or was rolled back; what it waits for while it runs.
    pub message: Option<String>,
    /// The last lines of the instance that failed.
    pub log: Vec<String>,
    /// Slots that were let change so far, and how many of them are healthy at its revision.
    pub admitted: u32,
    pub healthy: u32,
    /// Slots in all.
    pub slots: u32,
    /// What differs from what the manifest may lead one to expect: for example that a volume
    /// forces stop-first.
    pub notes: Vec<String>,
    #[schema(value_type = u64)]
    pub started_at: Timestamp,
    #[schema(value_type = Option<u64>)]
    pub ended_at: Option<Timestamp>,
}

/// Where a rollout stands; the last four are its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    Running,
    /// Waits for `knit rollout resume`, `promote` or `abort`.
    Paused,
    Succeeded,
    /// Given up; a later revision brought the stable one back.
    RolledBack,
    /// Given up, and there was nothing to go back to.
    Failed,
    /// A later revision took its place before it ended.
    Superseded,
}

impl RolloutState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Paused,
            Self::Succeeded,
            Self::RolledBack,
            Self::Failed,
            Self::Superseded,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    pub fn is_end(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }
}

/// Why there is a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Cause {
    Deploy,
    Scale,
    Restart,
    /// `to` is the revision whose spec it repeats; `of` the one that was given up.
    Rollback {
        to: u64,
        of: u64,
        automatic: bool,
    },
    /// A secret has a new version.
    Secret {
        #[schema(value_type = String)]
        name: SecretName,
        version: u64,
    },
}

/// One revision, as `GET /deployments/{name}/history` lists them, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionView {
    pub revision: u64,
    pub cause: Cause,
    pub state: RolloutState,
    pub message: Option<String>,
    pub log: Vec<String>,
    pub image: String,
    pub replicas: u32,
    /// Whether it is the one that a rollback leads to.
    pub stable: bool,
    /// Keys that differ from the revision before.
    pub changed: Vec<String>,
    pub spec: DeploymentSpec,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<u64>)]
    pub ended_at: Option<Timestamp>,
}

/// `POST /deployments/{name}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RollbackRequest {
    /// The last stable revision before the present one when absent.
    #[serde(default)]
    pub to: Option<u64>,
}

/// `POST /deployments/{name}/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleRequest {
    pub replicas: u32,
}
