//! Deployments and their instances.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::RolloutView;
use crate::Timestamp;
use crate::id::{DeploymentName, InstanceId, NodeId, ProjectName};
use crate::message::{Phase, PullProgress};
use crate::spec::{DeploymentSpec, PortSpec};

/// Answer to `POST /deployments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub name: DeploymentName,
    pub revision: u64,
    /// Whether the spec equals the revision that was there already.
    pub unchanged: bool,
    /// What whoever deploys should know, each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A deployment as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub name: DeploymentName,
    pub revision: u64,
    pub replicas: u32,
    /// Instances of the newest revision that run.
    pub running: u32,
    pub state: DeploymentState,
    pub image: String,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[schema(value_type = u64)]
    pub updated_at: Timestamp,
    pub spec: DeploymentSpec,
    pub instances: Vec<InstanceView>,
    /// Slots without a place, each with the reasons.
    pub unplaced: Vec<Unplaced>,
    /// The newest revision that proved itself; none before the first.
    pub stable_revision: Option<u64>,
    /// The newest rollout, under way or ended.
    pub rollout: Option<RolloutView>,
}

/// Where a deployment stands, one word for every place that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// Every slot runs at the newest revision and nothing older is left.
    Running,
    /// On its way.
    Deploying,
    /// A slot has no node to run on.
    Unplaced,
    /// A slot is not healthy, and no rollout is under way.
    Degraded,
    /// A rollout waits for somebody to say how to go on.
    Paused,
    /// An instance of the newest revision cannot run.
    Failed,
    /// `knit stop`: nothing of it should run.
    Stopped,
    /// Removed, its containers not all gone yet.
    Removing,
}

impl DeploymentState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Deploying => "deploying",
            Self::Unplaced => "unplaced",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Removing => "removing",
        }
    }
}

/// A slot that could not be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unplaced {
    pub slot: u32,
    /// One sentence that sums up, then one per node.
    pub summary: String,
    pub reasons: Vec<String>,
}

/// An instance as the API shows it: what was decided, and what its node said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    #[schema(value_type = String)]
    pub id: InstanceId,
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub deployment: DeploymentName,
    pub slot: u32,
    pub revision: u64,
    #[schema(value_type = String)]
    pub node: NodeId,
    pub node_name: String,
    #[schema(value_type = Option<String>)]
    pub mesh_ip: Option<Ipv4Addr>,
    pub phase: Phase,
    /// Whether the server still wants it.
    pub wanted: bool,
    pub message: Option<String>,
    pub container: Option<String>,
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv4Addr>,
    pub ports: Vec<PortSpec>,
    #[schema(value_type = Option<u64>)]
    pub started_at: Option<Timestamp>,
    pub exit_code: Option<i64>,
    pub restarts: u32,
    pub pull: Option<PullProgress>,
    /// The last lines that it wrote before it ended or was given up.
    pub log: Vec<String>,
    /// Why it is on this node.
    pub because: Option<String>,
}
