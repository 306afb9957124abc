//! What people do to a deployment: each makes a new deployment value of an old one.
//!
//! Invariant: nothing here places or stops an instance; it says what is wanted, and the planner
//! walks there.

use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, RolloutState};
use knit_rpc::id::DeploymentId;
use knit_rpc::spec::{DeploymentSpec, Strategy};

use crate::snapshot::{Deployment, Revision, Rollout};

/// Revisions that are remembered, besides those that something still needs.
pub const REVISIONS_KEPT: usize = 20;

/// A deployment at its first revision.
pub fn first(id: DeploymentId, spec: DeploymentSpec, now: Timestamp) -> Deployment {
    let spec_hash = spec.instance.hash();
    let mut deployment = Deployment {
        id,
        revision: 0,
        spec: spec.clone(),
        spec_hash,
        created_at: now,
        updated_at: now,
        removed_at: None,
        hold_until: None,
        stopped: false,
        restart_floor: 0,
        stable: None,
        revisions: std::collections::BTreeMap::new(),
        rollout: None,
    };
    advance(&mut deployment, spec, Cause::Deploy, now);
    deployment
}

/// The next revision. A rollout that was under way is superseded, and whoever deploys wants it to
/// run; a stopped deployment that is scaled stays stopped.
pub fn next(known: &Deployment, spec: DeploymentSpec, cause: Cause, now: Timestamp) -> Deployment {
    let mut deployment = known.clone();
    deployment.stopped &= cause == Cause::Scale;
    advance(&mut deployment, spec, cause, now);
    deployment
}

/// The same at another number of replicas.
pub fn scale(known: &Deployment, replicas: u32, now: Timestamp) -> Deployment {
    let spec = DeploymentSpec { replicas, ..known.spec.clone() };
    next(known, spec, Cause::Scale, now)
}

/// The same with the newest version of a secret. What is stopped stays stopped.
pub fn with_secret(
    known: &Deployment,
    spec: DeploymentSpec,
    cause: Cause,
    now: Timestamp,
) -> Deployment {
    let stopped = known.stopped;
    Deployment { stopped, ..next(known, spec, cause, now) }
}

/// The same with new containers for all slots.
pub fn restart(known: &Deployment, now: Timestamp) -> Deployment {
    let mut deployment = next(known, known.spec.clone(), Cause::Restart, now);
    deployment.restart_floor = deployment.revision;
    if let Some(rollout) = &mut deployment.rollout {
        rollout.admitted = 0;
    }
    admit_at_once(&mut deployment);
    deployment
}

/// Another try at the newest revision, whose rollout failed; none when it did not.
pub fn again(known: &Deployment, now: Timestamp) -> Option<Deployment> {
    let newest = known.revisions.get(&known.revision)?;
    if newest.state != RolloutState::Failed {
        return None;
    }
    let mut deployment = known.clone();
    if let Some(revision) = deployment.revisions.get_mut(&known.revision) {
        *revision = Revision {
            state: RolloutState::Running,
            message: None,
            log: Vec::new(),
            ended_at: None,
            ..revision.clone()
        };
    }
    let rollout = Rollout { admitted: u32::MAX, ..begin(&deployment, now) };
    deployment.rollout = Some(rollout);
    Some(deployment)
}

/// Back to an earlier revision's spec: `to`, or the last stable one that differs from the newest.
pub fn rollback(
    known: &Deployment,
    to: Option<u64>,
    automatic: bool,
    now: Timestamp,
) -> Result<Deployment, String> {
    let Some(to) = to.or_else(|| stable_before(known)) else {
        return Err(format!(
            "deployment {} has no earlier stable revision to go back to",
            known.spec.name
        ));
    };
    let Some(revision) = known.revisions.get(&to) else {
        let kept: Vec<String> = known.revisions.keys().map(ToString::to_string).collect();
        return Err(format!(
            "revision {to} of {} is not remembered; there are {}",
            known.spec.name,
            kept.join(", ")
        ));
    };
    let spec = revision.spec.clone();
    if spec == known.spec {
        return Err(format!("revision {to} of {} is what is wanted already", known.spec.name));
    }
    let cause = Cause::Rollback { to, of: known.revision, automatic };
    Ok(next(known, spec, cause, now))
}

/// The revision at which this spec was tried last, if it was rolled back from there. What a version
/// of a secret adds is no part of it, unless it was tried with this very one: a secret that changes
/// makes nothing good that was given up, and what is gone back to is not given up with the version
/// that it was left for.
pub fn given_up(known: &Deployment, spec: &DeploymentSpec) -> Option<u64> {
    let last = |is_it: &dyn Fn(&DeploymentSpec) -> bool| {
        known.revisions.iter().rev().find(|(_, revision)| is_it(&revision.spec))
    };
    let declared = without_versions(spec);
    let (number, revision) = last(&|tried| tried == spec)
        .or_else(|| last(&|tried| without_versions(tried) == declared))?;
    let later = known.revisions.range(number + 1..);
    let was_left = later
        .into_iter()
        .any(|(_, later)| matches!(&later.cause, Cause::Rollback { of, .. } if of == number));
    (was_left || revision.state == RolloutState::RolledBack).then_some(*number)
}

