//! Nodes, and hosts that are none yet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::NodeId;
use crate::message::Usage;

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

/// `DELETE /v1/nodes/{node}`: what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRemoved {
    /// Whether NATS refuses it now.
    #[serde(default)]
    pub cut_off: bool,
    /// Why it does not yet, and what will become of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
