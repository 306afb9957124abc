//! What an instance's container looks like, and which containers are ours.
//!
//! Invariant: a container is ours only when it carries this cluster's *and* this node's label,
//! so that a cloned disk or another cluster on the same Docker is never touched.

mod identity;
mod limits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knit_rpc::spec::{
    HostIp, HostMount, InstanceSpec, LOG_DRIVER_DEFAULT, LogSpec, PortSpec, Span,
};

use crate::desired::{Owner, Wanted};
use crate::secrets::Hidden;
use crate::volume::{self, VolumePlan};

pub use identity::Identity;
pub use limits::Limits;

/// The node's own Docker network, which instances join unless their spec names another.
pub const NETWORK: &str = "knit";
/// Its bridge.
pub const BRIDGE: &str = "knit0";
/// Fits into a WireGuard packet.
pub const MTU: u32 = 1420;
/// Time between the stop signal and SIGKILL when the spec says nothing.
pub const STOP_GRACE_DEFAULT: Span = Span::from_secs(10);

pub const LABEL_CLUSTER: &str = "knit.cluster";
pub const LABEL_NODE: &str = "knit.node";
pub const LABEL_PROJECT: &str = "knit.project";
pub const LABEL_DEPLOYMENT: &str = "knit.deployment";
pub const LABEL_DEPLOYMENT_ID: &str = "knit.deployment-id";
pub const LABEL_SLOT: &str = "knit.slot";
pub const LABEL_INSTANCE: &str = "knit.instance";
pub const LABEL_REVISION: &str = "knit.revision";
pub const LABEL_SPEC_HASH: &str = "knit.spec-hash";
pub const LABEL_PORTS: &str = "knit.ports";
/// On a container: the volumes that it mounts.
pub const LABEL_VOLUMES: &str = "knit.volumes";

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlan {
    pub name: String,
    pub hostname: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub volumes: Vec<MountedVolume>,
    /// What it has of the node's own files.
    pub host_mounts: Vec<HostMount>,
    /// By Docker's names.
    pub networks: Vec<String>,
    /// Names by which the others on its networks find it.
    pub aliases: Vec<String>,
    /// Published by Docker itself; all other ports are ours to publish.
    pub loopback: Vec<PortSpec>,
    pub limits: Limits,
    /// Of the log driver; only drivers that write files know any.
    pub log_options: BTreeMap<String, String>,
    /// Seconds.
    pub stop_grace: u64,
    /// Variables besides those of the spec, which are shown to nobody.
    pub secret_env: Vec<(String, Hidden)>,
    /// What is passed on as it was written.
    pub spec: Arc<InstanceSpec>,
}

/// A file of the host's, read-only in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: PathBuf,
    pub destination: String,
}

/// A volume in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    pub volume: VolumePlan,
    pub path: String,
    pub read_only: bool,
}

/// Describes the container of a wanted instance, whose template files are in `files`.
pub fn plan(owner: &Owner, wanted: &Wanted, files: &Path) -> ContainerPlan {
    let (assigned, spec) = (&wanted.assigned, &wanted.spec);
    let plain = spec.templates.iter().enumerate();
    let plain = plain.filter(|(_, template)| template.secrets().is_empty());
    let mounts = plain.map(|(index, template)| Mount {
        source: files.join(file_name(index)),
        destination: template.destination.clone(),
    });
    let volumes = volume::of(wanted).into_iter().zip(&spec.volumes);
    let volumes = volumes.map(|(name, mount)| MountedVolume {
        volume: volume::plan(owner, &name),
        path: mount.path.clone(),
        read_only: mount.read_only,
    });
    let networks =
        if spec.networks.is_empty() { vec![NETWORK.to_owned()] } else { spec.networks.clone() };
    let loopback = spec.ports.iter().filter(|port| port.host_ip == HostIp::Loopback);
    let deployment = assigned.deployment.as_str();
    ContainerPlan {
        name: name(wanted),
        hostname: spec.hostname.clone().unwrap_or_else(|| hostname(deployment, assigned.slot)),
        image: image(spec),
        labels: labels(owner, wanted),
        mounts: mounts.collect(),
        volumes: volumes.collect(),
        host_mounts: spec.host_mounts.clone(),
        networks,
        aliases: vec![deployment.to_owned(), format!("{deployment}-{}", assigned.slot)],
        loopback: if spec.uses_host_network() { Vec::new() } else { loopback.cloned().collect() },
        limits: Limits::of(spec.resources),
        log_options: log_options(&spec.log),
        stop_grace: stop_grace(spec).as_millis().div_ceil(1000),
        secret_env: Vec::new(),
        spec: Arc::clone(spec),
    }
}

