//! REST bodies. Every path answers under `/v1` and without it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{ClusterId, DeploymentName, InstanceId, NodeId, ProjectName};
use crate::join::JoinProof;
use crate::message::{Generation, NetworkSpec, Phase, PullProgress, Usage};
use crate::spec::{DeploymentSpec, PortSpec, VolumeName};

/// Port of the REST API.
pub const API_PORT: u16 = 7400;
/// Where the server answers on its own host.
pub const API_SOCKET: &str = "/run/knit/server.sock";
/// Port of NATS for clients.
pub const NATS_PORT: u16 = 7422;
/// Port of NATS' monitor, on loopback.
pub const NATS_MONITOR_PORT: u16 = 7423;

/// `GET /ping`: how a program finds out that a Knit server answers here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ping {
    /// Always `knit-server`.
    pub service: String,
    pub version: String,
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// The server's public signing key (an nkey, `N…`).
    pub server_key: String,
}

/// `GET /identity?nonce=…`, signed by the server (`signed::Context::Identity`): the proof that
/// comes before a token is shown to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerIdentity {
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// The server's public signing key (an nkey, `N…`), which the signature is by.
    pub server_key: String,
    /// What the asker sent: an old answer cannot be played again.
    pub nonce: String,
}

/// `POST /v1/nodes/register`, signed with the node's nkey (`signed::Context::Register`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisterRequest {
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The node's public nkey (`U…`), which the signature must be by.
    pub nkey: String,
    /// 16 random bytes in hex, which the answer repeats: an old answer cannot be played again.
    pub nonce: String,
    /// The node's clock, to refuse requests that are played again after 10 minutes.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// The cluster that the node belongs to already, if any.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cluster: Option<ClusterId>,
    pub name: String,
    pub wg_pubkey: String,
    #[schema(value_type = String)]
    pub mesh_ip: Ipv4Addr,
    pub boot: String,
    #[serde(default)]
    #[schema(value_type = u64)]
    pub agent_start: Timestamp,
    /// Generation of the assignment that the node holds, so that a server that forgot rises above.
    #[serde(default)]
    pub applied: Generation,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Networks that the node's host has routes to or addresses in: its container subnet must
    /// overlap none of them.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub host_networks: Vec<Ipv4Net>,
    /// The container subnet that the node uses already, which a server that forgot should keep.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub subnet: Option<Ipv4Net>,
    /// What lets it in for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinProof>,
    /// The last NATS token that this cluster gave it: a server that forgot gave it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
}

/// The answer, signed by the server (`signed::Context::Registered`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisterResponse {
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The request's nonce.
    pub nonce: String,
    /// The server's public signing key, pinned by the node from its first registration on.
    pub server_key: String,
    /// For example `nats://10.45.75.206:7422`.
    pub nats_url: String,
    /// NATS user JWT for this node's own subjects.
    pub user_jwt: String,
    /// When the JWT ends; the node renews by registering again well before.
    #[schema(value_type = u64)]
    pub expires: Timestamp,
    /// The node's container subnet.
    #[schema(value_type = String)]
    pub subnet: Ipv4Net,
    /// Whether the server has forgotten what this node runs: the agent's next full report carries
    /// the assignment that it holds (`InstanceReport::held`), and until then nothing changes.
    #[serde(default)]
    pub adopt: bool,
}

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

/// Answer to `POST /deployments?plan_only=true`: what would happen, and nothing did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub name: DeploymentName,
    /// The revision that it would become.
    pub revision: u64,
    /// Keys that differ from the present revision.
    pub changed: Vec<String>,
    /// Those of them that need new containers.
    pub recreates: Vec<String>,
    /// Where each slot's instance would be: `create`, `replace`, `keep` or `remove`.
    pub slots: Vec<SlotPlan>,
    pub unplaced: Vec<Unplaced>,
    /// What one should know, for example that a volume forces stop-first, or a public port.
    pub notes: Vec<String>,
}

/// What would become of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotPlan {
    pub slot: u32,
    pub action: SlotAction,
    /// The node that runs it now.
    pub from: Option<String>,
    /// The node that would run it.
    pub to: Option<String>,
    /// Why there.
    pub because: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SlotAction {
    Create,
    Replace,
    Keep,
    Remove,
}