/// As it was written, before the versions of its secrets were filled in.
fn without_versions(spec: &DeploymentSpec) -> DeploymentSpec {
    let mut spec = spec.clone();
    spec.instance.secret_versions.clear();
    spec.instance.secret_kib = 0;
    spec
}

/// Nothing of it should run any more; its slots and data are kept.
pub fn stop(known: &Deployment, now: Timestamp) -> Deployment {
    Deployment { stopped: true, updated_at: now, ..known.clone() }
}

/// It should run again.
pub fn start(known: &Deployment, now: Timestamp) -> Deployment {
    let mut deployment = Deployment { stopped: false, updated_at: now, ..known.clone() };
    if let Some(rollout) = &mut deployment.rollout {
        rollout.progress_at = now;
    }
    deployment
}

/// Has the rollout wait.
pub fn pause(known: &Deployment) -> Result<Deployment, String> {
    change_rollout(known, |rollout| {
        rollout.paused = true;
        rollout.message = Some("paused by a person".to_owned());
    })
}

/// Has a rollout that waits go on.
pub fn resume(known: &Deployment, now: Timestamp) -> Result<Deployment, String> {
    if known.rollout.as_ref().is_some_and(|rollout| !rollout.paused) {
        return Err(format!("the rollout of {} is not paused", known.spec.name));
    }
    change_rollout(known, |rollout| {
        rollout.paused = false;
        rollout.message = None;
        rollout.log.clear();
        rollout.progress_at = now;
    })
}

/// The canary is good: the rest follows.
pub fn promote(known: &Deployment, now: Timestamp) -> Result<Deployment, String> {
    if known.spec.update.strategy != Strategy::Canary {
        return Err(format!(
            "{} is rolled out by {}: only a canary is promoted",
            known.spec.name,
            known.spec.update.strategy.as_str()
        ));
    }
    change_rollout(known, |rollout| {
        rollout.promoted = true;
        rollout.paused = false;
        rollout.message = None;
        rollout.log.clear();
        rollout.progress_at = now;
    })
}

/// Gives the rollout up: back to the stable revision.
pub fn abort(known: &Deployment, now: Timestamp) -> Result<Deployment, String> {
    let Some(rollout) = &known.rollout else { return Err(no_rollout(known)) };
    let Some(stable) = known.stable.filter(|_| rollout.from.is_some()) else {
        return Err(format!(
            "{} has no stable revision to go back to; `knit undeploy` or `knit stop` ends it",
            known.spec.name
        ));
    };
    give_up(known, stable, "aborted by a person".to_owned(), Vec::new(), now)
}

/// Ends the rollout as rolled back and begins the one that leads back.
pub(crate) fn give_up(
    known: &Deployment,
    to: u64,
    message: String,
    log: Vec<String>,
    now: Timestamp,
) -> Result<Deployment, String> {
    let mut given_up = known.clone();
    given_up.rollout = None;
    end(&mut given_up, RolloutState::RolledBack, Some(message), log, now);
    rollback(&given_up, Some(to), true, now)
}

/// Writes the end of the newest revision's rollout down.
pub(crate) fn end(
    deployment: &mut Deployment,
    state: RolloutState,
    message: Option<String>,
    log: Vec<String>,
    now: Timestamp,
) {
    deployment.rollout = None;
    if state == RolloutState::Succeeded {
        deployment.stable = Some(deployment.revision);
    }
    if let Some(revision) = deployment.revisions.get_mut(&deployment.revision) {
        revision.state = state;
        revision.message = message;
        revision.log = log;
        revision.ended_at = Some(now);
    }
    prune(deployment);
}

fn change_rollout(
    known: &Deployment,
    change: impl FnOnce(&mut Rollout),
) -> Result<Deployment, String> {
    let mut deployment = known.clone();
    let Some(rollout) = &mut deployment.rollout else { return Err(no_rollout(known)) };
    change(rollout);
    Ok(deployment)
}

fn no_rollout(known: &Deployment) -> String {
    format!("no rollout of {} is under way", known.spec.name)
}

fn stable_before(known: &Deployment) -> Option<u64> {
    let differs = |number: &u64| {
        known.revisions.get(number).is_some_and(|revision| revision.spec != known.spec)
    };
    known.stable.filter(differs).or_else(|| {
        let proven = |(_, revision): &(&u64, &Revision)| revision.state == RolloutState::Succeeded;
        let newest_first = known.revisions.iter().rev();
        newest_first.filter(proven).map(|(number, _)| *number).find(|number| differs(number))
    })
}

