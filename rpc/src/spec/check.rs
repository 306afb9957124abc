//! What no single field can tell, and (in `text`) what single texts may hold.

mod secrets;
mod text;

use std::collections::BTreeMap;

use super::{DeploymentSpec, HostIp, Mode, Order, PortSpec, ProbeKind, Strategy};

pub(super) use text::{
    destination, directory, host_path, hostname, log_driver, log_size, mount_path, network_name,
    sysctl, tmpfs, url_path, user, variable, volume_name,
};

/// Clashes within a spec: (field, sentence) each.
pub(super) fn clashes(spec: &DeploymentSpec) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    counts(spec, &mut problems);
    if !problems.0.is_empty() {
        // To look for clashes among so many takes long.
        return problems.0;
    }
    ports(spec, &mut problems);
    paths(spec, &mut problems);
    secrets::clashes(spec, &mut problems);
    volumes(spec, &mut problems);
    networks(spec, &mut problems);
    privileges(spec, &mut problems);
    update(spec, &mut problems);
    if spec.mode == Mode::EveryNode && spec.replicas != 1 {
        problems.add("replicas", "means nothing with mode every-node: there is one on each node");
    }
    let resources = &spec.instance.resources;
    if let (Some(reserved), Some(most)) = (resources.memory, resources.memory_max)
        && most < reserved
    {
        problems.add(
            "resources.memory_max",
            format!("must be at least the {reserved} that \"memory\" reserves, not {most}"),
        );
    }
    problems.0
}

/// How many of each there may be: far more than anybody needs, and few enough to be looked through.
fn counts(spec: &DeploymentSpec, problems: &mut Problems) {
    let instance = &spec.instance;
    for (field, count, most) in [
        ("command", instance.command.len(), 1024),
        ("args", instance.args.len(), 1024),
        ("env", instance.env.len(), 1024),
        ("ports", instance.ports.len(), 256),
        ("templates", instance.templates.len(), 128),
        ("networks", instance.networks.len(), 32),
        ("volumes", instance.volumes.len(), 64),
        ("host_mounts", instance.host_mounts.len(), 64),
        ("labels", instance.labels.len(), 256),
        ("ulimits", instance.ulimits.len(), 32),
        ("sysctls", instance.sysctls.len(), 128),
        ("tmpfs", instance.tmpfs.len(), 64),
        ("dns", instance.dns.len(), 16),
        ("extra_hosts", instance.extra_hosts.len(), 256),
        ("cap_drop", instance.cap_drop.len(), 64),
        ("cap_add", instance.cap_add.len(), 64),
        ("node_selector", spec.node_selector.len(), 64),
    ] {
        if count > most {
            problems.add(field, format!("has {count} entries; at most {most} are possible"));
        }
    }
}

#[derive(Default)]
struct Problems(Vec<(String, String)>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push((field.into(), message.into()));
    }
}

fn ports(spec: &DeploymentSpec, problems: &mut Problems) {
    let ports = &spec.instance.ports;
    for (index, port) in ports.iter().enumerate() {
        if let Some(earlier) = ports[..index].iter().position(|other| overlap(port, other)) {
            problems.add(
                format!("ports[{index}].host_port"),
                format!(
                    "host port {}/{} is published twice: ports[{earlier}] has it already",
                    port.host_port, port.protocol
                ),
            );
        }
        if spec.instance.uses_host_network() && port.host_port != port.container_port {
            problems.add(
                format!("ports[{index}].host_port"),
                format!(
                    "with the host's network port {} cannot become {}: nothing is mapped there",
                    port.container_port, port.host_port
                ),
            );
        }
    }
}

/// Whether two publications cannot both stand on one host.
pub(super) fn overlap(a: &PortSpec, b: &PortSpec) -> bool {
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && (a.host_ip == b.host_ip || a.host_ip == HostIp::Public || b.host_ip == HostIp::Public)
}

