//! One slot: what it runs, what it should run, and what gives way.

use std::time::Duration;

use knit_rpc::api::Unplaced;
use knit_rpc::id::{InstanceId, NodeId};
use knit_rpc::message::Phase;
use knit_rpc::spec::{HostIp, OnNodeLoss, Strategy};

use super::Planner;
use super::walk::{Walk, WantedSlot};
use crate::eligibility;
use crate::placement::{Chooser, Wanted};
use crate::rollout::{self, Target};
use crate::secrets;
use crate::snapshot::{Deployment, Instance};

/// Attempts that each epoch may make at one slot of one revision: a server that forgot starts
/// above all that it may have made before.
const ATTEMPTS_PER_EPOCH: u64 = 1024;
/// An instance without a ready probe has to be up this long before its predecessor is given up,
/// unless its rollout bakes for less.
const SETTLE_MAX: Duration = Duration::from_secs(1);

impl<'a> Planner<'a> {
    pub(super) fn fill(
        &mut self,
        deployment: &Deployment,
        wanted: &WantedSlot,
        walk: &mut Walk<'a>,
    ) {
        if wanted.only.as_ref().is_some_and(|node| self.verdicts.is_gone(node)) {
            return;
        }
        let mut rows = self.placements.of_slot(&deployment.id, wanted.slot);
        if self.newest_current(deployment, wanted, &rows).is_none() {
            walk.settled = false;
            match self.place(deployment, wanted, &rows, walk) {
                Ok(Some(instance)) => {
                    rows.push(instance.clone());
                    self.placements.insert(instance);
                    walk.moved = true;
                }
                Ok(None) => return,
                Err(unplaced) => {
                    self.note_unplaced(&deployment.id, unplaced);
                }
            }
        }
        if rows.len() > 1 {
            walk.settled = false;
        }
        for id in self.replaced(deployment, wanted, &rows) {
            self.placements.remove(&id);
            walk.moved = true;
        }
    }