/// Time between the stop signal and SIGKILL.
pub fn stop_grace(spec: &InstanceSpec) -> Span {
    spec.stop_grace.unwrap_or(STOP_GRACE_DEFAULT)
}

fn log_options(log: &LogSpec) -> BTreeMap<String, String> {
    if ![LOG_DRIVER_DEFAULT, "local"].contains(&log.driver.as_str()) {
        return BTreeMap::new();
    }
    BTreeMap::from([
        ("max-size".to_owned(), log.max_size.clone()),
        ("max-file".to_owned(), log.max_files.to_string()),
    ])
}

/// Whether a container of this spec has to be on a network to be of use.
pub(crate) fn needs_network(spec: &InstanceSpec) -> bool {
    !spec.uses_host_network() && !spec.networks.iter().any(|network| network == "none")
}

/// Name of the `index`-th template's file in its instance's directory.
pub fn file_name(index: usize) -> String {
    format!("{index}")
}

/// `knit.{project}.{deployment}.{slot}.{instance}`: found again after a crash between making a
/// container and noting that it was made.
pub fn name(wanted: &Wanted) -> String {
    let assigned = &wanted.assigned;
    format!("knit.{}.{}.{}.{}", assigned.project, assigned.deployment, assigned.slot, assigned.id)
}

/// A host name has at most 64 characters; the slot is kept, the deployment's tail is not.
fn hostname(deployment: &str, slot: u32) -> String {
    let suffix = format!("-{slot}");
    let head: String = deployment.chars().take(63 - suffix.len()).collect();
    format!("{head}{suffix}")
}

/// The image's full name.
pub fn image(spec: &InstanceSpec) -> String {
    spec.image_reference()
}

/// The labels that make something ours.
pub fn owner_labels(owner: &Owner) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_CLUSTER.to_owned(), owner.cluster.to_string()),
        (LABEL_NODE.to_owned(), owner.node.to_string()),
    ])
}

fn labels(owner: &Owner, wanted: &Wanted) -> BTreeMap<String, String> {
    let assigned = &wanted.assigned;
    // Ours come last and win.
    let mut labels = wanted.spec.labels.clone();
    labels.extend(owner_labels(owner));
    labels.extend(
        [
            (LABEL_PROJECT, assigned.project.to_string()),
            (LABEL_DEPLOYMENT, assigned.deployment.to_string()),
            (LABEL_DEPLOYMENT_ID, assigned.deployment_id.to_string()),
            (LABEL_SLOT, assigned.slot.to_string()),
            (LABEL_INSTANCE, assigned.id.to_string()),
            (LABEL_REVISION, assigned.revision.to_string()),
            (LABEL_SPEC_HASH, assigned.spec.to_string()),
            (LABEL_PORTS, identity::ports_label(&wanted.spec.ports)),
            (LABEL_VOLUMES, volume::label(&volume::of(wanted))),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_goes_before_names_without_one() {
        let cases = [
            ("nginx:alpine", None, "nginx:alpine"),
            ("nginx:alpine", Some("r.example:5000"), "r.example:5000/nginx:alpine"),
            ("team/app", Some("r.example/"), "r.example/team/app"),
            ("other.example/app", Some("r.example"), "other.example/app"),
            ("localhost/app", Some("r.example"), "localhost/app"),
            ("app", Some("https://r.example"), "r.example/app"),
        ];
        for (image_name, registry, expected) in cases {
            let spec = crate::reconcile::tests::spec(image_name, registry);
            assert_eq!(image(&spec), expected);
        }
    }

    #[test]
    fn host_names_fit() {
        assert_eq!(hostname("web", 3), "web-3");
        assert_eq!(hostname(&"x".repeat(63), 9_999).len(), 63);
    }
}
