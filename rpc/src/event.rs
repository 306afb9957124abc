//! What happened in a cluster, as `GET /events` streams it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::id::{DeploymentName, InstanceId, NodeId, ProjectName};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event of a server's life; the `id:` of the SSE stream.
    pub sequence: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventKind {
    DeploymentChanged {
        project: ProjectName,
        deployment: DeploymentName,
        revision: u64,
    },
    DeploymentRemoved {
        project: ProjectName,
        deployment: DeploymentName,
    },
    /// A rollout began, paused, went on or ended.
    RolloutChanged {
        project: ProjectName,
        deployment: DeploymentName,
        revision: u64,
        state: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    NodeChanged {
        node: NodeId,
        name: String,
        state: String,
    },
    /// A node's boot id changed: what ran there was interrupted.
    NodeRebooted {
        node: NodeId,
        name: String,
    },
    InstanceChanged {
        project: ProjectName,
        deployment: DeploymentName,
        slot: u32,
        instance: InstanceId,
        node: NodeId,
        phase: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
}

impl EventKind {
    /// The project that it happened in, if it is one project's business.
    pub fn project(&self) -> Option<&ProjectName> {
        match self {
            Self::DeploymentChanged { project, .. }
            | Self::DeploymentRemoved { project, .. }
            | Self::RolloutChanged { project, .. }
            | Self::InstanceChanged { project, .. } => Some(project),
            Self::NodeChanged { .. } | Self::NodeRebooted { .. } => None,
        }
    }
}