/// No two of templates, secrets, volumes and tmpfs at one path of the container.
fn paths(spec: &DeploymentSpec, problems: &mut Problems) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for (index, template) in spec.instance.templates.iter().enumerate() {
        let path = template.destination.as_str();
        if let Some(earlier) = seen.insert(path, format!("templates[{index}]")) {
            problems.add(
                format!("templates[{index}].destination"),
                format!("two templates write {path}: {earlier} does already"),
            );
        }
    }
    let files: Vec<String> =
        spec.instance.secrets.iter().map(|secret| secret.path().unwrap_or_default()).collect();
    for (index, path) in files.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        if let Some(earlier) = seen.insert(path, format!("secrets[{index}]")) {
            problems.add(
                format!("secrets[{index}].file"),
                format!("{path} is taken: {earlier} is there already"),
            );
        }
    }
    let volumes = spec.instance.volumes.iter().map(|volume| volume.path.as_str());
    let volumes =
        volumes.enumerate().map(|(index, path)| (format!("volumes[{index}]"), ".path", path));
    let tmpfs = spec.instance.tmpfs.iter().map(|tmpfs| tmpfs.split(':').next().unwrap_or_default());
    let tmpfs = tmpfs.enumerate().map(|(index, path)| (format!("tmpfs[{index}]"), "", path));
    let host = spec.instance.host_mounts.iter().map(|mount| mount.path.as_str());
    let host =
        host.enumerate().map(|(index, path)| (format!("host_mounts[{index}]"), ".path", path));
    for (entry, key, path) in volumes.chain(tmpfs).chain(host) {
        let plain = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        if let Some(earlier) = seen.get(plain) {
            problems.add(
                format!("{entry}{key}"),
                format!("{plain} is taken: {earlier} is there already"),
            );
        } else {
            seen.insert(plain, entry);
        }
    }
}

fn volumes(spec: &DeploymentSpec, problems: &mut Problems) {
    let volumes = &spec.instance.volumes;
    for (index, volume) in volumes.iter().enumerate() {
        let unlike = |other: &&super::VolumeMount| {
            other.name == volume.name && other.shared != volume.shared
        };
        if volumes[..index].iter().any(|other| unlike(&other)) {
            problems.add(
                format!("volumes[{index}].shared"),
                format!("{} cannot be shared in one place and not in another", volume.name),
            );
        }
    }
}

fn networks(spec: &DeploymentSpec, problems: &mut Problems) {
    let instance = &spec.instance;
    let joins = |name: &str| instance.networks.iter().any(|network| network == name);
    for alone in ["host", "none"] {
        if instance.networks.len() > 1 && joins(alone) {
            let message = format!("\"{alone}\" cannot be joined together with other networks");
            problems.add("networks", message);
        }
    }
    if joins("none") {
        if !instance.ports.is_empty() {
            problems.add("ports", "nothing can be published on networks: [none]");
        }
        for (name, probe) in [("ready", &spec.health.ready), ("alive", &spec.health.alive)] {
            let asked = probe.as_ref().map(|probe| &probe.kind);
            if let Some(ProbeKind::Http { .. } | ProbeKind::Tcp { .. }) = asked {
                problems.add(
                    format!("health.{name}"),
                    "has no network to ask over with networks: [none]; use exec",
                );
            }
        }
    }
    if joins("host") {
        for name in instance.sysctls.keys().filter(|name| name.starts_with("net.")) {
            let message = "belongs to the host with networks: [host], and is not set from here";
            problems.add(format!("sysctls.{name}"), message);
        }
    }
}

fn privileges(spec: &DeploymentSpec, problems: &mut Problems) {
    let instance = &spec.instance;
    for (index, name) in instance.cap_add.iter().enumerate() {
        if instance.cap_drop.contains(name) {
            problems.add(format!("cap_add[{index}]"), format!("{name} is in cap_drop as well"));
        }
    }
    if instance.privileged {
        for (key, list) in [("cap_add", &instance.cap_add), ("cap_drop", &instance.cap_drop)] {
            if !list.is_empty() {
                problems.add(key, "means nothing with privileged, which has all capabilities");
            }
        }
    }
}

/// What only one instance of a slot can have at a time forces the old one to stop first.
fn update(spec: &DeploymentSpec, problems: &mut Problems) {
    let forced = if spec.instance.uses_host_network() {
        Some("the host's network")
    } else if spec.instance.volumes.iter().any(|volume| !volume.read_only) {
        Some("a volume")
    } else {
        None
    };
    let update = &spec.update;
    if let Some(forced) = forced {
        if update.order == Order::StartFirst {
            problems.add("update.order", format!("{forced} forces stop-first"));
        }
        if update.strategy == Strategy::BlueGreen {
            let message = format!(
                "{forced} forces stop-first, and blue-green needs both revisions side by side"
            );
            problems.add("update.strategy", message);
        }
    }
    match (update.strategy, update.order) {
        (Strategy::Recreate, Order::StartFirst) => problems
            .add("update.order", "strategy recreate stops the old instances first, by its nature"),
        (Strategy::BlueGreen, Order::StopFirst) => problems.add(
            "update.order",
            "strategy blue-green starts the new instances first, by its nature",
        ),
        (
            Strategy::Rolling | Strategy::Canary | Strategy::Recreate | Strategy::BlueGreen,
            Order::Auto | Order::StartFirst | Order::StopFirst,
        ) => {}
    }
}
