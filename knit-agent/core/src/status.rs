//! What the server is told of each instance.
//!
//! Invariant: an instance is `running` only while it is ready and its ports lead to it (or to a
//! newer instance of its slot, or nowhere yet because it is held), so that whoever waits for
//! `running` before stopping the old one loses nothing. One that has ended before has to be up for
//! a while as well.

mod ports;

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::message::{InstanceStatus, Phase};
use knit_rpc::spec::PortSpec;

use crate::backoff::{CRASH_LOOP_ENDS, SETTLE_AGAIN};
use crate::container::{self, Identity};
use crate::desired::{Desired, Owner, Wanted};
use crate::exclusive;
use crate::health::{self, Verdict};
use crate::observed::{Container, ContainerState, Observed, Step};
use crate::probe::Run;

/// Our containers by instance.
type Ours<'a> = BTreeMap<InstanceId, (Identity, &'a Container)>;

/// The whole inventory, in order of instance id.
pub fn inventory(
    owner: &Owner,
    desired: Option<&Desired>,
    observed: &Observed,
    now: Timestamp,
) -> Vec<InstanceStatus> {
    let mut ours = Ours::new();
    for container in &observed.containers {
        let Some(identity) = Identity::of(container, owner) else { continue };
        let better = |(_, known): &(Identity, &Container)| rank(container) > rank(known);
        if ours.get(&identity.instance).is_none_or(better) {
            ours.insert(identity.instance.clone(), (identity, container));
        }
    }
    let mut all: BTreeMap<InstanceId, InstanceStatus> = BTreeMap::new();
    if let Some(desired) = desired {
        let situation = Situation { desired, ours: &ours, observed, now };
        for (id, wanted) in &desired.instances {
            all.insert(id.clone(), wanted_status(id, wanted, &situation));
        }
    }
    for (id, (identity, container)) in &ours {
        all.entry(id.clone()).or_insert_with(|| {
            leftover_status(identity, container, desired.is_some(), observed, now)
        });
    }
    all.into_values().collect()
}

/// The one of several containers of an instance that is spoken of: what runs comes first.
fn rank(container: &Container) -> (bool, &str) {
    (container.state.is_up(), &container.id)
}

struct Situation<'a> {
    desired: &'a Desired,
    ours: &'a Ours<'a>,
    observed: &'a Observed,
    now: Timestamp,
}

fn wanted_status(id: &InstanceId, wanted: &Wanted, situation: &Situation<'_>) -> InstanceStatus {
    let Situation { ours, observed, .. } = situation;
    let found = ours.get(id).map(|(identity, container)| (identity, *container));
    let memory = &observed.memory;
    let assigned = &wanted.assigned;
    let mut status = InstanceStatus {
        id: id.clone(),
        project: assigned.project.clone(),
        deployment: assigned.deployment.clone(),
        deployment_id: assigned.deployment_id.clone(),
        slot: assigned.slot,
        revision: assigned.revision,
        phase: Phase::Pending,
        message: None,
        container: None,
        address: None,
        ports: Vec::new(),
        image_id: None,
        started_at: None,
        exit_code: None,
        restarts: memory.restarts.get(id).map_or(0, |restarts| restarts.count),
        pull: None,
        log: Vec::new(),
    };
    if let Some((identity, container)) = found {
        describe(&mut status, &identity.ports, container, observed);
    }
    let fault = memory.faults.get(id);
    (status.phase, status.message) = match found {
        Some((identity, container)) if container.state.is_up() => {
            up(wanted, identity, container, situation)
        }
        _ if fault.is_some_and(|fault| fault.permanent) => {
            (Phase::Failed, fault.map(|fault| fault.message.clone()))
        }
        Some((_, container)) if container.state == ContainerState::Exited => {
            down(id, wanted, container, situation)
        }
        _ => not_yet(id, wanted, found.is_some(), situation),
    };
    if status.phase == Phase::Pulling {
        status.pull = memory.pulls.get(id).copied();
    }
    if status.phase != Phase::Running {
        status.log = memory.logs.get(id).map(|log| log.lines.to_vec()).unwrap_or_default();
    }
    status
}

/// Why an instance does not start: it failed before, or another one has to end first.
fn not_started(id: &InstanceId, wanted: &Wanted, situation: &Situation<'_>) -> Option<String> {
    let Situation { desired, ours, observed, .. } = situation;
    let fault = observed.memory.faults.get(id).map(|fault| fault.message.clone());
    fault.or_else(|| exclusive::waits_for(wanted, desired, ours.values()))
}

fn not_yet(
    id: &InstanceId,
    wanted: &Wanted,
    is_made: bool,
    situation: &Situation<'_>,
) -> (Phase, Option<String>) {
    let why = not_started(id, wanted, situation);
    let phase = match situation.observed.memory.busy.get(id) {
        Some(Step::Pulling) => Phase::Pulling,
        Some(Step::Starting | Step::Stopping) => Phase::Starting,
        None if is_made => Phase::Starting,
        None => Phase::Pending,
    };
    (phase, why)
}

