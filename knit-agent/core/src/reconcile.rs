//! Compares what should run with what runs.
//!
//! ```text
//! wanted, no container     Pull? -> WriteFiles? -> EnsureNetwork* -> EnsureVolume* -> Create -> Start
//! wanted, ended            Start, after a pause
//! wanted, other spec       Stop -> Remove, then as if there were none
//! wanted, new secrets      RefreshSecrets, for those that are told of by a signal
//! wanted, on no network    the same, after a pause
//! wanted, not alive, or    GiveUp, then as if it had ended; after a longer pause if it was never
//!  not ready in time       ready
//! not wanted               Publish (without it) -> drain, if another took its port -> Stop
//!                          -> Remove -> RemoveFiles
//! network, volume          made before the container that has it, removed when none has it (a
//!                          volume: when the assignment says so as well)
//! ```
//!
//! Invariant: a container without our cluster's and node's labels gets no action. A wanted
//! instance that runs with the right spec on its network gets none either. Doing all actions and asking again
//! comes to an end with nothing left to do. No instance starts while an older one of its slot, or
//! one that nobody wants, still has its volume or its place on the host's network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;

use knit_rpc::spec::PullPolicy;

use crate::action::{Action, GivenUp};
use crate::backoff;
use crate::container::{self, Identity};
use crate::desired::{Desired, Wanted};
use crate::exclusive;
use crate::health::{self, Verdict};
use crate::network::{self, NetworkPlan};
use crate::observed::{Container, ContainerState, Observed};
use crate::{publish, volume};

/// What to do next on a node whose mesh addresses are `mesh`.
pub fn reconcile(
    desired: &Desired,
    observed: &Observed,
    mesh: &BTreeSet<Ipv4Addr>,
    now: Timestamp,
) -> Vec<Action> {
    let ours = ours(desired, observed);
    let mut actions = Vec::new();

    let ports = publish::wanted(Some(desired), &ours, observed, now);
    let superseded = publish::superseded(desired, &ours, &observed.published, &ports);
    if ports != observed.published {
        actions.push(Action::Publish(ports));
    }
    let mut by_instance: BTreeMap<&InstanceId, Vec<(&Identity, &Container)>> = BTreeMap::new();
    for (identity, container) in &ours {
        by_instance.entry(&identity.instance).or_default().push((identity, container));
    }
    let busy = &observed.memory.busy;
    for (id, containers) in &by_instance {
        let drains = observed.memory.drains(id, now)
            || containers
                .iter()
                .filter_map(|(_, one)| one.address())
                .any(|address| superseded.get(&address).is_some_and(|drain| !drain.is_zero()));
        let is_up = containers.iter().any(|(_, container)| container.state.is_up());
        let is_unwanted = !desired.instances.contains_key(*id);
        if is_unwanted && !busy.contains_key(*id) && !(drains && is_up) {
            take_down(id, containers, observed, now, &mut actions);
        }
    }
    for (id, wanted) in &desired.instances {
        if !busy.contains_key(id) {
            let containers = by_instance.get(id).map_or(&[][..], Vec::as_slice);
            let situation = Situation { desired, observed, ours: &ours, mesh, now };
            bring_up(id, wanted, containers, &situation, &mut actions);
        }
    }
    let kept: BTreeSet<&InstanceId> =
        observed.files.iter().chain(observed.secrets.keys()).collect();
    let leftovers = kept.into_iter().filter(|id| {
        !desired.instances.contains_key(*id)
            && !by_instance.contains_key(*id)
            && !busy.contains_key(*id)
    });
    actions.extend(leftovers.map(|id| Action::RemoveFiles { instance: id.clone() }));
    if observed.memory.tidying.is_due(now) {
        let networks = network::to_remove(desired, observed, &ours);
        actions.extend(networks.into_iter().map(Action::RemoveNetwork));
        let volumes = volume::to_remove(desired, observed, &ours);
        actions.extend(volumes.into_iter().map(Action::RemoveVolume));
    }
    actions
}

struct Situation<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    ours: &'a [(Identity, &'a Container)],
    mesh: &'a BTreeSet<Ipv4Addr>,
    now: Timestamp,
}

