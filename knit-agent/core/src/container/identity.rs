//! What the labels of a container say: read back as they were written.

use std::collections::BTreeSet;

use knit_rpc::id::{DeploymentId, DeploymentName, InstanceId, ProjectName, SpecHash};
use knit_rpc::spec::{HostIp, PortSpec, Protocol, VolumeName};

use super::{
    LABEL_CLUSTER, LABEL_DEPLOYMENT, LABEL_DEPLOYMENT_ID, LABEL_INSTANCE, LABEL_NODE, LABEL_PORTS,
    LABEL_PROJECT, LABEL_REVISION, LABEL_SLOT, LABEL_SPEC_HASH, LABEL_VOLUMES,
};
use crate::desired::{Owner, Slot};
use crate::observed::Container;
use crate::volume;

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
    pub volumes: BTreeSet<VolumeName>,
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
            // Containers of agents before there were volumes have none.
            volumes: volume::parse_label(label(LABEL_VOLUMES).unwrap_or_default())?,
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
pub(super) fn ports_label(ports: &[PortSpec]) -> String {
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
}
