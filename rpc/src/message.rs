//! NATS bodies. Unknown keys are ignored, so that server N works with agents N−1.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{
    ClusterId, DeploymentId, DeploymentName, InstanceId, NodeId, ProjectName, SecretName, SpecHash,
};
use crate::sealed_box::SealedBox;
use crate::spec::{InstanceSpec, NodePolicy, PortSpec, RunPolicy, VolumeName};

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
    /// What became of the peers that the server asked about (`ReportIn::probe`): whether they
    /// answered over the mesh.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probed: BTreeMap<NodeId, bool>,
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
    /// Bytes of the file system that Docker stores on.
    pub disk: u64,
    pub usage: Usage,
    /// Images that are here, by the names that instances use; those used last, at most
    /// [`IMAGES_TOLD_MAX`].
    pub images: BTreeSet<String>,
    /// Knit's volumes that are here.
    pub volumes: BTreeSet<VolumeName>,
    /// What it lets containers have of it; absent from agents that do not know of such things.
    pub policy: Option<NodePolicy>,
    /// Mesh public keys of the peers that this node does not hear.
    pub unheard: BTreeSet<String>,
}

/// Images that a node tells of, at most.
pub const IMAGES_TOLD_MAX: usize = 200;

/// What of a node is in use, in steps that are coarse enough not to change with every beat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Usage {
    /// Percent of all CPUs, in steps of 10.
    pub cpu_percent: u32,
    /// Bytes, in steps of a sixteenth of the node's memory.
    pub memory: u64,
    /// Bytes, in steps of a sixty-fourth of the file system.
    pub disk: u64,
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
    /// Each policy once; instances refer to it by its hash.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<SpecHash, RunPolicy>,
    /// Knit's networks that these instances join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkSpec>,
    /// Volumes to be removed from the node with their data: somebody asked for it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub remove_volumes: BTreeSet<VolumeName>,
    /// Images that a rollback may need: not to be collected.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub keep_images: BTreeSet<String>,
    /// What the instances get of secrets, sealed to this node. One that the server cannot open
    /// is not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SealedSecret>,
}

/// One version of a secret on its way to one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    pub project: ProjectName,
    pub name: SecretName,
    pub version: u64,
    pub sealed: SealedBox,
}

/// What the box of a secret is for.
pub fn secret_purpose(project: &ProjectName, name: &SecretName, version: u64) -> String {
    format!("secret {project}/{name} version {version}")
}

/// A network that Knit makes on each node that needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkSpec {
    #[serde(default)]
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// Within the project: a DNS label.
    pub name: String,
    #[serde(default)]
    pub driver: NetworkDriver,
    /// Docker chooses one on each node when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub subnet: Option<Ipv4Net>,
    /// Whether containers on it reach nothing outside.
    #[serde(default)]
    pub internal: bool,
}

impl NetworkSpec {
    /// What Docker calls it: `knit.{project}.{name}`, or `host`.
    pub fn docker_name(&self) -> String {
        match self.driver {
            NetworkDriver::Bridge => format!("knit.{}.{}", self.project, self.name),
            NetworkDriver::Host => "host".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// One bridge per node.
    #[default]
    Bridge,
    /// The node's own network.
    Host,
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
    /// Hash of its policy; the default one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<SpecHash>,
    /// The version of each secret that it gets; their boxes are in the assignment's `secrets`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<SecretName, u64>,
    /// Whether it may not take ports over yet: the other instances of its revision are waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
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
    /// Not a roll call but a question to some nodes: the others take no notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeRequest>,
}

/// Asks nodes whether they reach others over the mesh. Their next heartbeat, sent at once, says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// Who is asked.
    pub by: BTreeSet<NodeId>,
    /// Who is asked about, at their mesh addresses.
    pub targets: BTreeMap<NodeId, Ipv4Addr>,
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
    /// Its container runs and is ready: its ports lead to it.
    Running,
    /// It was ready and is not now: it gets no new connections.
    Unready,
    /// It ended and will be started again after a pause.
    Restarting,
    /// It ended again and again; it is still tried, ever more rarely.
    CrashLoop,
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
            Self::Unready => "unready",
            Self::Restarting => "restarting",
            Self::CrashLoop => "crash-loop",
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
            Self::Unready,
            Self::Restarting,
            Self::CrashLoop,
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
    /// How far its image has been pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullProgress>,
    /// The last lines that it wrote before it ended or was given up, at most [`LOG_LINES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// Lines of an instance's log that a report carries, at most.
pub const LOG_LINES_MAX: usize = 20;
/// Characters of each such line, at most.
pub const LOG_LINE_CHARS_MAX: usize = 300;

/// Bytes of an image's layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullProgress {
    pub done: u64,
    /// Of the layers that the registry has named so far.
    pub total: u64,
}