/// Our containers, in an order that does not depend on how they were listed.
fn ours<'a>(desired: &Desired, observed: &'a Observed) -> Vec<(Identity, &'a Container)> {
    let mut ours: Vec<_> = observed
        .containers
        .iter()
        .filter_map(|container| Some((Identity::of(container, &desired.owner)?, container)))
        .collect();
    ours.sort_by(|(_, left), (_, right)| left.id.cmp(&right.id));
    ours
}

fn take_down(
    id: &InstanceId,
    containers: &[(&Identity, &Container)],
    observed: &Observed,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    // A stop that failed is tried again after a pause, like everything else.
    if observed.memory.waits_to_go(id, now) {
        return;
    }
    for (_, container) in containers {
        dispose(id, container, actions);
    }
    if observed.files.contains(id) || observed.secrets.contains_key(id) {
        actions.push(Action::RemoveFiles { instance: id.clone() });
    }
}

fn dispose(id: &InstanceId, container: &Container, actions: &mut Vec<Action>) {
    if container.state == ContainerState::Removing {
        return;
    }
    if container.state.is_up() {
        actions.push(Action::Stop { instance: id.clone(), container: container.id.clone() });
    }
    actions.push(Action::Remove { instance: id.clone(), container: container.id.clone() });
}

fn bring_up(
    id: &InstanceId,
    wanted: &Wanted,
    containers: &[(&Identity, &Container)],
    situation: &Situation<'_>,
    actions: &mut Vec<Action>,
) {
    let kept = containers
        .iter()
        .filter(|(identity, _)| identity.spec == wanted.assigned.spec)
        .map(|(_, container)| *container)
        .filter(|container| is_usable(container) && !is_lost(id, wanted, container, situation))
        .min_by_key(|container| (!container.state.is_up(), &container.id));
    for (_, container) in containers {
        if kept.is_none_or(|kept| kept.id != container.id) {
            dispose(id, container, actions);
        }
    }
    match kept {
        Some(container) if container.state.is_up() => {
            refresh(id, wanted, container, situation, actions);
            give_up(id, wanted, container, situation, actions);
        }
        Some(container) => start_again(id, wanted, container, situation, actions),
        None if containers.iter().any(|(_, c)| c.state == ContainerState::Removing) => {}
        None => {
            let again = containers.iter().any(|(_, one)| is_lost(id, wanted, one, situation));
            make(id, wanted, again, situation, actions);
        }
    }
}

/// Ends a container that is up but of no use.
fn give_up(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    situation: &Situation<'_>,
    actions: &mut Vec<Action>,
) {
    let Situation { observed: Observed { memory, .. }, now, .. } = situation;
    if container.state != ContainerState::Running || memory.waits(id, *now) {
        return;
    }
    let (why, reason) = match health::verdict(id, wanted, container, memory, *now) {
        Verdict::Late(reason) => (GivenUp::Late, reason),
        Verdict::Dead(reason) => (GivenUp::Dead, reason),
        Verdict::Starting(_) | Verdict::Ready | Verdict::Unready(_) => return,
    };
    let (instance, container) = (id.clone(), container.id.clone());
    actions.push(Action::GiveUp { instance, container, why, reason });
}

/// Whether the files of its secrets are not there, or of other versions.
fn lacks_secrets(id: &InstanceId, wanted: &Wanted, observed: &Observed) -> bool {
    wanted.has_secret_files() && observed.secrets.get(id) != Some(&wanted.secret_versions())
}

/// Gives a container that is up the new versions that it is to be told of by a signal.
fn refresh(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    situation: &Situation<'_>,
    actions: &mut Vec<Action>,
) {
    let Situation { observed, now, .. } = situation;
    let Some(before) = observed.secrets.get(id) else { return };
    let signals = wanted.signals(before);
    if signals.is_empty() || observed.memory.waits(id, *now) {
        return;
    }
    let (instance, container) = (id.clone(), container.id.clone());
    actions.push(Action::RefreshSecrets { instance, container, signals });
}

/// Whether a container was taken off its network and it is time to replace it: one that happens
/// to again and again waits longer each time.
fn is_lost(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    situation: &Situation<'_>,
) -> bool {
    let Situation { observed: Observed { memory, .. }, now, .. } = situation;
    let started = container.started_at.unwrap_or_default();
    let was_stable = now.since(started) >= backoff::STABLE_AFTER;
    container.is_cut_off()
        && container::needs_network(&wanted.spec)
        && *now >= started.plus(memory.restart_pause(id, was_stable))
        && !memory.waits(id, *now)
}

