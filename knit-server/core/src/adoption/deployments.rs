//! The deployments that an assignment tells of: new ones, newer ones, and those that ended.

use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, RolloutState};
use knit_rpc::id::DeploymentId;
use knit_rpc::message::AssignedInstance;
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, Mode};

use super::{Adoption, HOLD};
use crate::assignment::{Outline, SentAssignment};
use crate::revise;
use crate::snapshot::{Deployment, Revision, Snapshot};

/// What was removed stays removed, and what was stopped last stays stopped.
pub(super) fn take_ends(
    snapshot: &Snapshot,
    held: &SentAssignment,
    adoption: &mut Adoption,
    now: Timestamp,
) {
    for id in held.removed.iter().filter(|id| !snapshot.removed.contains_key(id)) {
        adoption.removed.insert(id.clone(), now);
        let known = snapshot.deployments.get(id).filter(|known| known.removed_at.is_none());
        if let Some(known) = known {
            let gone = Deployment { removed_at: Some(now), updated_at: now, ..known.clone() };
            adoption.deployments.insert(id.clone(), gone);
        }
    }
    for (id, at) in &held.stopped {
        let Some(known) = current(snapshot, adoption, id) else { continue };
        if known.removed_at.is_none() && !known.stopped && *at > known.updated_at {
            let stopped = Deployment { stopped: true, updated_at: *at, ..known.clone() };
            adoption.deployments.insert(id.clone(), stopped);
        }
    }
}

/// Known deployments as somebody last wanted them, also where no container changed.
pub(super) fn bring_forward(
    snapshot: &Snapshot,
    held: &SentAssignment,
    adoption: &mut Adoption,
    now: Timestamp,
) {
    for (id, outline) in &held.deployments {
        let known = current(snapshot, adoption, id).filter(|known| known.removed_at.is_none());
        let Some(known) = known else { continue };
        let learned = if is_newer(outline, known) {
            forward(known, outline, held, now)
        } else if has_forked(known, outline, held) {
            keep_above(known, outline.revision, now)
        } else {
            continue;
        };
        adoption.deployments.insert(id.clone(), learned);
    }
}

/// When it was changed last goes before its number: a server that was set back gives numbers out
/// again that a node still knows for something else.
fn is_newer(outline: &Outline, known: &Deployment) -> bool {
    let have_moments = outline.updated_at.min(known.updated_at) > Timestamp::default();
    if have_moments {
        (outline.updated_at, outline.revision) > (known.updated_at, known.revision)
    } else {
        (outline.revision, outline.updated_at) > (known.revision, known.updated_at)
    }
}

/// Whether what the node knows by a number was given up by the restore, and something else is
/// wanted since.
fn has_forked(known: &Deployment, outline: &Outline, held: &SentAssignment) -> bool {
    let differs = || {
        let mut told = outline.spec(&held.assignment.specs);
        told.project = known.spec.project.clone();
        told != known.spec
    };
    outline.revision > known.revision || (outline.revision == known.revision && differs())
}

/// What is wanted here stays, by a number above that of what the node was told.
fn keep_above(known: &Deployment, told: u64, now: Timestamp) -> Deployment {
    let newest = known.revisions.get(&known.revision);
    let cause = newest.map_or(Cause::Deploy, |newest| newest.cause.clone());
    let mut kept = revise::next(known, known.spec.clone(), cause, now);
    let number = told.saturating_add(1);
    if let Some(revision) = kept.revisions.remove(&kept.revision) {
        kept.revisions.insert(number, revision);
    }
    if let Some(rollout) = &mut kept.rollout {
        rollout.revision = number;
    }
    // Nobody changed it: another node's word is compared with when somebody did.
    let (stopped, updated_at) = (known.stopped, known.updated_at);
    let hold_until = known.hold_until;
    Deployment { revision: number, stopped, updated_at, hold_until, ..kept }
}

