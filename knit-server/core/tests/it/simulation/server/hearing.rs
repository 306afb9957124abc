//! What the server takes in from nodes.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::id::{DeploymentId, InstanceId, NodeId};
use knit_rpc::message::{Heartbeat, InstanceReport, InstanceStatus};
use knit_server_core::Node;
use knit_server_core::adoption;
use knit_server_core::liveness::{Life, probes};

use super::Server;

impl Server {
    /// Takes in a node that registers.
    pub(in crate::simulation) fn register(&mut self, id: &NodeId, life: Life, now: Timestamp) {
        let number = self.snapshot.nodes.values().map(|node| node.number + 1).max();
        let node = self.snapshot.nodes.entry(id.clone()).or_insert_with(|| {
            let mut node = Node::new(id.clone(), format!("U{id}"));
            node.number = number.unwrap_or_default();
            node
        });
        node.lives.note(life, now);
        self.mark_all();
    }

    pub(in crate::simulation) fn beat(&mut self, beat: Heartbeat, now: Timestamp) {
        let epoch = self.snapshot.epoch;
        let Some(node) = self.snapshot.nodes.get_mut(&beat.node) else { return };
        let facts = beat.facts.unwrap_or_else(|| node.facts.clone());
        let before = (node.facts.clone(), node.lost, node.adopting);
        node.lives.note(Life { boot: beat.boot, agent_start: beat.agent_start }, now);
        node.last_beat = Some(now);
        node.applied = beat.applied;
        node.lost = false;
        node.facts = facts;
        if !node.adopting && adoption::is_forgotten(node, beat.applied) {
            node.adopting = true;
            self.snapshot.epoch = adoption::epoch_above(epoch, beat.applied);
        }
        let changed = before != (node.facts.clone(), node.lost, node.adopting);
        self.snapshot.first_beat.get_or_insert(now);
        if changed {
            self.mark_all();
        }
        probes::answer(&mut self.snapshot, &beat.node, &beat.probed, now);
    }

    /// Stores a report, unless a later one is stored; true when it is to be answered.
    pub(in crate::simulation) fn report(&mut self, report: InstanceReport, now: Timestamp) -> bool {
        if !self.snapshot.nodes.contains_key(&report.node) {
            return false;
        }
        let order = (report.agent_start.as_millis(), report.sequence);
        if self.last_reports.get(&report.node).is_some_and(|last| order <= *last) {
            return true;
        }
        self.reported.insert(report.node.clone());
        self.last_reports.insert(report.node.clone(), order);
        let before = self.snapshot.observed.get(&report.node).cloned().unwrap_or_default();
        let mut after = if report.full { BTreeMap::new() } else { before.clone() };
        after.extend(report.instances.into_iter().map(|one| (one.id.clone(), one)));
        for id in &report.removed {
            after.remove(id);
        }
        for deployment in changed(&before, &after) {
            self.mark(deployment);
        }
        self.snapshot.observe(&report.node, after, now);
        true
    }
}

type Statuses = BTreeMap<InstanceId, InstanceStatus>;

fn changed(before: &Statuses, after: &Statuses) -> Vec<DeploymentId> {
    let is_new = |one: &&InstanceStatus| {
        before.get(&one.id).is_none_or(|was| {
            was.phase != one.phase || was.message != one.message || was.pull != one.pull
        })
    };
    let new = after.values().filter(is_new);
    let gone = before.values().filter(|one| !after.contains_key(&one.id));
    new.chain(gone).map(|one| one.deployment_id.clone()).collect()
}