    /// The newest instance that is what its slot wants, where it may be.
    pub(super) fn newest_current<'r>(
        &self,
        deployment: &Deployment,
        wanted: &WantedSlot,
        rows: &'r [Instance],
    ) -> Option<&'r Instance> {
        let target = rollout::target(deployment, wanted.slot);
        rows.iter().rev().find(|row| {
            is_as_wanted(row, &target)
                && wanted.only.as_ref().is_none_or(|only| *only == row.node)
                && !self.verdicts.is_gone(&row.node)
                && eligibility::may_stay(self.snapshot, &row.node, target.spec)
        })
    }

    /// A place for the slot; none when room is made for it first.
    fn place(
        &mut self,
        deployment: &Deployment,
        wanted: &WantedSlot,
        rows: &[Instance],
        walk: &mut Walk<'a>,
    ) -> Result<Option<Instance>, Unplaced> {
        let waits = |summary: String| Unplaced { slot: wanted.slot, summary, reasons: Vec::new() };
        if deployment.hold_until.is_some_and(|until| self.now < until) && self.may_be_claimed(rows)
        {
            let summary = "taken in from a node; waiting a moment for other nodes that may run it";
            return Err(waits(summary.to_owned()));
        }
        if let Some(node) = self.waits_for(deployment, rows) {
            return Err(waits(self.waiting_sentence(deployment, node)));
        }
        let target = rollout::target(deployment, wanted.slot);
        if let Some(why) = rollout::stop_first(target.spec)
            && !rows.iter().any(|row| is_as_wanted(row, &target))
        {
            let live: Vec<InstanceId> = rows
                .iter()
                .filter(|row| !self.verdicts.is_gone(&row.node))
                .map(|row| row.id.clone())
                .collect();
            for id in &live {
                self.placements.remove(id);
                walk.moved = true;
            }
            if let Some(node) = self.former_on(deployment, wanted.slot, &target) {
                let name = self.name_of(&node);
                return Err(waits(format!(
                    "its former instance on {name} stops first, because {why}"
                )));
            }
            if !live.is_empty() {
                return Ok(None);
            }
        }
        self.choose(deployment, wanted, rows, &target, walk).map(Some)
    }

    /// Whether a node may still show that it fills the slot: any, or the one that did at the backup.
    fn may_be_claimed(&self, rows: &[Instance]) -> bool {
        let has_not_shown =
            |row: &Instance| self.snapshot.nodes.get(&row.node).is_some_and(|node| node.adopting);
        rows.is_empty() || rows.iter().any(has_not_shown)
    }

    fn choose(
        &mut self,
        deployment: &Deployment,
        wanted: &WantedSlot,
        rows: &[Instance],
        target: &Target<'_>,
        walk: &mut Walk<'a>,
    ) -> Result<Instance, Unplaced> {
        let preferred = rows.iter().rev().find(|row| self.is_running(row)).map(|row| &row.node);
        let (snapshot, verdicts, placements) = (self.snapshot, self.verdicts, &self.placements);
        let chooser = walk.choosers.entry(target.revision).or_insert_with(|| {
            Chooser::new(snapshot, verdicts, placements, &deployment.id, target.spec)
        });
        let question = Wanted {
            deployment: &deployment.id,
            slot: wanted.slot,
            spec: target.spec,
            spec_hash: target.spec_hash,
            preferred,
            only: wanted.only.as_ref(),
        };
        let choice = chooser.choose(&self.placements, &question).map_err(|refused| Unplaced {
            slot: wanted.slot,
            summary: refused.summary,
            reasons: refused.reasons,
        })?;
        for volume in choice.volumes {
            self.placements.bind(volume, choice.node.clone());
        }
        let (id, attempt) = self.new_id(deployment, wanted.slot, target, rows);
        Ok(Instance {
            id,
            deployment: deployment.id.clone(),
            slot: wanted.slot,
            revision: target.revision,
            attempt,
            node: choice.node,
            spec: target.spec_hash.clone(),
            retry: false,
            because: choice.because,
            secrets: secrets::of_new_instance(
                self.snapshot,
                &deployment.spec.project,
                &target.spec.instance,
            ),
        })
    }

    fn new_id(
        &self,
        deployment: &Deployment,
        slot: u32,
        target: &Target<'_>,
        rows: &[Instance],
    ) -> (InstanceId, u32) {
        let first = self.snapshot.epoch.saturating_mul(ATTEMPTS_PER_EPOCH);
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let mut attempt = rows
            .iter()
            .filter(|row| row.revision == target.revision)
            .map(|row| row.attempt.saturating_add(1))
            .max()
            .map_or(first, |next| next.max(first));
        loop {
            let id = InstanceId::derive(&deployment.id, slot, target.revision, attempt);
            // One that was given up may still be there under its id.
            if !self.placements.contains(&id)
                && !self.snapshot.instances.contains_key(&id)
                && !self.snapshot.observed.speaks_of(&deployment.id, &id)
            {
                return (id, attempt);
            }
            attempt = attempt.saturating_add(1);
        }
    }

    /// The lost node that the slot waits for, as its deployment wants it.
    fn waits_for<'r>(&self, deployment: &Deployment, rows: &'r [Instance]) -> Option<&'r NodeId> {
        let policy = deployment.spec.on_node_loss();
        let lost = rows.iter().rev().find(|row| {
            self.verdicts.is_gone(&row.node) && self.snapshot.nodes.contains_key(&row.node)
        })?;
        let waits = match policy {
            OnNodeLoss::Replace => false,
            OnNodeLoss::Wait => true,
            OnNodeLoss::Manual => lost.revision >= deployment.restart_floor,
        };
        waits.then_some(&lost.node)
    }

    fn waiting_sentence(&self, deployment: &Deployment, node: &NodeId) -> String {
        let (name, deployment_name) = (self.name_of(node), &deployment.spec.name);
        if !deployment.spec.instance.volumes.is_empty() {
            return format!("waiting for its data on {name}, which is lost");
        }
        match deployment.spec.on_node_loss() {
            OnNodeLoss::Manual => format!(
                "{name} is lost; `knit restart {deployment_name}` starts it elsewhere \
                 (on_node_loss: manual)"
            ),
            OnNodeLoss::Wait | OnNodeLoss::Replace => format!(
                "waiting for {name}, which is lost, to return or to be removed (on_node_loss: wait)"
            ),
        }
    }

    fn name_of(&self, node: &NodeId) -> String {
        let known = self.snapshot.nodes.get(node);
        known.map_or_else(|| node.to_string(), |node| node.name().to_owned())
    }

    /// A node that can be heard and still has an instance of the slot that was given up; with
    /// `recreate`, of any slot.
    fn former_on(&self, deployment: &Deployment, slot: u32, target: &Target<'_>) -> Option<NodeId> {
        let any_slot = target.spec.update.strategy == Strategy::Recreate;
        let mut former =
            self.snapshot.observed.of_deployment(&deployment.id).filter(|(node, one)| {
                (any_slot || one.slot == slot)
                    && !self.placements.contains(&one.id)
                    && !self.verdicts.is_gone(node)
            });
        former.next().map(|(node, _)| node.clone())
    }

    /// The instances of a slot that are superfluous: those that its newest current one replaces,
    /// and all but one of those that wait to be replaced.
    fn replaced(
        &self,
        deployment: &Deployment,
        wanted: &WantedSlot,
        rows: &[Instance],
    ) -> Vec<InstanceId> {
        if rows.len() < 2 {
            return Vec::new();
        }
        let newest = self.newest_current(deployment, wanted, rows);
        let is_newest = |row: &Instance| newest.is_some_and(|newest| newest.id == row.id);
        let takes_over = newest.is_some_and(|newest| {
            self.has_settled(deployment, newest) && !rollout::is_held(deployment, newest)
        });
        let older: Vec<&Instance> = rows.iter().filter(|row| !is_newest(row)).collect();
        let former = self.former(newest, &older);
        older
            .into_iter()
            .filter(|row| {
                takes_over || (former != Some(&row.id) && !self.may_still_run_unheard(row))
            })
            .map(|row| row.id.clone())
            .collect()
    }

    /// The one of a slot's older instances that stays until its replacement is healthy: what has
    /// been running for longest; while there is no replacement, even what does not run.
    fn former<'r>(
        &self,
        newest: Option<&Instance>,
        older: &[&'r Instance],
    ) -> Option<&'r InstanceId> {
        let excluded = |row: &Instance| {
            newest.is_some_and(|newest| {
                row.node == newest.node && self.exclude_each_other(row, newest)
            })
        };
        let since =
            |row: &Instance| self.snapshot.healthy_since.get(&row.id).copied().unwrap_or(self.now);
        let running = older.iter().filter(|row| self.is_running(row) && !excluded(row));
        let longest = running.min_by_key(|row| since(row)).map(|row| &row.id);
        longest.or_else(|| {
            let heard = older.iter().rev().find(|row| !self.verdicts.is_gone(&row.node));
            heard.filter(|_| newest.is_none()).map(|row| &row.id)
        })
    }

    /// Whether an instance has been healthy for long enough to give up what it replaces.
    fn has_settled(&self, deployment: &Deployment, instance: &Instance) -> bool {
        if self.snapshot.phase_of(instance) != Phase::Running {
            return false;
        }
        let spec = &rollout::target(deployment, instance.slot).spec;
        if spec.health.ready.is_some() {
            return true;
        }
        let settle = SETTLE_MAX.min(spec.update.bake.duration());
        let since = self.snapshot.healthy_since.get(&instance.id);
        settle.is_zero() || since.is_some_and(|since| self.now.since(*since) >= settle)
    }

    /// Whether an instance may still run on a node that cannot be heard: it stays until its
    /// replacement is healthy.
    fn may_still_run_unheard(&self, row: &Instance) -> bool {
        self.verdicts.is_gone(&row.node) && self.snapshot.nodes.contains_key(&row.node)
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

    fn is_running(&self, row: &Instance) -> bool {
        !self.verdicts.is_gone(&row.node) && self.snapshot.phase_of(row) == Phase::Running
    }
}

/// Whether the instance is what the slot is wanted as, wherever it is.
fn is_as_wanted(row: &Instance, target: &Target<'_>) -> bool {
    row.spec == *target.spec_hash && row.revision >= target.floor && !row.retry
}
