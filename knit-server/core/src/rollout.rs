//! The walk from one revision to the next: which slots may change now, and when it ends.
//!
//! ```text
//!  admit a wave ──> its slots are healthy ──bake──> admit the next ──> … ──> succeeded
//!        │                    └─ one fails, or nothing comes forward ──> rolled back, paused, failed
//!        └─ canary: wait for a person        blue-green: move all ports, then the old ones go
//! ```
//!
//! Invariant: where a rollout stands is told by [`Rollout`] and by what was observed; a server that
//! starts anew goes on from there, and at most bakes a wave once more.
//!
//! Invariant: a slot that was not admitted is wanted as the stable revision says.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, RolloutState, Unplaced};
use knit_rpc::message::Phase;
use knit_rpc::spec::{DeploymentSpec, HostIp, OnFailure, Order, PortSpec, Strategy};

use crate::liveness::Verdicts;
use crate::revise;
use crate::snapshot::{Deployment, Instance, Rollout, Snapshot};

/// What a slot is wanted as.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub revision: u64,
    pub spec: &'a DeploymentSpec,
    pub spec_hash: &'a knit_rpc::id::SpecHash,
    /// Instances of revisions before this one are replaced.
    pub floor: u64,
}

/// What the slot is wanted as now.
pub fn target(deployment: &Deployment, slot: u32) -> Target<'_> {
    let newest = Target {
        revision: deployment.revision,
        spec: &deployment.spec,
        spec_hash: &deployment.spec_hash,
        floor: deployment.restart_floor,
    };
    let Some(rollout) = deployment.rollout.as_ref().filter(|r| slot >= r.admitted) else {
        return newest;
    };
    let from = rollout.from.and_then(|number| Some((number, deployment.revisions.get(&number)?)));
    match from {
        Some((number, from)) if slot < from.spec.replicas || is_every_node(&from.spec) => {
            Target { revision: number, spec: &from.spec, spec_hash: &from.spec_hash, floor: 0 }
        }
        Some(_) | None => newest,
    }
}

fn is_every_node(spec: &DeploymentSpec) -> bool {
    spec.mode == knit_rpc::spec::Mode::EveryNode
}

/// Why the old instance of a slot has to be gone before the new one starts, wherever; none when
/// it need not.
pub fn stop_first(spec: &DeploymentSpec) -> Option<&'static str> {
    if spec.instance.volumes.iter().any(|volume| !volume.read_only) {
        return Some("a volume has one writer at a time");
    }
    if spec.update.strategy == Strategy::Recreate {
        return Some("the strategy is recreate");
    }
    (spec.update.order == Order::StopFirst).then_some("the manifest says so")
}

/// Why the old instance of a slot has to stop before a new one on the same node starts.
pub fn stop_first_on_node(spec: &DeploymentSpec) -> Option<&'static str> {
    let on_loopback = |port: &PortSpec| port.host_ip == HostIp::Loopback;
    stop_first(spec).or_else(|| {
        if spec.instance.uses_host_network() {
            Some("the host's network has each port once")
        } else if spec.instance.ports.iter().any(on_loopback) {
            Some("Docker holds a port on loopback until its container is gone")
        } else {
            None
        }
    })
}

/// Whether the instance may start but take no port over yet.
pub fn is_held(deployment: &Deployment, instance: &Instance) -> bool {
    deployment.spec.update.strategy == Strategy::BlueGreen
        && deployment.rollout.as_ref().is_some_and(|rollout| {
            rollout.from.is_some() && !rollout.promoted && instance.revision == rollout.revision
        })
}

/// A slot as a rollout looks at it.
#[derive(Debug, Clone)]
pub struct SlotState {
    /// What is wanted runs without a break since then.
    pub healthy_since: Option<Timestamp>,
    /// Older instances of the slot are still decided.
    pub older: bool,
    /// Nobody can tell: its node is not heard, and it may run nowhere else.
    pub unknown: bool,
}