/// A container that Docker could not start stays `created` with an error and never starts.
fn is_usable(container: &Container) -> bool {
    match container.state {
        ContainerState::Created => container.error.is_empty(),
        ContainerState::Running | ContainerState::Paused | ContainerState::Exited => true,
        ContainerState::Removing | ContainerState::Dead => false,
    }
}

fn start_again(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    situation: &Situation<'_>,
    actions: &mut Vec<Action>,
) {
    let (observed, now) = (situation.observed, situation.now);
    let ended = container.state == ContainerState::Exited;
    if ended {
        let pause = observed.memory.restart_pause(id, container.was_stable());
        let due = container.finished_at.unwrap_or_default().plus(pause);
        if now < due {
            return;
        }
    }
    if observed.memory.waits(id, now) || is_blocked(id, wanted, situation, actions) {
        return;
    }
    let is_rendered = observed.files.contains(id) || wanted.spec.templates.is_empty();
    if !is_rendered || lacks_secrets(id, wanted, observed) {
        actions.push(Action::WriteFiles { instance: id.clone() });
    }
    let start =
        Action::Start { instance: id.clone(), container: container.id.clone(), again: ended };
    actions.push(start);
}

/// `again` when it takes the place of one that ran.
fn make(
    id: &InstanceId,
    wanted: &Wanted,
    again: bool,
    situation: &Situation<'_>,
    actions: &mut Vec<Action>,
) {
    let observed = situation.observed;
    if observed.memory.waits(id, situation.now) || is_blocked(id, wanted, situation, actions) {
        return;
    }
    let image = container::image(&wanted.spec);
    match wanted.policy.pull_policy {
        PullPolicy::Missing | PullPolicy::Never if observed.images.contains(&image) => {}
        PullPolicy::Missing | PullPolicy::Always => {
            actions.push(Action::Pull { instance: id.clone(), image });
        }
        PullPolicy::Never => {
            let reason = format!("image {image} is not here and pull_policy is never");
            return refuse(id, reason, observed, actions);
        }
    }
    if !wanted.spec.templates.is_empty() || wanted.has_secret_files() {
        actions.push(Action::WriteFiles { instance: id.clone() });
    }
    let owner = &situation.desired.owner;
    for network in network::joined(wanted, situation.desired) {
        let network = NetworkPlan::of(owner, network);
        actions.push(Action::EnsureNetwork { instance: id.clone(), network });
    }
    for volume in volume::of(wanted) {
        let volume = volume::plan(owner, &volume);
        actions.push(Action::EnsureVolume { instance: id.clone(), volume });
    }
    actions.push(Action::Create { instance: id.clone() });
    let container = container::name(wanted);
    actions.push(Action::Start { instance: id.clone(), container, again });
}

fn is_blocked(
    id: &InstanceId,
    wanted: &Wanted,
    situation: &Situation<'_>,
    actions: &mut Vec<Action>,
) -> bool {
    let Situation { desired, observed, ours, mesh, .. } = situation;
    // Who is in the way is on its way out: nothing is wrong.
    if exclusive::waits_for(wanted, desired, *ours).is_some() {
        return true;
    }
    let reason = policy_obstacle(wanted, observed)
        .or_else(|| publish::obstacle(wanted, desired, ours, observed, mesh))
        .or_else(|| network::obstacle(wanted, desired, observed, ours));
    let Some(reason) = reason else { return false };
    refuse(id, reason, observed, actions);
    true
}

/// What of an instance this node does not allow. The server plans by it too; this holds whatever
/// the server says.
fn policy_obstacle(wanted: &Wanted, observed: &Observed) -> Option<String> {
    let refused = observed.policy.refuses(&wanted.spec)?;
    Some(format!("this node's policy (agent.toml) refuses {refused}"))
}

/// Notes once what is in an instance's way.
fn refuse(id: &InstanceId, reason: String, observed: &Observed, actions: &mut Vec<Action>) {
    if !observed.memory.is_blocked_by(id, &reason) {
        actions.push(Action::Fail { instance: id.clone(), reason });
    }
}

#[cfg(test)]
pub(crate) mod tests;
