//! Decides which node runs which instance.
//!
//! ```text
//! rollout:         which revision is each slot wanted at? (one step further, when it may)
//! for each slot:   no current instance? ──place──> a new attempt beside what runs
//!                  newest one healthy?  ──settle─> everything older of the slot goes
//! ```
//!
//! Invariant: planning reads nothing but its arguments. Equal snapshots give equal plans, and
//! planning a snapshot that already carries the plan changes nothing.
//!
//! Invariant: an instance that runs is never given up before its replacement is healthy, unless
//! the deployment is gone or stopped, the slot is gone, or only one can be at a time: for a
//! volume, for the host's network, or because the manifest says so.

mod slot;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::api::Unplaced;
use knit_rpc::id::{DeploymentId, InstanceId, NodeId};
use knit_rpc::message::Generation;
use knit_rpc::spec::VolumeName;

use crate::assignment;
use crate::liveness::{self, Verdicts};
use crate::placement::Placements;
use crate::snapshot::{Deployment, Instance, Snapshot, Volume};

/// What has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    All,
    /// These, where everything else is as the last plan left it: at rest. What [`Plan::unsettled`]
    /// named has to be among them, and nodes must not have changed.
    Deployments(BTreeSet<DeploymentId>),
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub created: Vec<Instance>,
    pub removed: Vec<InstanceId>,
    /// The new generation of every node whose set changed.
    pub generations: BTreeMap<NodeId, Generation>,
    /// Deployments whose rollout went on, ended or was given up: to be stored whole.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// Volumes that got their node.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Slots without a place, of the deployments that were looked at; one stands for all that have
    /// the same reasons.
    pub unplaced: BTreeMap<DeploymentId, Vec<Unplaced>>,
    /// Deployments that are not at rest: time alone may change what is decided for them.
    pub unsettled: BTreeSet<DeploymentId>,
}

impl Plan {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty()
            && self.removed.is_empty()
            && self.generations.is_empty()
            && self.deployments.is_empty()
            && self.volumes.is_empty()
    }

    /// Carries the plan out on the snapshot that it was made from.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        for id in &self.removed {
            snapshot.instances.remove(id);
        }
        for instance in &self.created {
            snapshot.instances.insert(instance.clone());
        }
        for (id, deployment) in &self.deployments {
            snapshot.specs.insert(deployment.spec_hash.clone(), deployment.spec.instance.clone());
            snapshot.deployments.insert(id.clone(), deployment.clone());
        }
        for (name, volume) in &self.volumes {
            snapshot.volumes.insert(name.clone(), volume.clone());
        }
        for (id, generation) in &self.generations {
            if let Some(node) = snapshot.nodes.get_mut(id) {
                node.generation = *generation;
            }
        }
    }
}

/// Rounds of one plan, at most: what is not at rest then goes on in the next one, so that no fault
/// here can keep the server from everything else.
const ROUNDS_MAX: usize = 1000;

/// Returns what every node should run at `now`, and why the rest could not be placed.
pub fn plan(snapshot: &Snapshot, dirty: &Dirty, now: Timestamp) -> Plan {
    let verdicts = liveness::judge(snapshot, now);
    plan_with(snapshot, &verdicts, dirty, now)
}

/// As [`plan`], for a caller that has judged the nodes already.
pub fn plan_with(snapshot: &Snapshot, verdicts: &Verdicts, dirty: &Dirty, now: Timestamp) -> Plan {
    let mut planner = Planner {
        snapshot,
        verdicts,
        now,
        placements: Placements::of(snapshot),
        changed: BTreeMap::new(),
        touched: BTreeSet::new(),
        unplaced: BTreeMap::new(),
        unsettled: BTreeSet::new(),
    };
    let mut deployments = planner.to_look_at(dirty);
    // Each round only goes forward: it fills slots, drops what is replaced, or takes a rollout a
    // step further. A later round sees the ports and the room that an earlier one freed; what has
    // come to rest needs no further look.
    for _ in 0..ROUNDS_MAX {
        let mut moved = false;
        for id in &deployments {
            moved |= planner.walk(id);
        }
        if !moved {
            break;
        }
        deployments.retain(|id| planner.unsettled.contains(id));
    }
    planner.finish()
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    verdicts: &'a Verdicts,
    now: Timestamp,
    placements: Placements<'a>,
    /// Deployments whose rollout this plan took further.
    changed: BTreeMap<DeploymentId, Deployment>,
    /// Nodes that have to be told something else than which instances are theirs.
    touched: BTreeSet<NodeId>,
    /// The lowest slot of each reason, and how many more slots it speaks for.
    unplaced: BTreeMap<DeploymentId, Vec<(Unplaced, u32)>>,
    unsettled: BTreeSet<DeploymentId>,
}

impl Planner<'_> {
    /// The deployments to walk, in the order that decides who comes first. Those that give
    /// something up come before those that take.
    fn to_look_at(&self, dirty: &Dirty) -> Vec<DeploymentId> {
        let mut found: Vec<&Deployment> = match dirty {
            Dirty::All => self.snapshot.deployments.values().collect(),
            Dirty::Deployments(ids) => {
                ids.iter().filter_map(|id| self.snapshot.deployments.get(id)).collect()
            }
        };
        found.sort_by(|a, b| {
            let order = |d: &Deployment| d.removed_at.is_none() && !d.stopped;
            (order(a), &a.spec.project, &a.spec.name, &a.id).cmp(&(
                order(b),
                &b.spec.project,
                &b.spec.name,
                &b.id,
            ))
        });
        found.into_iter().map(|deployment| deployment.id.clone()).collect()
    }

    fn finish(self) -> Plan {
        let created = self.placements.created();
        let removed = self.placements.removed();
        let mut touched = self.touched;
        touched.extend(created.iter().chain(&removed).map(|instance| instance.node.clone()));
        let generations = touched
            .into_iter()
            .filter_map(|id| {
                let node = self.snapshot.nodes.get(&id)?;
                let next = assignment::next(node.generation, self.snapshot.epoch);
                Some((id, next))
            })
            .collect();
        let volumes = self
            .placements
            .new_volumes()
            .into_iter()
            .map(|(name, node)| (name, Volume { node, created_at: self.now, removing: false }));
        Plan {
            removed: removed.into_iter().map(|instance| instance.id).collect(),
            created,
            generations,
            volumes: volumes.collect(),
            deployments: self.changed,
            unplaced: self
                .unplaced
                .into_iter()
                .map(|(id, groups)| (id, groups.into_iter().map(speaking_for).collect()))
                .collect(),
            unsettled: self.unsettled,
        }
    }
}

/// The slot's reason with how many other slots have the same.
fn speaking_for((unplaced, more): (Unplaced, u32)) -> Unplaced {
    if more == 0 {
        return unplaced;
    }
    let replicas = if more == 1 { "replica" } else { "replicas" };
    let summary = format!("{} (and {more} more {replicas})", unplaced.summary);
    Unplaced { summary, ..unplaced }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