/// Everything that a rollout's next step depends on, besides the deployment.
#[derive(Debug)]
pub struct Situation<'a> {
    pub snapshot: &'a Snapshot,
    pub verdicts: &'a Verdicts,
    /// The wanted slots.
    pub slots: BTreeMap<u32, SlotState>,
    /// The instances that this revision made and that are still decided.
    pub made: Vec<&'a Instance>,
    pub unplaced: &'a [Unplaced],
    pub now: Timestamp,
}

/// The deployment after the rollout's next step; none when nothing changes.
pub fn step(deployment: &Deployment, situation: &Situation<'_>) -> Option<Deployment> {
    let rollout = deployment.rollout.as_ref().filter(|_| !deployment.stopped)?;
    let mut next = deployment.clone();
    if !rollout.paused {
        if let Some((reason, log)) = failure(deployment, rollout, situation) {
            return Some(fail(deployment, reason, log, situation.now));
        }
        go_on(&mut next, rollout, situation);
    }
    (next != *deployment).then_some(next)
}

fn go_on(next: &mut Deployment, rollout: &Rollout, situation: &Situation<'_>) {
    let now = situation.now;
    let bake = next.spec.update.bake.duration();
    let admitted: Vec<&SlotState> = situation
        .slots
        .iter()
        .filter(|(slot, state)| **slot < rollout.admitted && !state.unknown)
        .map(|(_, state)| state)
        .collect();
    let healthy = admitted.iter().filter(|state| state.healthy_since.is_some()).count();
    let baked = |state: &&SlotState| {
        state.healthy_since.is_some_and(|since| now.since(since) >= bake || bake.is_zero())
    };
    let all_baked = admitted.iter().all(baked);
    let none_older = admitted.iter().all(|state| !state.older);
    let rest: Vec<u32> =
        situation.slots.keys().copied().filter(|slot| *slot >= rollout.admitted).collect();
    let pulled = pulled(situation);
    let Some(current) = &mut next.rollout else { return };
    let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
    if healthy > current.healthy || pulled > current.pulled {
        current.progress_at = now;
        current.healthy = current.healthy.max(healthy);
        current.pulled = current.pulled.max(pulled);
    }
    if !all_baked {
        return;
    }
    let strategy = next.spec.update.strategy;
    if !rest.is_empty() {
        let is_canary = strategy == Strategy::Canary && !current.promoted;
        if is_canary && current.admitted > 0 {
            current.paused = true;
            current.message = Some(format!(
                "the canary is healthy: `knit rollout promote {name}` goes on, \
                 `knit rollout abort {name}` goes back",
                name = next.spec.name
            ));
        } else if none_older || current.admitted == 0 {
            let wave = match strategy {
                Strategy::Recreate | Strategy::BlueGreen => u32::MAX,
                Strategy::Rolling | Strategy::Canary => {
                    let slots = u32::try_from(situation.slots.len()).unwrap_or(u32::MAX);
                    next.spec.update.wave.of(slots)
                }
            };
            current.admitted = admitted_after(&rest, wave);
            current.progress_at = now;
        }
        return;
    }
    if strategy == Strategy::BlueGreen && !current.promoted && current.from.is_some() {
        current.promoted = true;
        current.progress_at = now;
        return;
    }
    let is_blue_green = strategy == Strategy::BlueGreen && current.from.is_some();
    // Only a later plan sees the generation that tells them.
    let moved = now > current.progress_at && all_told(situation);
    if none_older && (!is_blue_green || moved) {
        revise::end(next, RolloutState::Succeeded, None, Vec::new(), now);
    }
}

/// Whether every node works on its newest assignment: the one that lets it move the ports.
fn all_told(situation: &Situation<'_>) -> bool {
    let nodes = &situation.snapshot.nodes;
    let told = |instance: &&Instance| {
        nodes.get(&instance.node).is_none_or(|node| node.applied >= node.generation)
            || situation.verdicts.is_gone(&instance.node)
    };
    situation.made.iter().all(told)
}

