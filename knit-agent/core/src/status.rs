//! What the server is told of each instance.
//!
//! Invariant: an instance is `running` only once its ports lead to it (or to a newer instance of
//! its slot), and only once it has been up for a while, so that whoever waits for `running` before
//! stopping the old one loses nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::message::{InstanceStatus, Phase};
use knit_rpc::spec::PortSpec;

use crate::container::{self, Identity};
use crate::desired::{Desired, Owner, Wanted};
use crate::observed::{Container, ContainerState, Observed, Step};
use crate::publish::{self, Target};

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
    for (id, wanted) in desired.iter().flat_map(|desired| &desired.instances) {
        let found = ours.get(id).map(|(identity, container)| (identity, *container));
        all.insert(id.clone(), wanted_status(id, wanted, found, &ours, observed, now));
    }
    for (id, (identity, container)) in &ours {
        all.entry(id.clone()).or_insert_with(|| {
            leftover_status(identity, container, desired.is_some(), observed, now)
        });
    }
    all.into_values().collect()
}

/// When the next of our containers may have been up for long enough to count as running.
pub fn settles_in(owner: &Owner, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let ours = observed.containers.iter().filter(|one| Identity::of(one, owner).is_some());
    ours.filter_map(|container| container.settles_in(now)).min()
}

/// The one of several containers of an instance that is spoken of: what runs comes first.
fn rank(container: &Container) -> (bool, &str) {
    (container.state.is_up(), &container.id)
}

fn wanted_status(
    id: &InstanceId,
    wanted: &Wanted,
    found: Option<(&Identity, &Container)>,
    ours: &Ours<'_>,
    observed: &Observed,
    now: Timestamp,
) -> InstanceStatus {
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
        restarts: observed.memory.restarts.get(id).map_or(0, |restarts| restarts.count),
        pull: None,
        log: Vec::new(),
    };
    if let Some((identity, container)) = found {
        describe(&mut status, &identity.ports, container, observed);
    }
    let container = found.map(|(_, container)| container);
    let state = container.map(|container| container.state);
    let fault = observed.memory.faults.get(id);
    (status.phase, status.message) = match (state, fault) {
        (Some(state), _) if state.is_up() => up(wanted, found, ours, observed, now),
        (_, Some(fault)) if fault.permanent => (Phase::Failed, Some(fault.message.clone())),
        (Some(ContainerState::Exited), _) => {
            let message = fault.map(|fault| fault.message.clone());
            (Phase::Restarting, message.or_else(|| container.map(ended)))
        }
        (_, fault) => (not_yet(id, state, observed), fault.map(|fault| fault.message.clone())),
    };
    status
}

fn not_yet(id: &InstanceId, state: Option<ContainerState>, observed: &Observed) -> Phase {
    match observed.memory.busy.get(id) {
        Some(Step::Pulling) => Phase::Pulling,
        Some(Step::Starting | Step::Stopping) => Phase::Starting,
        None if state.is_some() => Phase::Starting,
        None => Phase::Pending,
    }
}

fn up(
    wanted: &Wanted,
    found: Option<(&Identity, &Container)>,
    ours: &Ours<'_>,
    observed: &Observed,
    now: Timestamp,
) -> (Phase, Option<String>) {
    let Some((identity, container)) = found else { return (Phase::Starting, None) };
    let fault = observed.memory.faults.get(&identity.instance);
    if container.state == ContainerState::Paused {
        return (Phase::Failed, Some(paused(container)));
    }
    if container::needs_network(&wanted.spec) && container.is_cut_off() {
        let why = "its container is on no network any more: it is replaced by a new one";
        let message = fault.map_or_else(|| why.to_owned(), |fault| fault.message.clone());
        return (Phase::Restarting, Some(message));
    }
    // On the host's own network nothing is mapped.
    let mapped = container.address().map(|_| &identity.ports);
    let waiting = mapped.into_iter().flatten().find_map(|port| {
        let keys = publish::host_ports(port, observed);
        keys.iter().find_map(|key| {
            let holder = observed.published.get(key);
            not_led_to(identity, container, port, holder, ours, observed)
        })
    });
    match waiting {
        Some(waiting) => {
            (Phase::Starting, Some(fault.map_or(waiting, |fault| fault.message.clone())))
        }
        None if container.settles_in(now).is_some() => {
            (Phase::Starting, unsettled(&identity.instance, container, observed))
        }
        None => (Phase::Running, None),
    }
}

/// Somebody wanted it to stand still: it is left alone.
fn paused(container: &Container) -> String {
    let name = &container.name;
    format!("paused: somebody paused its container; `docker unpause {name}` lets it go on")
}

/// What there is to say of a container that has not been up for long: nothing on a first start.
fn unsettled(id: &InstanceId, container: &Container, observed: &Observed) -> Option<String> {
    container.finished_at?;
    let settle = container.settle().as_secs();
    let code = observed.memory.exits.get(id).map(|code| format!(" with code {code}"));
    Some(format!("up for less than {settle} s after it ended{}", code.unwrap_or_default()))
}

/// Why a port does not lead to this container or to one that came after it.
fn not_led_to(
    identity: &Identity,
    container: &Container,
    port: &PortSpec,
    holder: Option<&Target>,
    ours: &Ours<'_>,
    observed: &Observed,
) -> Option<String> {
    let Some(holder) = holder else {
        return Some(format!("port {} is not published yet", port.host_port));
    };
    let own = container.address().map(|address| Target { address, port: port.container_port });
    if Some(*holder) == own {
        return None;
    }
    if own.is_some_and(|own| observed.unready.contains(&own)) {
        return Some(format!(
            "nothing accepts connections on its port {} yet; the former instance keeps port {}",
            port.container_port, port.host_port
        ));
    }
    let later = ours.values().any(|(other, container)| {
        container.state.is_up()
            && container.address() == Some(holder.address)
            && other.slot() == identity.slot()
            && other.revision >= identity.revision
    });
    (!later).then(|| format!("port {} leads to another instance still", port.host_port))
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
        ports.iter().filter(|port| leads_to(port, container, observed)).cloned().collect();
}

fn leads_to(port: &PortSpec, container: &Container, observed: &Observed) -> bool {
    let keys = publish::host_ports(port, observed);
    let Some(address) = container.address() else { return false };
    let target = Target { address, port: port.container_port };
    // What Docker publishes itself has no key of ours.
    let by_docker = keys.is_empty() && port.host_ip == knit_rpc::spec::HostIp::Loopback;
    by_docker || keys.iter().any(|key| observed.published.get(key) == Some(&target))
}
