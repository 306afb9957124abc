//! All that planning looks at, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use knit_rpc::Timestamp;
use knit_rpc::api::{Availability, Cause, RolloutState};
use knit_rpc::id::{
    ClusterId, DeploymentId, DeploymentName, InstanceId, NodeId, ProjectName, SecretName, SpecHash,
};
use knit_rpc::message::{Generation, InstanceStatus, NetworkSpec, NodeFacts, Phase};
use knit_rpc::sealed_box::SealingKey;
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, VolumeName};
use serde::{Deserialize, Serialize};

use crate::instances::Instances;
use crate::ledger::Ledger;
use crate::liveness::Lives;
use crate::observed::Observed;
use crate::secrets::Secret;

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
    /// Deployments that were removed and of which nothing is left, with when: an assignment of
    /// before must not bring them back.
    pub removed: BTreeMap<DeploymentId, Timestamp>,
    pub specs: BTreeMap<SpecHash, InstanceSpec>,
    /// Desired: written by the planner only.
    pub instances: Instances,
    /// Observed: written by reports only.
    pub observed: Observed,
    /// Since when an instance has been running without a break, by this server's clock; not
    /// stored, so that a server that starts anew waits once more.
    pub healthy_since: BTreeMap<InstanceId, Timestamp>,
    /// Where data is. Written by the planner; removed when the node says that it is gone.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// By (project, name).
    pub networks: BTreeMap<(ProjectName, String), Network>,
    /// By (project, name); none holds a value.
    pub secrets: BTreeMap<(ProjectName, SecretName), Secret>,
    /// What peers said of nodes that fell silent; not stored.
    pub probes: BTreeMap<NodeId, Probing>,
}

/// Data on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub node: NodeId,
    pub created_at: Timestamp,
    /// Somebody wants it gone.
    pub removing: bool,
}

/// A network that users made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    pub spec: NetworkSpec,
    pub created_at: Timestamp,
}

/// A question to peers whether they reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probing {
    /// When it was asked first, and last.
    pub asked_at: Timestamp,
    pub asked_again_at: Timestamp,
    pub asked: BTreeSet<NodeId>,
    /// What each of them said last.
    pub answers: BTreeMap<NodeId, ProbeAnswer>,
}

