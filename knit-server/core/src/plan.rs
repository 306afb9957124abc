//! Decides which node runs which instance.
//!
//! ```text
//! for each slot:   no current instance? ──place──> a new attempt beside what runs
//!                  newest one runs?     ──settle─> everything older of the slot goes
//! ```
//!
//! Invariant: planning reads nothing but its arguments. Equal snapshots give equal plans, and
//! planning a snapshot that already carries the plan changes nothing.
//!
//! Invariant: an instance that runs is never given up before its replacement runs, unless the
//! deployment is gone, the slot is gone, or the host allows only one at a time: in its network, or
//! on a port of its loopback.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::api::Unplaced;
use knit_rpc::id::{DeploymentId, InstanceId, NodeId};
use knit_rpc::message::{Generation, Phase};
use knit_rpc::spec::{HostIp, VolumeName};

use crate::assignment;
use crate::eligibility;
use crate::liveness::{self, Verdicts};
use crate::placement::{Choice, Chooser, Placements, Wanted};
use crate::snapshot::{Deployment, Instance, Snapshot, Volume};

/// Attempts that each epoch may make at one slot of one revision: a server that forgot starts
/// above all that it may have made before.
const ATTEMPTS_PER_EPOCH: u64 = 1024;
/// Reasons that are told per slot.
const REASONS_SHOWN_MAX: usize = 100;

/// What has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    All,
    /// These, and all that wait for a place. Nodes must not have changed.
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
    /// Slots without a place; one stands for all that have the same reasons.
    pub unplaced: BTreeMap<DeploymentId, Vec<Unplaced>>,
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
        snapshot.volumes.extend(self.volumes.iter().map(|(n, v)| (n.clone(), v.clone())));
        for (id, generation) in &self.generations {
            if let Some(node) = snapshot.nodes.get_mut(id) {
                node.generation = *generation;
            }
        }
    }
}

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
        unplaced: BTreeMap::new(),
    };
    planner.drop_unwanted();
    let deployments = planner.to_look_at(dirty);
    // Each pass only fills slots and drops what is replaced, so the passes end; a later pass sees
    // the ports that an earlier one freed.
    while planner.pass(&deployments) {}
    planner.finish()
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    verdicts: &'a Verdicts,
    now: Timestamp,
    placements: Placements<'a>,
    /// The lowest slot of each reason, and how many more slots it speaks for.
    unplaced: BTreeMap<DeploymentId, Vec<(Unplaced, u32)>>,
}

impl<'a> Planner<'a> {
    /// Drops the instances of removed deployments and of slots that are no more.
    fn drop_unwanted(&mut self) {
        for instance in self.snapshot.instances.values() {
            let wanted = self
                .snapshot
                .deployments
                .get(&instance.deployment)
                .filter(|deployment| deployment.removed_at.is_none())
                .is_some_and(|deployment| instance.slot < deployment.spec.replicas);
            if !wanted {
                self.placements.remove(&instance.id);
            }
        }
    }