fn advance(deployment: &mut Deployment, spec: DeploymentSpec, cause: Cause, now: Timestamp) {
    if let Some(rollout) = &deployment.rollout {
        // All of it was healthy, only not for long yet: the best there is to go back to.
        let was_healthy = rollout.healthy > 0 && rollout.healthy >= deployment.spec.replicas;
        if deployment.stable.is_none() && was_healthy {
            deployment.stable = Some(deployment.revision);
        }
        end(deployment, RolloutState::Superseded, None, Vec::new(), now);
    }
    deployment.revision += 1;
    deployment.spec_hash = spec.instance.hash();
    deployment.updated_at = now;
    deployment.hold_until = None;
    deployment.revisions.insert(
        deployment.revision,
        Revision {
            spec: spec.clone(),
            spec_hash: deployment.spec_hash.clone(),
            cause,
            state: RolloutState::Running,
            message: None,
            log: Vec::new(),
            created_at: now,
            ended_at: None,
        },
    );
    deployment.spec = spec;
    deployment.rollout = Some(begin(deployment, now));
    admit_at_once(deployment);
    prune(deployment);
}

/// The walk to the newest revision, before its first step.
fn begin(deployment: &Deployment, now: Timestamp) -> Rollout {
    Rollout {
        revision: deployment.revision,
        from: deployment.stable.filter(|stable| *stable != deployment.revision),
        admitted: 0,
        paused: false,
        promoted: false,
        message: None,
        log: Vec::new(),
        started_at: now,
        progress_at: now,
        healthy: 0,
        pulled: 0,
        announced: false,
    }
}

/// Without a stable revision there is nothing to protect, and without a change to the containers
/// nothing is replaced: then all slots may change at once.
fn admit_at_once(deployment: &mut Deployment) {
    let Some(rollout) = &mut deployment.rollout else { return };
    let from = rollout.from.and_then(|from| deployment.revisions.get(&from));
    let same = from.is_some_and(|from| from.spec_hash == deployment.spec_hash)
        && rollout.from.is_some_and(|from| from >= deployment.restart_floor);
    if from.is_none() || same {
        rollout.admitted = u32::MAX;
    }
}

/// Forgets the oldest revisions that nothing needs.
fn prune(deployment: &mut Deployment) {
    let needed = [
        Some(deployment.revision),
        deployment.stable,
        deployment.rollout.as_ref().and_then(|rollout| rollout.from),
    ];
    let mut surplus = deployment.revisions.len().saturating_sub(REVISIONS_KEPT);
    deployment.revisions.retain(|number, _| {
        let kept = surplus == 0 || needed.contains(&Some(*number));
        surplus -= usize::from(!kept);
        kept
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, deployment_id, instance_spec, named};

    #[test]
    fn what_was_left_by_a_rollback_is_remembered_as_given_up() {
        let version = |image| named(1, instance_spec(image));
        let first = first(deployment_id(1), version("v1"), NOW);
        let second = next(&first, version("v2"), Cause::Deploy, NOW);
        assert_eq!(given_up(&second, &version("v2")), None, "it is on its way");
        let back = rollback(&second, Some(1), true, NOW).unwrap();
        assert_eq!(given_up(&back, &version("v2")), Some(2));
        assert_eq!(given_up(&back, &version("v1")), None, "it is what was gone back to");
        assert_eq!(given_up(&back, &version("v3")), None, "it was never tried");
        let scaled = scale(&back, 5, NOW);
        assert_eq!(given_up(&scaled, &version("v2")), Some(2));
        let again = next(&scaled, version("v2"), Cause::Deploy, NOW);
        let third = next(&again, version("v3"), Cause::Deploy, NOW);
        assert_eq!(given_up(&third, &version("v2")), None, "somebody wanted it again");
    }

    #[test]
    fn a_secret_that_changes_makes_nothing_new_of_what_was_given_up() {
        let version = |image, secret| {
            let mut spec = named(1, instance_spec(image));
            spec.instance.secret_versions = [("db".parse().unwrap(), secret)].into();
            spec.instance.secret_kib = u32::try_from(secret).unwrap() * 64;
            spec
        };
        let changed = |version| Cause::Secret { name: "db".parse().unwrap(), version };
        let first = first(deployment_id(1), version("v1", 1), NOW);
        let second = next(&first, version("v2", 1), Cause::Deploy, NOW);
        let back = rollback(&second, Some(1), true, NOW).unwrap();
        assert_eq!(given_up(&back, &version("v2", 2)), Some(2));
        let rotated = with_secret(&back, version("v1", 2), changed(2), NOW);
        assert_eq!(given_up(&rotated, &version("v2", 2)), Some(2));
        assert_eq!(given_up(&rotated, &version("v3", 2)), None, "it was never tried");
        let again = next(&rotated, version("v2", 2), Cause::Deploy, NOW);
        let third = next(&again, version("v3", 2), Cause::Deploy, NOW);
        assert_eq!(given_up(&third, &version("v2", 2)), None, "somebody wanted it again");

        // The version itself was given up.
        let back = rollback(&rotated, Some(1), true, NOW).unwrap();
        assert_eq!(given_up(&back, &version("v1", 2)), Some(4));
        assert_eq!(given_up(&back, &version("v1", 3)), None, "a newer one was never tried");
    }
}
