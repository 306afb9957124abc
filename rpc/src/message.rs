//! NATS bodies. Unknown keys are ignored, so that server N works with agents N−1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{
    ClusterId, DeploymentId, DeploymentName, InstanceId, NodeId, ProjectName, SpecHash,
};
use crate::spec::{InstanceSpec, PortSpec};

/// Order among the assignments of a node; it only rises. The epoch rises when a server starts on
/// an empty or older database, so that what it decides is newer than what agents hold.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
)]
pub struct Generation {
    pub epoch: u64,
    pub counter: u64,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// `knit.agent.heartbeat.{node}`: "I live". At most 250 bytes when nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub cluster: ClusterId,
    pub node: NodeId,
    /// The kernel's boot id: tells a fast reboot from a pause. First 8 hex digits suffice.
    pub boot: String,
    /// When this agent process started: with `boot`, tells two hosts that claim one id.
    pub agent_start: Timestamp,
    /// Generation of the assignment that the agent works on.
    pub applied: Generation,
    /// Digest of the instances as last reported; another one than the server stored means that a
    /// report was lost.
    pub inventory: String,
    /// What changed about the node: all of it on connect and when asked, else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<NodeFacts>,
}

/// What a node says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    pub name: String,
    /// The sidecar's WireGuard public key, in standard base64.
    pub wg_pubkey: String,
    pub mesh_ip: Option<Ipv4Addr>,
    pub labels: BTreeMap<String, String>,
    /// `amd64`, `arm64`, …: Docker's words.
    pub arch: String,
    pub kernel: String,
    pub agent_version: String,
    /// Docker's version, absent while Docker does not answer.
    pub docker: Option<String>,
    /// Why the node cannot run containers now, in a sentence.
    pub trouble: Option<String>,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Mesh public keys of the peers that this node does not hear.
    pub unheard: BTreeSet<String>,
}

/// `knit.tasks.{node}`: all that a node should run. Travels signed by the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAssignment {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub generation: Generation,
    /// Each spec once; instances refer to it.
    pub specs: BTreeMap<SpecHash, InstanceSpec>,
    pub instances: Vec<AssignedInstance>,
}

/// One instance of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedInstance {
    pub id: InstanceId,
    pub project: ProjectName,
    pub deployment: DeploymentName,
    pub deployment_id: DeploymentId,
    pub slot: u32,
    pub revision: u64,
    pub spec: SpecHash,
}

/// `knit.tasks.broadcast`: "report in". Every agent answers with a full heartbeat and inventory,
/// jittered over 5 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportIn {
    pub cluster: ClusterId,
    /// Whether the inventory should carry the assignment that the agent holds
    /// (`InstanceReport::held`): the server has forgotten what it decided and takes it in again.
    #[serde(default)]
    pub held: bool,
}

/// `knit.task.status.{node}`: what became of instances. Ordered by (agent start, sequence).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub agent_start: Timestamp,
    pub sequence: u64,
    /// Whether this is the whole inventory: what is not in it does not exist on the node.
    pub full: bool,
    pub applied: Generation,
    pub instances: Vec<InstanceStatus>,
    /// Instances that are gone from the node since the last report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<InstanceId>,
    /// The signed assignment that the agent holds, byte for byte as the server once sent it. Only
    /// in a full report, and only when asked for by `ReportIn::held` or `RegisterResponse::adopt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The server's answer once a report is stored. Until then the agent repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportStored {
    pub sequence: u64,
}

/// Where an instance stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Assigned, nothing done yet.
    Pending,
    /// Its image is being pulled.
    Pulling,
    /// Its container is being made.
    Starting,
    /// Its container runs.
    Running,
    /// It ended and will be started again after a pause.
    Restarting,
    /// It cannot run, and waiting will not mend it.
    Failed,
    /// It is being stopped and removed.
    Stopping,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Pulling => "pulling",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Pulling,
            Self::Starting,
            Self::Running,
            Self::Restarting,
            Self::Failed,
            Self::Stopping,
        ]
        .into_iter()
        .find(|phase| phase.as_str() == text)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an agent says of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub id: InstanceId,
    pub project: ProjectName,
    pub deployment: DeploymentName,
    pub deployment_id: DeploymentId,
    pub slot: u32,
    pub revision: u64,
    pub phase: Phase,
    /// Why it is not running, in a sentence; Docker's own words where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The container's address on the node's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// Ports published now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    /// Id of the image that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// How often the agent has started it again.
    #[serde(default)]
    pub restarts: u32,
}
