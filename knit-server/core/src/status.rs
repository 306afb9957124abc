//! What the API shows of a snapshot.

mod instances;
mod nodes;

use std::collections::BTreeSet;

use knit_rpc::api::{Cause, DeploymentState, DeploymentView, RolloutState, RolloutView, Unplaced};
use knit_rpc::id::DeploymentId;
use knit_rpc::message::Phase;
use knit_rpc::spec::Mode;

use crate::eligibility;
use crate::liveness::Verdicts;
use crate::preview;
use crate::snapshot::{Deployment, Instance, Snapshot};

pub use instances::instances;
pub use nodes::{Asking, MeshView, Peer, nodes, with_asking};

/// One deployment with its instances.
pub fn deployment(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    unplaced: &[Unplaced],
) -> DeploymentView {
    let mine: Vec<&Instance> = snapshot.instances.of_deployment(&deployment.id).collect();
    let unplaced = if deployment.removed_at.is_some() { Vec::new() } else { unplaced.to_vec() };
    let slots = slots(snapshot, verdicts, deployment);
    let running = running(snapshot, verdicts, deployment);
    DeploymentView {
        project: deployment.spec.project.clone(),
        name: deployment.spec.name.clone(),
        revision: deployment.revision,
        replicas: slots,
        running,
        state: state(snapshot, verdicts, deployment, &mine, (running, slots), &unplaced),
        image: deployment.spec.instance.image.clone(),
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
        spec: deployment.spec.clone(),
        instances: instances::of_deployment(snapshot, deployment),
        unplaced,
        stable_revision: deployment.stable,
        rollout: rollout(snapshot, verdicts, deployment),
    }
}

/// How many slots are filled by what runs of the newest revision on nodes that are not gone.
fn running(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &Deployment) -> u32 {
    let running: BTreeSet<u32> = snapshot
        .instances
        .of_deployment(&deployment.id)
        .filter(|i| is_newest(deployment, i) && snapshot.phase_of(i) == Phase::Running)
        .filter(|i| !verdicts.is_gone(&i.node))
        .map(|i| i.slot)
        .collect();
    u32::try_from(running.len()).unwrap_or(u32::MAX)
}

/// How many slots a deployment should have now.
fn slots(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &Deployment) -> u32 {
    let spec = &deployment.spec;
    match spec.mode {
        _ if deployment.stopped => 0,
        Mode::Replicated => spec.replicas,
        Mode::EveryNode => {
            let nodes = eligibility::every_node(snapshot, verdicts, spec);
            u32::try_from(nodes.len()).unwrap_or(u32::MAX)
        }
    }
}

/// The newest rollout, under way or ended; none of a deployment whose revisions nobody remembers.
pub fn rollout(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
) -> Option<RolloutView> {
    // A revision that brought the stable one back by itself speaks for the one that was given up.
    let newest = deployment.revisions.get(&deployment.revision)?;
    let slots = slots(snapshot, verdicts, deployment);
    let walk = deployment.rollout.as_ref();
    let given_up = match newest.cause {
        Cause::Rollback { of, automatic: true, .. } => deployment.revisions.get(&of),
        Cause::Rollback { .. }
        | Cause::Deploy
        | Cause::Scale
        | Cause::Restart
        | Cause::Secret { .. } => None,
    };
    let state = match (walk, newest.state, given_up) {
        (Some(walk), _, _) if walk.paused => RolloutState::Paused,
        (Some(_), _, _) => RolloutState::Running,
        (None, RolloutState::Succeeded, Some(_)) => RolloutState::RolledBack,
        (None, state, _) => state,
    };
    let own_message = walk.map_or(&newest.message, |walk| &walk.message);
    let message = own_message.as_ref().or(given_up.and_then(|old| old.message.as_ref()));
    let own_log = walk.map_or(&newest.log, |walk| &walk.log);
    let log = given_up.filter(|_| own_log.is_empty()).map_or(own_log, |old| &old.log);
    Some(RolloutView {
        revision: deployment.revision,
        from: walk.and_then(|walk| walk.from),
        cause: newest.cause.clone(),
        state,
        message: message.cloned(),
        log: log.clone(),
        admitted: walk.map_or(slots, |walk| walk.admitted.min(slots)),
        healthy: running(snapshot, verdicts, deployment),
        slots,
        notes: preview::notes(snapshot, &deployment.spec),
        started_at: newest.created_at,
        ended_at: newest.ended_at,
    })
}

/// Whether anything of a removed deployment is left on a node that can be heard.
pub fn is_left(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &DeploymentId) -> bool {
    snapshot.instances.of_deployment(deployment).next().is_some()
        || older_left(snapshot, verdicts, deployment)
}

fn state(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    mine: &[&Instance],
    (running, slots): (u32, u32),
    unplaced: &[Unplaced],
) -> DeploymentState {
    if deployment.removed_at.is_some() {
        return DeploymentState::Removing;
    }
    if deployment.stopped {
        let left = !mine.is_empty() || older_left(snapshot, verdicts, &deployment.id);
        return if left { DeploymentState::Removing } else { DeploymentState::Stopped };
    }
    let rollout = deployment.rollout.as_ref();
    if rollout.is_some_and(|rollout| rollout.paused) {
        return DeploymentState::Paused;
    }
    let failed = mine.iter().any(|instance| {
        is_newest(deployment, instance)
            && matches!(snapshot.phase_of(instance), Phase::Failed | Phase::CrashLoop)
            && !verdicts.is_gone(&instance.node)
    });
    if failed {
        return DeploymentState::Failed;
    }
    if !unplaced.is_empty() {
        return DeploymentState::Unplaced;
    }
    let extra = mine.len() > slots as usize || older_left(snapshot, verdicts, &deployment.id);
    if running >= slots && !extra {
        return DeploymentState::Running;
    }
    let began = mine
        .iter()
        .any(|instance| matches!(snapshot.phase_of(instance), Phase::Unready | Phase::Restarting));
    if rollout.is_none() && began { DeploymentState::Degraded } else { DeploymentState::Deploying }
}

fn is_newest(deployment: &Deployment, instance: &Instance) -> bool {
    instance.spec == deployment.spec_hash
        && instance.revision >= deployment.restart_floor
        && !instance.retry
}

/// Whether a node that can be heard still has instances that were given up.
fn older_left(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &DeploymentId) -> bool {
    snapshot.observed.of_deployment(deployment).any(|(node, status)| {
        !verdicts.is_gone(node) && !snapshot.instances.contains_key(&status.id)
    })
}
