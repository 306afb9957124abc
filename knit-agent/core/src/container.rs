//! What an instance's container looks like, and which containers are ours.
//!
//! Invariant: a container is ours only when it carries this cluster's *and* this node's label,
//! so that a cloned disk or another cluster on the same Docker is never touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use knit_rpc::id::{DeploymentId, DeploymentName, InstanceId, ProjectName, SpecHash};
use knit_rpc::spec::{HostIp, InstanceSpec, LogSpec, PortSpec, Protocol};

use crate::desired::{Owner, Slot, Wanted};
use crate::observed::Container;

/// The node's own Docker network, which instances join unless their spec names another.
pub const NETWORK: &str = "knit";
/// Its bridge.
pub const BRIDGE: &str = "knit0";
/// Fits into a WireGuard packet.
pub const MTU: u32 = 1420;

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

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlan {
    pub name: String,
    pub hostname: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's when not empty.
    pub entrypoint: Vec<String>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub networks: Vec<String>,
    /// Published by Docker itself; all other ports are ours to publish.
    pub loopback: Vec<PortSpec>,
    pub log: LogSpec,
}

/// A file of the host's, read-only in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub source: PathBuf,
    pub destination: String,
}

/// The node's own network to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    pub subnet: Ipv4Net,
    pub labels: BTreeMap<String, String>,
}

/// Describes the container of a wanted instance, whose template files are in `files`.
pub fn plan(owner: &Owner, wanted: &Wanted, files: &Path) -> ContainerPlan {
    let (assigned, spec) = (&wanted.assigned, &wanted.spec);
    let mounts = spec.templates.iter().enumerate().map(|(index, template)| Mount {
        source: files.join(file_name(index)),
        destination: template.destination.clone(),
    });
    let networks =
        if spec.networks.is_empty() { vec![NETWORK.to_owned()] } else { spec.networks.clone() };
    let loopback = spec.ports.iter().filter(|port| port.host_ip == HostIp::Loopback);
    ContainerPlan {
        name: name(wanted),
        hostname: hostname(assigned.deployment.as_str(), assigned.slot),
        image: image(spec),
        labels: labels(owner, wanted),
        entrypoint: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        mounts: mounts.collect(),
        networks,
        loopback: if spec.uses_host_network() { Vec::new() } else { loopback.cloned().collect() },
        log: spec.log.clone(),
    }
}

/// Whether a container of this spec has to be on a network to be of use.
pub(crate) fn needs_network(spec: &InstanceSpec) -> bool {
    !spec.uses_host_network() && !spec.networks.iter().any(|network| network == "none")
}

/// Describes the node's own network.
pub fn network_plan(owner: &Owner, subnet: Ipv4Net) -> NetworkPlan {
    NetworkPlan { subnet, labels: owner_labels(owner) }
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
    let mut labels = owner_labels(owner);
    labels.extend(
        [
            (LABEL_PROJECT, assigned.project.to_string()),
            (LABEL_DEPLOYMENT, assigned.deployment.to_string()),
            (LABEL_DEPLOYMENT_ID, assigned.deployment_id.to_string()),
            (LABEL_SLOT, assigned.slot.to_string()),
            (LABEL_INSTANCE, assigned.id.to_string()),
            (LABEL_REVISION, assigned.revision.to_string()),
            (LABEL_SPEC_HASH, assigned.spec.to_string()),
            (LABEL_PORTS, ports_label(&wanted.spec.ports)),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels
}

/// What a container of ours says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub instance: InstanceId,
    pub project: ProjectName,
    pub deployment: DeploymentName,
    pub deployment_id: DeploymentId,
    pub slot: u32,
    pub revision: u64,
    pub spec: SpecHash,
    pub ports: Vec<PortSpec>,
}

impl Identity {
    /// Reads the labels; `None` when the container is not ours, or its labels are not what we
    /// write: then somebody else made it.
    pub fn of(container: &Container, owner: &Owner) -> Option<Self> {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        if label(LABEL_CLUSTER) != Some(owner.cluster.as_str())
            || label(LABEL_NODE) != Some(owner.node.as_str())
        {
            return None;
        }
        Some(Self {
            instance: label(LABEL_INSTANCE)?.parse().ok()?,
            project: label(LABEL_PROJECT)?.parse().ok()?,
            deployment: label(LABEL_DEPLOYMENT)?.parse().ok()?,
            deployment_id: label(LABEL_DEPLOYMENT_ID)?.parse().ok()?,
            slot: label(LABEL_SLOT)?.parse().ok()?,
            revision: label(LABEL_REVISION)?.parse().ok()?,
            spec: label(LABEL_SPEC_HASH)?.parse().ok()?,
            ports: parse_ports_label(label(LABEL_PORTS)?)?,
        })
    }

    pub fn slot(&self) -> Slot {
        Slot {
            project: self.project.to_string(),
            deployment: self.deployment.to_string(),
            number: self.slot,
        }
    }
}

/// `mesh:8080->80/tcp,public:53->53/udp`.
fn ports_label(ports: &[PortSpec]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn parse_ports_label(text: &str) -> Option<Vec<PortSpec>> {
    text.split(',').filter(|port| !port.is_empty()).map(parse_port).collect()
}

fn parse_port(text: &str) -> Option<PortSpec> {
    let (host, container) = text.split_once("->")?;
    let (host_ip, host_port) = host.rsplit_once(':')?;
    let (container_port, protocol) = container.split_once('/')?;
    Some(PortSpec {
        container_port: container_port.parse().ok()?,
        host_port: host_port.parse().ok()?,
        protocol: match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        },
        host_ip: HostIp::parse(host_ip).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_label_reads_back() {
        let ports = [
            ("mesh", 8080, 80, Protocol::Tcp),
            ("iface:eth1.5", 53, 5353, Protocol::Udp),
            ("192.0.2.7", 1, 65535, Protocol::Tcp),
            ("public", 443, 443, Protocol::Tcp),
            ("loopback", 9000, 9000, Protocol::Tcp),
        ]
        .map(|(host_ip, host_port, container_port, protocol)| PortSpec {
            container_port,
            host_port,
            protocol,
            host_ip: HostIp::parse(host_ip).unwrap(),
        });
        assert_eq!(parse_ports_label(&ports_label(&ports)).unwrap(), ports);
        assert_eq!(parse_ports_label("").unwrap(), []);
        for bad in ["x", "mesh:80", "mesh:80->80", "mesh:80->80/icmp", "mesh:99999->1/tcp"] {
            assert_eq!(parse_ports_label(bad), None, "{bad}");
        }
    }

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
