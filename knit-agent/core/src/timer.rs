//! When something is due although nothing happens.

use knit_rpc::Timestamp;

use crate::backoff;
use crate::container::{self, Identity};
use crate::desired::{Desired, Wanted};
use crate::health;
use crate::observed::{Container, ContainerState, Observed};

/// The first moment after `now` at which reconciling, or what is reported, may come out otherwise
/// than at `now`. What the host or the engine does meanwhile is not foreseen.
pub fn next(
    desired: &Desired,
    ours: &[(Identity, &Container)],
    observed: &Observed,
    now: Timestamp,
) -> Option<Timestamp> {
    let memory = &observed.memory;
    let retries = memory.faults.values().map(|fault| fault.retry_at);
    let drained = memory.superseded.values().copied();
    let containers = ours.iter().flat_map(|(identity, container)| {
        let settled = container.settles_in(now).map(|left| now.plus(left));
        let wanted = desired.instances.get(&identity.instance);
        let due = wanted.and_then(|wanted| of_wanted(identity, wanted, container, observed, now));
        [settled, due].into_iter().flatten()
    });
    retries.chain(drained).chain(containers).filter(|at| *at > now).min()
}

fn of_wanted(
    identity: &Identity,
    wanted: &Wanted,
    container: &Container,
    observed: &Observed,
    now: Timestamp,
) -> Option<Timestamp> {
    let (id, memory) = (&identity.instance, &observed.memory);
    match container.state {
        ContainerState::Exited => {
            let pause = memory.restart_pause(id, container.was_stable());
            Some(container.finished_at?.plus(pause))
        }
        ContainerState::Running
            if container.is_cut_off() && container::needs_network(&wanted.spec) =>
        {
            let started = container.started_at?;
            let was_stable = now.since(started) >= backoff::STABLE_AFTER;
            Some(started.plus(memory.restart_pause(id, was_stable)))
        }
        ContainerState::Running => health::gives_up_at(id, wanted, container, memory),
        ContainerState::Created
        | ContainerState::Paused
        | ContainerState::Removing
        | ContainerState::Dead => None,
    }
}
