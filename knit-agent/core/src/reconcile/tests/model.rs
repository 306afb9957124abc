//! A node that does what it is told: carries actions out on an observation.

use super::*;

/// Carries out `actions` on `observed` as a node without trouble would.
pub(super) fn carry_out(
    actions: &[Action],
    desired: &Desired,
    observed: &mut Observed,
    now: Timestamp,
) {
    for action in actions {
        match action {
            Action::Publish(ports) => observed.published.clone_from(ports),
            Action::Pull { image, .. } => _ = observed.images.insert(image.clone()),
            Action::WriteFiles { instance } => _ = observed.files.insert(instance.clone()),
            Action::Create { instance } => create(instance, desired, observed),
            Action::Start { container, .. } => start(container, observed, now),
            Action::Stop { container, .. } => {
                let found = find(container, observed);
                found.state = ContainerState::Exited;
                found.finished_at = Some(now);
                found.networks.clear();
                found.addresses.clear();
            }
            Action::Remove { container, .. } => {
                observed.containers.retain(|other| other.id != *container);
            }
            Action::RemoveFiles { instance } => _ = observed.files.remove(instance),
            Action::Fail { instance, reason } => {
                observed.memory.blocked(instance, reason.clone(), now);
            }
        }
    }
}

fn create(instance: &InstanceId, desired: &Desired, observed: &mut Observed) {
    let wanted = &desired.instances[instance];
    let made = container(wanted, ContainerState::Created, 0);
    let is_free = observed.containers.iter().all(|other| other.name != made.name);
    assert!(is_free, "a name is taken: {}", made.name);
    observed.containers.push(made);
}

fn start(name: &str, observed: &mut Observed, now: Timestamp) {
    let used: BTreeSet<Ipv4Addr> =
        observed.containers.iter().flat_map(|c| c.addresses.values().copied()).collect();
    let free = (2..=254).map(|host| Ipv4Addr::new(10, 208, 0, host)).find(|a| !used.contains(a));
    let found = find(name, observed);
    found.state = ContainerState::Running;
    found.started_at = Some(now);
    found.networks.insert(container::NETWORK.to_owned());
    found.addresses = free.map(|a| (container::NETWORK.to_owned(), a)).into_iter().collect();
}

fn find<'a>(name: &str, observed: &'a mut Observed) -> &'a mut Container {
    observed
        .containers
        .iter_mut()
        .find(|container| container.id == name || container.name == name)
        .unwrap_or_else(|| panic!("no container {name}"))
}
