//! A node that does what it is told: carries actions out on an observation.

use std::path::Path;

use knit_rpc::spec::VolumeName;

use super::*;
use crate::network::Network;

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
            Action::WriteFiles { instance } => {
                observed.files.insert(instance.clone());
                note_secrets(instance, desired, observed);
            }
            Action::RefreshSecrets { instance, container, signals } => {
                assert!(find(container, observed).state.is_up() && !signals.is_empty());
                note_secrets(instance, desired, observed);
            }
            Action::EnsureNetwork { network, .. } => ensure_network(network, observed),
            Action::EnsureVolume { volume, .. } => {
                let name = &volume.labels[crate::volume::LABEL_VOLUME];
                observed.volumes.insert(VolumeName::parse(name).unwrap());
            }
            Action::RemoveNetwork(name) => {
                let on_it = |one: &Container| one.networks.contains(name);
                assert!(!observed.containers.iter().any(on_it), "{name} has containers");
                observed.networks.retain(|one| one.name != *name);
            }
            Action::RemoveVolume(volume) => {
                assert!(observed.volumes.remove(volume), "{volume} is not there");
            }
            Action::Create { instance } => create(instance, desired, observed),
            Action::Start { instance, container, .. } => {
                let joined =
                    container::plan(&desired.owner, &desired.instances[instance], Path::new("/f"));
                start(container, joined.networks, observed, now);
            }
            Action::Stop { container, .. } | Action::GiveUp { container, .. } => {
                let found = find(container, observed);
                found.state = ContainerState::Exited;
                found.finished_at = Some(now);
                found.networks.clear();
                found.addresses.clear();
            }
            Action::Remove { container, .. } => {
                observed.containers.retain(|other| other.id != *container);
            }
            Action::RemoveFiles { instance } => {
                observed.files.remove(instance);
                observed.secrets.remove(instance);
            }
            Action::Fail { instance, reason } => {
                observed.memory.blocked(instance, reason.clone(), now);
            }
        }
    }
}

fn note_secrets(instance: &InstanceId, desired: &Desired, observed: &mut Observed) {
    let wanted = &desired.instances[instance];
    if wanted.has_secret_files() {
        observed.secrets.insert(instance.clone(), wanted.secret_versions());
    }
}

fn ensure_network(plan: &NetworkPlan, observed: &mut Observed) {
    observed.networks.retain(|one| one.name != plan.name);
    observed.networks.push(Network {
        name: plan.name.clone(),
        labels: plan.labels.clone(),
        bridge: Some(format!("br-{}", plan.name)),
        subnets: plan.subnet.into_iter().collect(),
        internal: plan.internal,
    });
}

fn create(instance: &InstanceId, desired: &Desired, observed: &mut Observed) {
    let wanted = &desired.instances[instance];
    let made = container(wanted, ContainerState::Created, 0);
    let is_free = observed.containers.iter().all(|other| other.name != made.name);
    assert!(is_free, "a name is taken: {}", made.name);
    observed.containers.push(made);
}

fn start(name: &str, networks: Vec<String>, observed: &mut Observed, now: Timestamp) {
    let used: BTreeSet<Ipv4Addr> =
        observed.containers.iter().flat_map(|c| c.addresses.values().copied()).collect();
    let free = (2..=254).map(|host| Ipv4Addr::new(10, 208, 0, host)).find(|a| !used.contains(a));
    let found = find(name, observed);
    found.state = ContainerState::Running;
    found.started_at = Some(now);
    found.networks.extend(networks);
    found.addresses = free.map(|a| (container::NETWORK.to_owned(), a)).into_iter().collect();
}

fn find<'a>(name: &str, observed: &'a mut Observed) -> &'a mut Container {
    observed
        .containers
        .iter_mut()
        .find(|container| container.id == name || container.name == name)
        .unwrap_or_else(|| panic!("no container {name}"))
}
