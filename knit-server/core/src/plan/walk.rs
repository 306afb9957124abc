//! One deployment: its slots, then its rollout.

use std::collections::BTreeMap;

use knit_rpc::api::{RolloutState, Unplaced};
use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::message::Phase;
use knit_rpc::spec::{Mode, Strategy};

use super::Planner;
use crate::eligibility;
use crate::placement::Chooser;
use crate::rollout::{self, Situation, SlotState};
use crate::snapshot::{Deployment, Rollout};

/// A slot that should be filled, and the only node that may do it, if there is but one.
pub(super) struct WantedSlot {
    pub(super) slot: u32,
    pub(super) only: Option<NodeId>,
}

/// What is kept while a deployment's slots are walked.
#[derive(Default)]
pub(super) struct Walk<'a> {
    /// One for each revision that slots are wanted at: it looks at the nodes once.
    pub(super) choosers: BTreeMap<u64, Chooser<'a>>,
    pub(super) moved: bool,
    pub(super) settled: bool,
}

impl Planner<'_> {
    /// Takes a deployment as far as it goes now; returns whether anything changed.
    pub(super) fn walk(&mut self, id: &DeploymentId) -> bool {
        self.unplaced.remove(id);
        self.unsettled.remove(id);
        let changed = self.changed.get(id).cloned();
        let snapshot = self.snapshot;
        let Some(deployment) = changed.as_ref().or_else(|| snapshot.deployments.get(id)) else {
            return false;
        };
        let slots = self.wanted_slots(deployment);
        let mut walk = Walk { moved: self.drop_unwanted(deployment, &slots), ..Walk::default() };
        if deployment.removed_at.is_some() {
            return walk.moved;
        }
        // The first wave is let change before any slot is taken back to the stable revision: what
        // an interrupted rollout made may be just what is wanted now.
        if deployment.rollout.as_ref().is_some_and(|rollout| rollout.admitted == 0)
            && let Some(next) = self.step_rollout(deployment, &slots)
            && next.rollout.as_ref().is_none_or(|rollout| rollout.admitted > 0)
        {
            self.take_step(deployment, next);
            self.unsettled.insert(id.clone());
            return true;
        }
        walk.settled = deployment.rollout.is_none() || deployment.stopped;
        if deployment.rollout.is_some() && deployment.spec.update.strategy == Strategy::Recreate {
            walk.moved |= self.drop_all_older(deployment, &slots);
        }
        for wanted in &slots {
            self.fill(deployment, wanted, &mut walk);
        }
        if let Some(next) = self.step_rollout(deployment, &slots) {
            walk.moved = true;
            walk.settled = false;
            self.take_step(deployment, next);
        }
        if !walk.settled || is_unproven(deployment) {
            self.unsettled.insert(id.clone());
        }
        walk.moved
    }

    fn wanted_slots(&self, deployment: &Deployment) -> Vec<WantedSlot> {
        if deployment.removed_at.is_some() || deployment.stopped {
            return Vec::new();
        }
        let spec = &deployment.spec;
        match spec.mode {
            Mode::Replicated => {
                (0..spec.replicas).map(|slot| WantedSlot { slot, only: None }).collect()
            }
            Mode::EveryNode => {
                let nodes = eligibility::every_node(self.snapshot, self.verdicts, spec);
                let slots: BTreeMap<u32, &NodeId> =
                    nodes.iter().map(|node| (node.number, &node.id)).collect();
                let wanted =
                    |(slot, node): (u32, &NodeId)| WantedSlot { slot, only: Some(node.clone()) };
                slots.into_iter().map(wanted).collect()
            }
        }
    }

    /// Drops the instances of slots that nobody wants any more.
    fn drop_unwanted(&mut self, deployment: &Deployment, slots: &[WantedSlot]) -> bool {
        let rows = self.placements.of_deployment(&deployment.id);
        let unwanted: Vec<_> = rows
            .filter(|row| slots.binary_search_by_key(&row.slot, |wanted| wanted.slot).is_err())
            .map(|row| row.id.clone())
            .collect();
        for id in &unwanted {
            self.placements.remove(id);
        }
        !unwanted.is_empty()
    }

    /// All old ones stop before the first new one starts.
    fn drop_all_older(&mut self, deployment: &Deployment, slots: &[WantedSlot]) -> bool {
        let mut moved = false;
        for wanted in slots {
            let target = rollout::target(deployment, wanted.slot);
            for row in self.placements.of_slot(&deployment.id, wanted.slot) {
                let is_older = row.spec != *target.spec_hash || row.revision < target.floor;
                if is_older && !self.verdicts.is_gone(&row.node) {
                    self.placements.remove(&row.id);
                    moved = true;
                }
            }
        }
        moved
    }

    /// Slots that wait for the same are told of once: thousands of replicas would repeat every
    /// node's reason thousands of times.
    pub(super) fn note_unplaced(&mut self, deployment: &DeploymentId, unplaced: Unplaced) {
        let groups = self.unplaced.entry(deployment.clone()).or_default();
        let same = groups.iter_mut().find(|(first, _)| {
            first.summary == unplaced.summary && first.reasons == unplaced.reasons
        });
        match same {
            Some((_, more)) => *more += 1,
            None => groups.push((unplaced, 0)),
        }
    }

    fn step_rollout(&self, deployment: &Deployment, slots: &[WantedSlot]) -> Option<Deployment> {
        if deployment.stopped {
            return None;
        }
        if self.awaits_a_node(deployment) {
            return self.put_off(deployment);
        }
        let Some(rollout) = &deployment.rollout else {
            return self.prove_late(deployment, slots);
        };
        let rows = self.placements.of_deployment(&deployment.id);
        let made = rows.filter(|row| row.revision == rollout.revision).collect();
        let unplaced: Vec<Unplaced> = self
            .unplaced
            .get(&deployment.id)
            .map(|groups| groups.iter().map(|(one, _)| one.clone()).collect())
            .unwrap_or_default();
        let situation = Situation {
            snapshot: self.snapshot,
            verdicts: self.verdicts,
            slots: self.slot_states(deployment, slots),
            made,
            unplaced: &unplaced,
            now: self.now,
        };
        let mut next = rollout::step(deployment, &situation);
        if !rollout.announced {
            let changed = next.get_or_insert_with(|| deployment.clone());
            if let Some(rollout) = &mut changed.rollout {
                rollout.announced = true;
            }
        }
        next
    }

    /// Whether a node that runs some of it has yet to show what it holds: until then nothing is
    /// known of how a rollout goes there.
    fn awaits_a_node(&self, deployment: &Deployment) -> bool {
        self.placements.of_deployment(&deployment.id).any(|row| {
            !self.verdicts.is_gone(&row.node)
                && self.snapshot.nodes.get(&row.node).is_some_and(|node| node.adopting)
        })
    }

    /// The deadline is not reached while nobody can tell; it is moved no more often than needed,
    /// because each time is a write.
    fn put_off(&self, deployment: &Deployment) -> Option<Deployment> {
        let rollout = deployment.rollout.as_ref().filter(|rollout| !rollout.paused)?;
        let deadline = deployment.spec.update.deadline.duration();
        (self.now.since(rollout.progress_at) >= deadline / 2 && rollout.progress_at < self.now)
            .then(|| {
                let rollout = Rollout { progress_at: self.now, ..rollout.clone() };
                Deployment { rollout: Some(rollout), ..deployment.clone() }
            })
    }

    fn slot_states(
        &self,
        deployment: &Deployment,
        slots: &[WantedSlot],
    ) -> BTreeMap<u32, SlotState> {
        let state = |wanted: &WantedSlot| {
            let rows = self.placements.of_slot(&deployment.id, wanted.slot);
            let newest = self.newest_current(deployment, wanted, &rows);
            let healthy_since = newest
                .filter(|row| self.snapshot.phase_of(row) == Phase::Running)
                .and_then(|row| self.snapshot.healthy_since.get(&row.id).copied());
            let older = rows.iter().any(|row| {
                newest.is_none_or(|newest| newest.id != row.id) && !self.verdicts.is_gone(&row.node)
            });
            let unknown = wanted.only.as_ref().is_some_and(|node| self.verdicts.is_gone(node));
            (wanted.slot, SlotState { healthy_since, older, unknown })
        };
        slots.iter().map(state).collect()
    }

    /// A revision that failed and came right by itself later is one to go back to all the same.
    fn prove_late(&self, deployment: &Deployment, slots: &[WantedSlot]) -> Option<Deployment> {
        if !is_unproven(deployment) {
            return None;
        }
        let states = self.slot_states(deployment, slots);
        let is_well = !states.is_empty() && states.values().all(|s| s.healthy_since.is_some());
        is_well.then(|| Deployment { stable: Some(deployment.revision), ..deployment.clone() })
    }

    /// Takes note of a rollout's step, and has its nodes told where it changes what they are told.
    fn take_step(&mut self, before: &Deployment, after: Deployment) {
        if tells_nodes(before, &after) {
            let rows = self.placements.of_deployment(&after.id);
            self.touched.extend(rows.map(|row| row.node.clone()));
        }
        self.changed.insert(after.id.clone(), after);
    }
}

/// Whether a rollout's step changes what nodes are told besides which instances are theirs: how
/// health is judged, which a new revision may change, or that ports may be taken.
fn tells_nodes(before: &Deployment, after: &Deployment) -> bool {
    let Some(was) = &before.rollout else { return false };
    let is_promoted = after.rollout.as_ref().is_some_and(|rollout| rollout.promoted);
    !was.announced || (is_promoted && !was.promoted)
}

/// Whether the newest revision failed, and may come right by itself all the same: then since when
/// its instances are healthy is looked at again and again, because a server that starts anew
/// learns of that without any change of theirs.
fn is_unproven(deployment: &Deployment) -> bool {
    let newest = deployment.revisions.get(&deployment.revision);
    deployment.stable != Some(deployment.revision)
        && deployment.removed_at.is_none()
        && !deployment.stopped
        && deployment.rollout.is_none()
        && newest.is_some_and(|newest| newest.state == RolloutState::Failed)
}