/// What there is to say of a container that ended.
fn down(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    situation: &Situation<'_>,
) -> (Phase, Option<String>) {
    let memory = &situation.observed.memory;
    let why = not_started(id, wanted, situation);
    let run = Run::of(container);
    let given_up = memory.given_up.get(id).filter(|(given_up, _)| *given_up == run);
    let given_up = given_up.map(|(_, reason)| reason.clone());
    let ends = memory.ends(id, container);
    if ends < CRASH_LOOP_ENDS {
        return (Phase::Restarting, Some(why.or(given_up).unwrap_or_else(|| ended(container))));
    }
    let last = match (given_up, container.exit_code) {
        (Some(reason), _) => format!(", last because it was {reason}"),
        (None, Some(code)) => format!(", last with code {code}"),
        (None, None) => String::new(),
    };
    let pause = health::words(memory.restart_pause(id, container.was_stable()));
    let next = why.unwrap_or_else(|| format!("tried again in {pause}"));
    (Phase::CrashLoop, Some(format!("ended {ends} times in a row{last}; {next}")))
}

fn up(
    wanted: &Wanted,
    identity: &Identity,
    container: &Container,
    situation: &Situation<'_>,
) -> (Phase, Option<String>) {
    let Situation { observed, now, .. } = situation;
    let (id, memory) = (&identity.instance, &observed.memory);
    let fault = memory.faults.get(id).map(|fault| fault.message.clone());
    if container.state == ContainerState::Paused {
        return (Phase::Failed, Some(paused(container)));
    }
    if container::needs_network(&wanted.spec) && container.is_cut_off() {
        let why = "its container is on no network any more: it is replaced by a new one";
        return (Phase::Restarting, Some(fault.unwrap_or_else(|| why.to_owned())));
    }
    let starting = match health::verdict(id, wanted, container, memory, *now) {
        Verdict::Late(why) => return (Phase::Failed, Some(why)),
        Verdict::Dead(why) => return (Phase::Restarting, Some(fault.unwrap_or(why))),
        Verdict::Unready(why) => return (Phase::Unready, Some(why)),
        Verdict::Starting(why) => Some(why),
        Verdict::Ready => ports::wait(wanted, identity, container, situation)
            .map(|why| Some(fault.unwrap_or(why))),
    };
    let unsettled = container.settles_in(*now).map(|_| unsettled(id, container, observed));
    let ends = memory.ends(id, container);
    match (starting, unsettled) {
        (None, None) => (Phase::Running, None),
        (why, again) if ends >= CRASH_LOOP_ENDS => {
            let why = why.flatten().or(again).unwrap_or_else(|| "it is starting".to_owned());
            (Phase::CrashLoop, Some(format!("ended {ends} times in a row; {why}")))
        }
        (Some(why), _) => (Phase::Starting, why),
        (None, Some(again)) => (Phase::Starting, Some(again)),
    }
}

/// Somebody wanted it to stand still: it is left alone.
fn paused(container: &Container) -> String {
    let name = &container.name;
    format!("paused: somebody paused its container; `docker unpause {name}` lets it go on")
}

/// What there is to say of a container that has not been up for long since it ended.
fn unsettled(id: &InstanceId, container: &Container, observed: &Observed) -> String {
    let settle = health::words(SETTLE_AGAIN);
    let ended = container.finished_at.and(observed.memory.exits.get(id));
    let code = ended.map(|code| format!(" with code {code}")).unwrap_or_default();
    format!("up for less than {settle} after it ended{code}")
}

fn ended(container: &Container) -> String {
    match container.exit_code {
        Some(code) if container.error.is_empty() => format!("exited with code {code}"),
        Some(code) => format!("exited with code {code}: {}", container.error),
        None => "exited".to_owned(),
    }
}

/// A container of ours that nobody wants (or of which nobody knows yet whether it is wanted).
fn leftover_status(
    identity: &Identity,
    container: &Container,
    assignment_known: bool,
    observed: &Observed,
    now: Timestamp,
) -> InstanceStatus {
    let fault = observed.memory.faults.get(&identity.instance);
    let phase = match container.state {
        _ if assignment_known => Phase::Stopping,
        ContainerState::Paused => Phase::Failed,
        _ if container.settles_in(now).is_some() => Phase::Starting,
        ContainerState::Running => Phase::Running,
        ContainerState::Created => Phase::Starting,
        ContainerState::Exited => Phase::Restarting,
        ContainerState::Removing | ContainerState::Dead => Phase::Stopping,
    };
    let is_paused = phase == Phase::Failed;
    let mut status = InstanceStatus {
        id: identity.instance.clone(),
        project: identity.project.clone(),
        deployment: identity.deployment.clone(),
        deployment_id: identity.deployment_id.clone(),
        slot: identity.slot,
        revision: identity.revision,
        phase,
        message: fault
            .map(|fault| fault.message.clone())
            .or_else(|| is_paused.then(|| paused(container))),
        container: None,
        address: None,
        ports: Vec::new(),
        image_id: None,
        started_at: None,
        exit_code: None,
        restarts: 0,
        pull: None,
        log: Vec::new(),
    };
    describe(&mut status, &identity.ports, container, observed);
    status
}

fn describe(
    status: &mut InstanceStatus,
    ports: &[PortSpec],
    container: &Container,
    observed: &Observed,
) {
    status.container = Some(container.id.clone());
    status.image_id.clone_from(&container.image_id);
    status.started_at = container.started_at;
    if !container.state.is_up() {
        status.exit_code = container.exit_code;
        return;
    }
    status.address = container.address();
    status.ports =
        ports.iter().filter(|port| ports::leads_to(port, container, observed)).cloned().collect();
}