/// The bound below which `wave` more slots are.
fn admitted_after(rest: &[u32], wave: u32) -> u32 {
    let index = usize::try_from(wave).unwrap_or(usize::MAX);
    rest.get(index).copied().unwrap_or(u32::MAX)
}

fn pulled(situation: &Situation<'_>) -> u64 {
    let statuses = situation.made.iter().filter_map(|one| situation.snapshot.observed_of(one));
    statuses.filter_map(|status| status.pull).map(|pull| pull.done).sum()
}

/// Why the rollout cannot succeed, with the last lines of the instance that shows it.
fn failure(
    deployment: &Deployment,
    rollout: &Rollout,
    situation: &Situation<'_>,
) -> Option<(String, Vec<String>)> {
    let broken = situation.made.iter().find_map(|instance| {
        let status = situation.snapshot.observed_of(instance)?;
        let is_broken = matches!(status.phase, Phase::Failed | Phase::CrashLoop)
            && !situation.verdicts.is_gone(&instance.node);
        is_broken.then_some((*instance, status))
    });
    if let Some((instance, status)) = broken {
        let what = status.message.clone().unwrap_or_else(|| format!("it is {}", status.phase));
        let reason = format!("{}: {what}", place(deployment, instance, situation.snapshot));
        return Some((reason, status.log.clone()));
    }
    let deadline = deployment.spec.update.deadline;
    if situation.now.since(rollout.progress_at) < deadline.duration() {
        return None;
    }
    let waiting = situation.slots.iter().find(|(slot, state)| {
        **slot < rollout.admitted && !state.unknown && state.healthy_since.is_none()
    });
    let (slot, _) = waiting?;
    let head = format!("no further instance became healthy within {deadline}");
    let made = situation.made.iter().find(|instance| instance.slot == *slot);
    Some(if let Some(instance) = made {
        let status = situation.snapshot.observed_of(instance);
        let phase = status.map_or(Phase::Pending, |status| status.phase);
        let message = status.and_then(|status| status.message.clone());
        let message = message.map(|text| format!(": {text}")).unwrap_or_default();
        let place = place(deployment, instance, situation.snapshot);
        let log = status.map(|status| status.log.clone()).unwrap_or_default();
        (format!("{head}: {place} is {phase}{message}"), log)
    } else {
        let why = situation.unplaced.iter().find(|one| one.slot <= *slot);
        let why = why.map(|one| format!(": {}", one.summary)).unwrap_or_default();
        let name = &deployment.spec.name;
        (format!("{head}: {name}.{slot} has no place{why}"), Vec::new())
    })
}

/// `web.1 on fra-2`.
fn place(deployment: &Deployment, instance: &Instance, snapshot: &Snapshot) -> String {
    let node = snapshot.nodes.get(&instance.node).map_or(instance.node.as_str(), |n| n.name());
    format!("{}.{} on {node}", deployment.spec.name, instance.slot)
}

/// What becomes of a rollout that failed.
fn fail(deployment: &Deployment, reason: String, log: Vec<String>, now: Timestamp) -> Deployment {
    let revision = deployment.revisions.get(&deployment.revision);
    let is_way_back = revision
        .is_some_and(|revision| matches!(revision.cause, Cause::Rollback { automatic: true, .. }));
    let from = deployment.rollout.as_ref().and_then(|rollout| rollout.from);
    if deployment.spec.update.on_failure == OnFailure::Pause && !is_way_back {
        let mut paused = deployment.clone();
        if let Some(rollout) = &mut paused.rollout {
            rollout.paused = true;
            rollout.message = Some(reason);
            rollout.log = log;
        }
        return paused;
    }
    let back = from
        .filter(|_| !is_way_back)
        .and_then(|to| revise::give_up(deployment, to, reason.clone(), log.clone(), now).ok());
    back.unwrap_or_else(|| {
        let mut failed = deployment.clone();
        // What was not restarted stays as it is.
        failed.restart_floor = 0;
        revise::end(&mut failed, RolloutState::Failed, Some(reason), log, now);
        failed
    })
}

#[cfg(test)]
mod tests;