    /// The deployments to walk, in the order that decides who comes first.
    fn to_look_at(&self, dirty: &Dirty) -> Vec<&'a Deployment> {
        let mut found: Vec<&Deployment> = self
            .snapshot
            .deployments
            .values()
            .filter(|deployment| deployment.removed_at.is_none())
            .filter(|deployment| match dirty {
                Dirty::All => true,
                Dirty::Deployments(ids) => ids.contains(&deployment.id) || self.has_gap(deployment),
            })
            .collect();
        found.sort_by(|a, b| {
            (&a.spec.project, &a.spec.name, &a.id).cmp(&(&b.spec.project, &b.spec.name, &b.id))
        });
        found
    }

    fn has_gap(&self, deployment: &Deployment) -> bool {
        let filled: BTreeSet<u32> = self
            .placements
            .of_deployment(&deployment.id)
            .filter(|instance| self.is_current(deployment, instance))
            .map(|instance| instance.slot)
            .collect();
        filled.len() < deployment.spec.replicas as usize
    }

    /// Walks every slot once; returns whether anything changed.
    fn pass(&mut self, deployments: &[&'a Deployment]) -> bool {
        let mut changed = false;
        self.unplaced.clear();
        for deployment in deployments {
            for slot in 0..deployment.spec.replicas {
                let mut rows = self.placements.of_slot(&deployment.id, slot);
                if !rows.iter().any(|row| self.is_current(deployment, row)) {
                    match self.place(deployment, slot, &rows) {
                        Ok(instance) => {
                            rows.push(instance.clone());
                            self.placements.insert(instance);
                            changed = true;
                        }
                        Err(unplaced) => {
                            self.note_unplaced(&deployment.id, unplaced);
                        }
                    }
                }
                for id in self.replaced(deployment, &rows) {
                    self.placements.remove(&id);
                    changed = true;
                }
            }
        }
        changed
    }

    /// Slots that wait for the same are told of once: thousands of replicas would repeat every
    /// node's reason thousands of times.
    fn note_unplaced(&mut self, deployment: &DeploymentId, unplaced: Unplaced) {
        let groups = self.unplaced.entry(deployment.clone()).or_default();
        let same = groups.iter_mut().find(|(first, _)| {
            first.summary == unplaced.summary && first.reasons == unplaced.reasons
        });
        match same {
            Some((_, more)) => *more += 1,
            None => groups.push((unplaced, 0)),
        }
    }

    /// Whether the instance is what its deployment wants, where it wants it.
    fn is_current(&self, deployment: &Deployment, instance: &Instance) -> bool {
        instance.spec == deployment.spec_hash
            && !instance.retry
            && !self.verdicts.is_gone(&instance.node)
            && eligibility::may_stay(self.snapshot, &instance.node, &deployment.spec)
    }

    fn place(
        &self,
        deployment: &Deployment,
        slot: u32,
        rows: &[Instance],
    ) -> Result<Instance, Unplaced> {
        if deployment.hold_until.is_some_and(|until| self.now < until) && rows.is_empty() {
            return Err(Unplaced {
                slot,
                summary: "taken in from a node; waiting a moment for other nodes that may run it"
                    .to_owned(),
                reasons: Vec::new(),
            });
        }
        let preferred = rows.iter().rev().find(|row| self.is_healthy(row)).map(|row| &row.node);
        let wanted = Wanted {
            deployment: &deployment.id,
            slot,
            spec: &deployment.spec,
            spec_hash: &deployment.spec_hash,
            preferred,
            only: None,
        };
        let mut chooser = Chooser::new(
            self.snapshot,
            self.verdicts,
            &self.placements,
            &deployment.id,
            &deployment.spec,
        );
        let choice = chooser.choose(&self.placements, &wanted).map_err(|refused| Unplaced {
            slot,
            summary: refused.summary,
            reasons: refused.reasons.into_iter().take(REASONS_SHOWN_MAX).collect(),
        })?;
        Ok(self.new_instance(deployment, slot, rows, choice))
    }

    fn new_instance(
        &self,
        deployment: &Deployment,
        slot: u32,
        rows: &[Instance],
        choice: Choice,
    ) -> Instance {
        let first = self.snapshot.epoch.saturating_mul(ATTEMPTS_PER_EPOCH);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let mut attempt = rows
            .iter()
            .filter(|row| row.revision == deployment.revision)
            .map(|row| row.attempt.saturating_add(1))
            .max()
            .map_or(first, |next| next.max(first));
        let mut id = InstanceId::derive(&deployment.id, slot, deployment.revision, attempt);
        while self.placements.contains(&id) {
            attempt = attempt.saturating_add(1);
            id = InstanceId::derive(&deployment.id, slot, deployment.revision, attempt);
        }
        Instance {
            id,
            deployment: deployment.id.clone(),
            slot,
            revision: deployment.revision,
            attempt,
            node: choice.node,
            spec: deployment.spec_hash.clone(),
            retry: false,
            because: choice.because,
        }
    }

    /// The instances of a slot that its newest current one makes superfluous.
    fn replaced(&self, deployment: &Deployment, rows: &[Instance]) -> Vec<InstanceId> {
        let Some(newest) = rows.iter().rev().find(|row| self.is_current(deployment, row)) else {
            return Vec::new();
        };
        let newest_runs = self.snapshot.phase_of(newest) == Phase::Running;
        rows.iter()
            .filter(|row| row.id != newest.id)
            .filter(|row| newest_runs || !self.is_worth_keeping(row, newest))
            .map(|row| row.id.clone())
            .collect()
    }

    /// Whether an instance stays until its replacement runs: what runs, and what may still run on
    /// a node that cannot be heard.
    fn is_worth_keeping(&self, row: &Instance, newest: &Instance) -> bool {
        if self.verdicts.is_gone(&row.node) {
            return self.snapshot.nodes.contains_key(&row.node);
        }
        let one_at_a_time = row.node == newest.node && self.exclude_each_other(row, newest);
        self.is_healthy(row) && !one_at_a_time
    }

    /// Whether two instances cannot run on one host at once: both are in the host's network, or
    /// both have one port of the host's loopback, which Docker holds until the first is gone.
    fn exclude_each_other(&self, a: &Instance, b: &Instance) -> bool {
        let specs = &self.snapshot.specs;
        let (Some(a), Some(b)) = (specs.get(&a.spec), specs.get(&b.spec)) else { return false };
        let shared_loopback = a.ports.iter().any(|port| {
            port.host_ip == HostIp::Loopback
                && b.ports.iter().any(|other| {
                    other.host_ip == HostIp::Loopback
                        && (other.host_port, other.protocol) == (port.host_port, port.protocol)
                })
        });
        shared_loopback || (a.uses_host_network() && b.uses_host_network())
    }

    fn is_healthy(&self, row: &Instance) -> bool {
        !self.verdicts.is_gone(&row.node) && self.snapshot.phase_of(row) == Phase::Running
    }

    fn finish(self) -> Plan {
        let created = self.placements.created();
        let removed = self.placements.removed();
        let touched: BTreeSet<&NodeId> = created.iter().chain(&removed).map(|i| &i.node).collect();
        let generations = touched
            .into_iter()
            .filter_map(|id| {
                let node = self.snapshot.nodes.get(id)?;
                Some((id.clone(), assignment::next(node.generation, self.snapshot.epoch)))
            })
            .collect();
        Plan {
            removed: removed.into_iter().map(|instance| instance.id.clone()).collect(),
            created,
            generations,
            deployments: BTreeMap::new(),
            volumes: BTreeMap::new(),
            unplaced: self
                .unplaced
                .into_iter()
                .map(|(id, groups)| (id, groups.into_iter().map(speaking_for).collect()))
                .collect(),
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