/// Answer to `GET /deployments/{name}/why`: why each instance is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    pub slots: Vec<WhySlot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhySlot {
    pub slot: u32,
    /// None while it has no place.
    pub node: Option<String>,
    /// Sentences: why this node, or what it waits for.
    pub because: Vec<String>,
    /// Every other node with all that speaks against it.
    pub others: Vec<WhyNot>,
}

/// Answer to `GET /deployments/{name}/why-not?node=`: all that keeps a node from running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyNot {
    pub node: String,
    /// Everything that fails, with numbers. Empty: it could run there, and another was better.
    pub reasons: Vec<String>,
    /// What would have to change at least, or why another node was better.
    pub nearest: Option<String>,
}

/// A volume as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    #[schema(value_type = String)]
    pub volume: VolumeName,
    pub state: VolumeState,
    pub node_name: String,
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Slots that use it, such as `db.0`.
    pub used_by: Vec<String>,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    pub docker_name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// Its node has it.
    Present,
    /// Decided, not made yet.
    Awaited,
    /// Its node is lost, and its data with it until the node returns.
    Lost,
    /// Being removed.
    Removing,
}

/// A network as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    #[serde(flatten)]
    pub network: NetworkSpec,
    /// Deployments that name it.
    pub used_by: Vec<String>,
    /// Nodes that have it because an instance there needs it.
    pub nodes: Vec<String>,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
}

/// `PATCH /nodes/{node}`: what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePatch {
    /// Set, or taken away with null; they go before what the agent says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
}

/// What a node is there for; Docker Swarm's words but for `cordoned`, which is Kubernetes'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    #[default]
    Active,
    /// Keeps what it runs and gets nothing new.
    Cordoned,
    /// Gets nothing new, and what it runs moves away.
    Draining,
}

impl Availability {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Cordoned, Self::Draining].into_iter().find(|one| one.as_str() == text)
    }
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

/// A host as the API shows it: mesh peers and agents in one list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Absent for a peer without an agent.
    #[schema(value_type = Option<String>)]
    pub id: Option<NodeId>,
    pub name: String,
    pub state: NodeState,
    /// Why it is not ready, in a sentence.
    pub message: Option<String>,
    /// Whether this host runs the server.
    pub server: bool,
    #[schema(value_type = Option<String>)]
    pub mesh_ip: Option<Ipv4Addr>,
    pub wg_pubkey: Option<String>,
    pub endpoint: Option<String>,
    /// When the mesh last heard it.
    #[schema(value_type = Option<u64>)]
    pub mesh_last_seen: Option<Timestamp>,
    /// When its agent last beat.
    #[schema(value_type = Option<u64>)]
    pub last_heartbeat: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub subnet: Option<Ipv4Net>,
    pub labels: BTreeMap<String, String>,
    pub instances: u32,
    pub arch: String,
    pub kernel: String,
    pub docker: Option<String>,
    pub agent_version: String,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the file system that Docker stores on.
    pub disk: u64,
    pub usage: Usage,
    /// What its instances have reserved.
    pub reserved: Reserved,
    pub availability: Availability,
    /// Instances that a drain still waits for, each with what keeps it.
    #[serde(default)]
    pub draining: Vec<String>,
    /// The kernel's boot id, and when it was last seen to change.
    pub boot: String,
    #[schema(value_type = Option<u64>)]
    pub rebooted_at: Option<Timestamp>,
}

/// The sum of what instances reserve on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes.
    pub disk: u64,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Beats, and its Docker answers.
    Ready,
    /// Beats, but its Docker does not answer.
    NotReady,
    /// A mesh peer without an agent.
    Discovered,
    /// Its agent asks to join, and nobody has let it in yet.
    Pending,
    /// Registered, not heard since the server started.
    Joining,
    /// Missed three beats.
    Stale,
    /// Not heard by the server, but by its peers: a cut path.
    Unreachable,
    /// Gone; its instances are placed elsewhere.
    Lost,
    /// Two hosts claim one identity; neither is given work.
    Duplicate,
}

impl NodeState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not-ready",
            Self::Discovered => "discovered",
            Self::Pending => "pending",
            Self::Joining => "joining",
            Self::Stale => "stale",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs: `invalid`, `not-found`, `conflict`, `too-large`, `internal`, ….
    pub code: String,
    /// For people: a sentence.
    pub message: String,
    /// What is wrong with which field, where fields are to blame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldProblem>,
    pub request_id: String,
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// For example `ports[0].host_port`.
    pub field: String,
    pub message: String,
    /// Counted from 1, when the body had lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}