/// What a peer said of a node that fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub reached: bool,
    pub at: Timestamp,
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
            removed: BTreeMap::new(),
            specs: BTreeMap::new(),
            instances: Instances::default(),
            observed: Observed::default(),
            healthy_since: BTreeMap::new(),
            volumes: BTreeMap::new(),
            networks: BTreeMap::new(),
            secrets: BTreeMap::new(),
            probes: BTreeMap::new(),
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

    /// Takes in what a node said of its instances: all of them.
    pub fn observe(
        &mut self,
        node: &NodeId,
        statuses: BTreeMap<InstanceId, InstanceStatus>,
        now: Timestamp,
    ) {
        let before = self.observed.insert(node.clone(), statuses).unwrap_or_default();
        let after = &self.observed[node];
        let began_anew = |status: &InstanceStatus| {
            before.get(&status.id).is_some_and(|before| before.restarts != status.restarts)
        };
        for id in before.keys().filter(|id| !after.contains_key(*id)) {
            self.healthy_since.remove(id);
        }
        for status in after.values() {
            if status.phase == Phase::Running && began_anew(status) {
                self.healthy_since.insert(status.id.clone(), now);
            } else if status.phase == Phase::Running {
                self.healthy_since.entry(status.id.clone()).or_insert(now);
            } else {
                self.healthy_since.remove(&status.id);
            }
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

    /// What an instance's container looks like.
    pub fn spec_of(&self, instance: &Instance) -> Option<&InstanceSpec> {
        self.specs.get(&instance.spec).or_else(|| {
            let deployment = self.deployments.get(&instance.deployment)?;
            let mut known = deployment.revisions.values();
            known.find(|known| known.spec_hash == instance.spec).map(|known| &known.spec.instance)
        })
    }

    /// What is taken of a node by what it should run.
    pub fn ledger(&self, node: &NodeId) -> Arc<Ledger> {
        self.instances.ledger(node, |ledger, instance| {
            let spec = self.spec_of(instance);
            ledger.add(instance, spec);
            spec.is_some()
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
    /// What can be sealed to it; none while its agent cannot take sealed things.
    pub sealing_key: Option<SealingKey>,
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
    /// The slot that it has of each deployment with `mode: every-node`: no two nodes' are equal.
    pub number: u32,
    pub availability: Availability,
    /// Set, or taken away, by people; they go before what the agent says.
    pub label_changes: BTreeMap<String, Option<String>>,
    /// When its boot id was last seen to change.
    pub rebooted_at: Option<Timestamp>,
}

impl Node {
    pub fn new(id: NodeId, nkey: String) -> Self {
        Self {
            id,
            nkey,
            facts: NodeFacts::default(),
            sealing_key: None,
            subnet: None,
            last_beat: None,
            lives: Lives::default(),
            lost: false,
            adopting: false,
            generation: Generation::default(),
            published: Generation::default(),
            applied: Generation::default(),
            inventory: String::new(),
            number: 0,
            availability: Availability::default(),
            label_changes: BTreeMap::new(),
            rebooted_at: None,
        }
    }

    /// A label's value, as people and the agent say.
    pub fn label(&self, key: &str) -> Option<&str> {
        match self.label_changes.get(key) {
            Some(change) => change.as_deref(),
            None => self.facts.labels.get(key).map(String::as_str),
        }
    }

    /// All labels, as people and the agent say.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.facts.labels.clone();
        for (key, change) in &self.label_changes {
            match change {
                Some(value) => labels.insert(key.clone(), value.clone()),
                None => labels.remove(key),
            };
        }
        labels
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        if self.facts.name.is_empty() { self.id.as_str() } else { &self.facts.name }
    }

    /// The kernel's boot id as it said last; empty before its first beat of this server's life.
    pub fn boot(&self) -> &str {
        self.lives.newest().map_or("", |life| &life.boot)
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
    /// Nothing of it should run, but its slots and data are kept.
    pub stopped: bool,
    /// Instances of revisions before this one are replaced even when their spec is the same.
    pub restart_floor: u64,
    /// The newest revision whose rollout succeeded.
    pub stable: Option<u64>,
    /// What is remembered of its revisions, the newest included.
    pub revisions: BTreeMap<u64, Revision>,
    /// The walk to the newest revision, until it ends.
    pub rollout: Option<Rollout>,
}

/// One revision of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    pub spec: DeploymentSpec,
    pub spec_hash: SpecHash,
    pub cause: Cause,
    pub state: RolloutState,
    /// Why it failed or was rolled back.
    pub message: Option<String>,
    /// The last lines of the instance that failed.
    pub log: Vec<String>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// Where the walk from one revision to the next stands. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Where it leads: the deployment's newest revision.
    pub revision: u64,
    /// The stable revision that it started from; slots that were not let change stay on it.
    pub from: Option<u64>,
    /// Slots below this were let change.
    pub admitted: u32,
    /// Somebody, or a failure, has it wait.
    pub paused: bool,
    /// The canary was found good.
    #[serde(default)]
    pub promoted: bool,
    /// Why it waits.
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub log: Vec<String>,
    pub started_at: Timestamp,
    /// When it last came forward: the deadline counts from here.
    pub progress_at: Timestamp,
    /// Slots that were healthy then.
    #[serde(default)]
    pub healthy: u32,
    /// Bytes of images that had been pulled then.
    #[serde(default)]
    pub pulled: u64,
    /// Whether the nodes that have instances of it already were told what changed for these.
    #[serde(default)]
    pub announced: bool,
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
    /// Why it is on its node, in a sentence.
    pub because: String,
    /// The version of each secret that its spec does not name by version.
    pub secrets: BTreeMap<SecretName, u64>,
}