fn forward(
    known: &Deployment,
    outline: &Outline,
    held: &SentAssignment,
    now: Timestamp,
) -> Deployment {
    let mut deployment = Deployment {
        // It was sent to a node, so it ran.
        stopped: known.stopped && outline.updated_at <= known.updated_at,
        updated_at: known.updated_at.max(outline.updated_at),
        restart_floor: known.restart_floor.max(outline.restart_floor),
        ..known.clone()
    };
    if outline.revision > known.revision {
        let mut spec = outline.spec(&held.assignment.specs);
        spec.project = known.spec.project.clone();
        deployment.revision = outline.revision;
        deployment.spec_hash = outline.spec_hash.clone();
        let revision = Revision {
            spec: spec.clone(),
            spec_hash: outline.spec_hash.clone(),
            cause: Cause::Deploy,
            state: RolloutState::Running,
            message: None,
            log: Vec::new(),
            created_at: now,
            ended_at: None,
        };
        deployment.revisions.insert(outline.revision, revision);
        deployment.spec = spec;
        deployment.hold_until = Some(now.plus(HOLD));
        // What it was before is not known; what runs is what there is to go back to.
        revise::end(&mut deployment, RolloutState::Succeeded, None, Vec::new(), now);
    }
    deployment
}

/// Finds or makes the deployment that the instance belongs to; `None` when it was removed.
pub(super) fn take(
    snapshot: &Snapshot,
    held: &SentAssignment,
    adoption: &mut Adoption,
    assigned: &AssignedInstance,
    spec: &InstanceSpec,
    now: Timestamp,
) -> Option<DeploymentId> {
    let id = &assigned.deployment_id;
    if has_ended(snapshot, adoption, id) {
        return None;
    }
    let known = current(snapshot, adoption, id).cloned();
    if let Some(known) = &known {
        if known.removed_at.is_some() {
            return None;
        }
        if known.revision > assigned.revision {
            return Some(id.clone());
        }
    } else if let Some(holder) = snapshot
        .named(&assigned.project, &assigned.deployment)
        .filter(|holder| !has_ended(snapshot, adoption, &holder.id))
    {
        // The name lives a new life here: what runs is an older instance of it, and is replaced
        // as one.
        return Some(holder.id.clone());
    }
    let outline = held.deployments.get(id);
    // Without an outline only the slots tell how many there are.
    let is_whole = |known: &Deployment| {
        known.revision >= assigned.revision && (known.hold_until.is_none() || outline.is_some())
    };
    if known.as_ref().is_some_and(is_whole) {
        return Some(id.clone());
    }
    let taken = outlined(held, assigned, spec, outline, known.as_ref(), now);
    adoption.deployments.insert(id.clone(), taken);
    Some(id.clone())
}

/// The deployment as its outline tells it; what an older server sent has none.
fn outlined(
    held: &SentAssignment,
    assigned: &AssignedInstance,
    instance: &InstanceSpec,
    outline: Option<&Outline>,
    known: Option<&Deployment>,
    now: Timestamp,
) -> Deployment {
    let mut spec = outline.map_or_else(
        || DeploymentSpec::new(assigned.deployment.clone(), instance.clone()),
        |outline| outline.spec(&held.assignment.specs),
    );
    spec.project = assigned.project.clone();
    spec.replicas = spec
        .replicas
        .max(if spec.mode == Mode::Replicated { assigned.slot.saturating_add(1) } else { 1 })
        .max(known.filter(|k| k.hold_until.is_some()).map_or(0, |k| k.spec.replicas));
    let mut deployment = revise::first(assigned.deployment_id.clone(), spec, now);
    let revision = outline.map_or(assigned.revision, |outline| outline.revision);
    deployment.revisions =
        deployment.revisions.into_values().map(|first| (revision, first)).collect();
    deployment.revision = revision;
    deployment.created_at = known.map_or(now, |known| known.created_at);
    // Another node's outline of it is compared with this one's; an older server's has no moment.
    let told = outline.map(|outline| outline.updated_at).filter(|at| *at > Timestamp::default());
    deployment.updated_at = told.unwrap_or(now);
    deployment.restart_floor = outline.map_or(0, |outline| outline.restart_floor);
    deployment.hold_until = Some(now.plus(HOLD));
    revise::end(&mut deployment, RolloutState::Succeeded, None, Vec::new(), now);
    deployment
}

/// Whether the deployment was removed, by all that is known with this assignment.
fn has_ended(snapshot: &Snapshot, adoption: &Adoption, id: &DeploymentId) -> bool {
    snapshot.removed.contains_key(id) || adoption.removed.contains_key(id)
}

fn current<'a>(
    snapshot: &'a Snapshot,
    adoption: &'a Adoption,
    id: &DeploymentId,
) -> Option<&'a Deployment> {
    adoption.deployments.get(id).or_else(|| snapshot.deployments.get(id))
}
