//! The server: the real `knit-server-core`, with a thin loop and a store around it.

mod hearing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::NodeState;
use knit_rpc::id::{ClusterId, DeploymentId, NodeId};
use knit_rpc::message::{Generation, NodeAssignment, ProbeRequest};
use knit_server_core::liveness::{self, Lives, Verdicts, probes};
use knit_server_core::plan::plan_with;
use knit_server_core::{Deployment, Dirty, Instance, Node, Plan, Snapshot, assignment, status};

/// How long a node may take to say that it works on what was sent, before it is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(super) struct Server {
    /// While it is down nothing is heard, planned or sent.
    pub(super) up: bool,
    pub(super) snapshot: Snapshot,
    pub(super) verdicts: Verdicts,
    /// What the last plan said.
    pub(super) plan: Plan,
    dirty: Dirty,
    last_reports: BTreeMap<NodeId, (u64, u64)>,
    sent: BTreeMap<NodeId, (Generation, Timestamp)>,
    /// Nodes that have reported in this life.
    reported: BTreeSet<NodeId>,
}

impl Server {
    pub(super) fn new(cluster: ClusterId, now: Timestamp) -> Self {
        Self::on(Snapshot::empty(cluster, now), BTreeMap::new())
    }

    fn on(snapshot: Snapshot, last_reports: BTreeMap<NodeId, (u64, u64)>) -> Self {
        Self {
            up: true,
            snapshot,
            verdicts: Verdicts::default(),
            plan: Plan::default(),
            dirty: Dirty::All,
            last_reports,
            sent: BTreeMap::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Starts anew with what its store has kept.
    pub(super) fn restart(&mut self, now: Timestamp) {
        let mut snapshot = self.snapshot.clone();
        snapshot.started = now;
        snapshot.first_beat = None;
        snapshot.deafness = None;
        snapshot.healthy_since.clear();
        snapshot.probes.clear();
        for node in snapshot.nodes.values_mut() {
            node.last_beat = None;
            node.lives = Lives::default();
            node.applied = Generation::default();
            node.inventory.clear();
        }
        *self = Self::on(snapshot, std::mem::take(&mut self.last_reports));
    }

    /// Has the planner look at a deployment again.
    fn mark(&mut self, deployment: DeploymentId) {
        if let Dirty::Deployments(ids) = &mut self.dirty {
            ids.insert(deployment);
        }
    }

    pub(super) fn mark_all(&mut self) {
        self.dirty = Dirty::All;
    }

    /// Takes in what somebody did to a deployment.
    pub(super) fn put(&mut self, deployment: Deployment) {
        self.mark(deployment.id.clone());
        let specs = &mut self.snapshot.specs;
        specs.insert(deployment.spec_hash.clone(), deployment.spec.instance.clone());
        self.snapshot.deployments.insert(deployment.id.clone(), deployment);
    }

    /// Judges and plans once; with `check` it is seen to that a full plan says the same and leaves
    /// nothing to do.
    pub(super) fn think(&mut self, check: bool, now: Timestamp) -> Result<(), String> {
        self.judge(now);
        let plan = plan_with(&self.snapshot, &self.verdicts, &self.dirty, now);
        let full = check.then(|| plan_with(&self.snapshot, &self.verdicts, &Dirty::All, now));
        if let Some(full) = full.filter(|full| *full != plan) {
            return Err(format!("looking at {:?}: {plan:#?}, at all: {full:#?}", self.dirty));
        }
        plan.apply(&mut self.snapshot);
        let again = check.then(|| plan_with(&self.snapshot, &self.verdicts, &Dirty::All, now));
        if let Some(again) = again.filter(|again| !again.is_empty()) {
            return Err(format!("planned twice: {plan:#?}, then {again:#?}"));
        }
        for (id, generation) in &plan.generations {
            if let Some(node) = self.snapshot.nodes.get_mut(id).filter(|node| !node.adopting) {
                node.published = *generation;
            }
        }
        self.dirty = Dirty::Deployments(plan.unsettled.clone());
        self.plan = plan;
        self.purge();
        Ok(())
    }

    /// `d1.0 r2 on n3`.
    pub(super) fn words_for(&self, instance: &Instance) -> String {
        let deployment = self.snapshot.deployments.get(&instance.deployment);
        let name = deployment.map(|one| one.spec.name.to_string()).unwrap_or_default();
        let node = self.snapshot.nodes.get(&instance.node).map(|node| node.name().to_owned());
        let Instance { id, slot, revision, attempt, .. } = instance;
        let node = node.unwrap_or_default();
        format!("{id} {name}.{slot} r{revision} a{attempt} on {node}")
    }

    /// Who is asked about whom.
    pub(super) fn question(&mut self, now: Timestamp) -> Option<ProbeRequest> {
        let question = probes::question(&self.snapshot, None, now)?;
        probes::asked(&mut self.snapshot, &question, now);
        Some(question)
    }

    /// Nodes that beat and have not reported in this life of the server.
    pub(super) fn unreported(&self) -> Vec<NodeId> {
        let nodes = self.snapshot.nodes.values().filter(|node| node.last_beat.is_some());
        nodes.map(|node| node.id.clone()).filter(|id| !self.reported.contains(id)).collect()
    }

    fn judge(&mut self, now: Timestamp) {
        let verdicts = liveness::judge(&self.snapshot, now);
        let states = |verdicts: &Verdicts| -> BTreeMap<NodeId, NodeState> {
            verdicts.nodes.iter().map(|(id, verdict)| (id.clone(), verdict.state)).collect()
        };
        if states(&verdicts) != states(&self.verdicts) {
            self.mark_all();
        }
        for (id, verdict) in &verdicts.nodes {
            if let Some(node) = self.snapshot.nodes.get_mut(id) {
                node.lost |= verdict.state == NodeState::Lost;
            }
        }
        self.verdicts = verdicts;
    }

    /// Forgets removed deployments of which nothing is left.
    fn purge(&mut self) {
        let snapshot = &self.snapshot;
        let removed = snapshot.deployments.values().filter(|one| one.removed_at.is_some());
        let gone: Vec<DeploymentId> = removed
            .filter(|one| !status::is_left(snapshot, &self.verdicts, &one.id))
            .map(|one| one.id.clone())
            .collect();
        if gone.is_empty() {
            return;
        }
        for id in gone {
            self.snapshot.deployments.remove(&id);
        }
        let snapshot = &mut self.snapshot;
        let instances = snapshot.instances.values().map(|instance| &instance.spec);
        let revisions = snapshot.deployments.values().flat_map(|one| one.revisions.values());
        let used: BTreeSet<_> =
            instances.chain(revisions.map(|one| &one.spec_hash)).cloned().collect();
        snapshot.specs.retain(|hash, _| used.contains(hash));
    }

    /// The assignments that are due.
    pub(super) fn publish(&mut self, now: Timestamp) -> Vec<NodeAssignment> {
        let due = |node: &&Node| {
            let is_duplicate = self.verdicts.state(&node.id) == Some(NodeState::Duplicate);
            let is_behind = node.applied < node.generation && node.last_beat.is_some();
            let sent = self.sent.get(&node.id);
            is_behind
                && !node.adopting
                && !is_duplicate
                && sent.is_none_or(|(generation, at)| {
                    *generation < node.generation || now.since(*at) >= AGAIN_AFTER
                })
        };
        let due: Vec<(NodeId, Generation)> = self
            .snapshot
            .nodes
            .values()
            .filter(due)
            .map(|node| (node.id.clone(), node.generation))
            .collect();
        due.into_iter()
            .map(|(id, generation)| {
                self.sent.insert(id.clone(), (generation, now));
                assignment::of_node(&self.snapshot, &id, generation).assignment
            })
            .collect()
    }
}
