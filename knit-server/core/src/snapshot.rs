//! All that planning looks at, as plain data.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use knit_rpc::Timestamp;
use knit_rpc::id::{
    ClusterId, DeploymentId, DeploymentName, InstanceId, NodeId, ProjectName, SpecHash,
};
use knit_rpc::message::{Generation, InstanceStatus, NodeFacts, Phase};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec};

use crate::liveness::Lives;

/// The cluster at one moment: what is wanted, what was decided, what was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub cluster: ClusterId,
    /// Rises when an agent reports a newer generation than this server ever sent.
    pub epoch: u64,
    /// When this server's life began.
    pub started: Timestamp,
    /// The first heartbeat of this server's life.
    pub first_beat: Option<Timestamp>,
    /// The last time in which this server could hear nobody.
    pub deafness: Option<Deafness>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    pub specs: BTreeMap<SpecHash, InstanceSpec>,
    /// Desired: written by the planner only.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Observed: written by reports only.
    pub observed: BTreeMap<NodeId, BTreeMap<InstanceId, InstanceStatus>>,
}

impl Snapshot {
    /// A cluster in which nothing has happened yet.
    pub fn empty(cluster: ClusterId, started: Timestamp) -> Self {
        Self {
            cluster,
            epoch: 0,
            started,
            first_beat: None,
            deafness: None,
            nodes: BTreeMap::new(),
            deployments: BTreeMap::new(),
            specs: BTreeMap::new(),
            instances: BTreeMap::new(),
            observed: BTreeMap::new(),
        }
    }

    /// Takes note of whether this server's bus carries heartbeats at `now`.
    pub fn note_bus(&mut self, connected: bool, now: Timestamp) {
        let is_deaf = self.deafness.is_some_and(|deafness| deafness.until.is_none());
        if connected && is_deaf {
            self.deafness = self.deafness.map(|d| Deafness { until: Some(now), ..d });
        } else if !connected && !is_deaf {
            self.deafness = Some(Deafness { from: now, until: None });
        }
    }

    /// The deployment that holds a name now.
    pub fn named(&self, project: &ProjectName, name: &DeploymentName) -> Option<&Deployment> {
        self.deployments.values().find(|deployment| {
            deployment.removed_at.is_none()
                && deployment.spec.project == *project
                && deployment.spec.name == *name
        })
    }

    /// What an instance's node last said of it.
    pub fn observed_of(&self, instance: &Instance) -> Option<&InstanceStatus> {
        self.observed.get(&instance.node)?.get(&instance.id)
    }

    /// The phase of an instance as its node last said; pending until it said anything.
    pub fn phase_of(&self, instance: &Instance) -> Phase {
        self.observed_of(instance).map_or(Phase::Pending, |status| status.phase)
    }
}

/// A time in which this server's own bus was down, so that the nodes' silence says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deafness {
    pub from: Timestamp,
    /// None while it lasts.
    pub until: Option<Timestamp>,
}

/// A host that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    /// The public nkey that it registered with first.
    pub nkey: String,
    pub facts: NodeFacts,
    pub subnet: Option<Ipv4Net>,
    /// Last heartbeat within this server's life, by the server's clock.
    pub last_beat: Option<Timestamp>,
    pub lives: Lives,
    /// Judged lost, and not heard since.
    pub lost: bool,
    /// Runs what this server does not know: nothing is decided for it until that was taken in.
    pub adopting: bool,
    /// Generation of the assignment that was decided for it.
    pub generation: Generation,
    /// The newest generation that was ever sent to it.
    pub published: Generation,
    /// The generation that it works on, as it said last.
    pub applied: Generation,
    /// The digest of its inventory as it said last.
    pub inventory: String,
}

impl Node {
    pub fn new(id: NodeId, nkey: String) -> Self {
        Self {
            id,
            nkey,
            facts: NodeFacts::default(),
            subnet: None,
            last_beat: None,
            lives: Lives::default(),
            lost: false,
            adopting: false,
            generation: Generation::default(),
            published: Generation::default(),
            applied: Generation::default(),
            inventory: String::new(),
        }
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        if self.facts.name.is_empty() { self.id.as_str() } else { &self.facts.name }
    }

    pub fn mesh_ip(&self) -> Option<Ipv4Addr> {
        self.facts.mesh_ip
    }
}

/// What the user wants, at its newest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: DeploymentId,
    pub revision: u64,
    pub spec: DeploymentSpec,
    /// Hash of the spec's instance part.
    pub spec_hash: SpecHash,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub removed_at: Option<Timestamp>,
    /// Taken in from a node: slots that no node has claimed yet are not filled before this.
    pub hold_until: Option<Timestamp>,
}

/// One container of one slot, as decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: InstanceId,
    pub deployment: DeploymentId,
    pub slot: u32,
    /// The revision that it was made for; an instance lives on at a later one that changes
    /// nothing about it.
    pub revision: u64,
    pub attempt: u32,
    pub node: NodeId,
    pub spec: SpecHash,
    /// The user asked for another try.
    pub retry: bool,
}
