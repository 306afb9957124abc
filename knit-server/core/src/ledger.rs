//! What is taken of one node: resources, host ports, and room in its assignment.

use std::collections::BTreeMap;

use knit_rpc::api::Reserved;
use knit_rpc::id::{DeploymentId, InstanceId, SpecHash};
use knit_rpc::spec::{HostIp, InstanceSpec, Protocol, Resources};

use crate::snapshot::Instance;

/// What the instances of one node take of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    instances: u32,
    reserved: Reserved,
    ports: BTreeMap<(u16, Protocol), Vec<Claim>>,
    /// How many instances refer to each spec, and its bytes on the wire.
    specs: BTreeMap<SpecHash, (u32, usize)>,
    spec_bytes: usize,
}

/// Who has a host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub host_ip: HostIp,
    pub deployment: DeploymentId,
    pub slot: u32,
    instance: InstanceId,
}

impl Ledger {
    /// Takes an instance in.
    pub fn add(&mut self, instance: &Instance, spec: Option<&InstanceSpec>) {
        self.instances += 1;
        let Some(spec) = spec else { return };
        let asked = asked(&spec.resources);
        self.reserved.cpu_millis += asked.cpu_millis;
        self.reserved.memory = self.reserved.memory.saturating_add(asked.memory);
        self.reserved.disk = self.reserved.disk.saturating_add(asked.disk);
        for port in &spec.ports {
            self.ports.entry((port.host_port, port.protocol)).or_default().push(Claim {
                host_ip: port.host_ip.clone(),
                deployment: instance.deployment.clone(),
                slot: instance.slot,
                instance: instance.id.clone(),
            });
        }
        if let Some((count, _)) = self.specs.get_mut(&instance.spec) {
            *count += 1;
        } else {
            let bytes = spec_bytes(spec);
            self.specs.insert(instance.spec.clone(), (1, bytes));
            self.spec_bytes += bytes;
        }
    }

    /// Gives back what [`Self::add`] took, with the same spec.
    pub fn remove(&mut self, instance: &Instance, spec: Option<&InstanceSpec>) {
        self.instances = self.instances.saturating_sub(1);
        let Some(spec) = spec else { return };
        let asked = asked(&spec.resources);
        self.reserved.cpu_millis = self.reserved.cpu_millis.saturating_sub(asked.cpu_millis);
        self.reserved.memory = self.reserved.memory.saturating_sub(asked.memory);
        self.reserved.disk = self.reserved.disk.saturating_sub(asked.disk);
        for port in &spec.ports {
            let key = (port.host_port, port.protocol);
            let Some(claims) = self.ports.get_mut(&key) else { continue };
            claims.retain(|claim| claim.instance != instance.id);
            if claims.is_empty() {
                self.ports.remove(&key);
            }
        }
        if let Some((count, bytes)) = self.specs.get_mut(&instance.spec) {
            *count -= 1;
            if *count == 0 {
                self.spec_bytes -= *bytes;
                self.specs.remove(&instance.spec);
            }
        }
    }

    pub fn instances(&self) -> u32 {
        self.instances
    }

    pub fn reserved(&self) -> Reserved {
        self.reserved
    }

    /// Who has a port, at whatever address.
    pub fn claims(&self, host_port: u16, protocol: Protocol) -> &[Claim] {
        self.ports.get(&(host_port, protocol)).map_or(&[], Vec::as_slice)
    }

    /// Bytes of specs that the node's assignment would hold with this one in it.
    pub fn spec_bytes_with(&self, hash: &SpecHash, bytes: usize) -> usize {
        self.spec_bytes + if self.specs.contains_key(hash) { 0 } else { bytes }
    }
}

/// What one instance reserves.
pub fn asked(resources: &Resources) -> Reserved {
    Reserved {
        cpu_millis: resources.cpu.map_or(0, |cpu| u64::from(cpu.as_millis())),
        memory: resources.memory.map_or(0, |bytes| bytes.0),
        disk: resources.disk.map_or(0, |bytes| bytes.0),
    }
}

/// About how many bytes a spec takes on the wire.
pub fn spec_bytes(spec: &InstanceSpec) -> usize {
    const PER_FIELD: usize = 32;
    let texts = |list: &[String]| list.iter().map(|text| text.len() + 4).sum::<usize>();
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>()
    };
    let templates: usize =
        spec.templates.iter().map(|t| t.destination.len() + t.content.len() + 2 * PER_FIELD).sum();
    let volumes: usize =
        spec.volumes.iter().map(|v| v.name.len() + v.path.len() + 2 * PER_FIELD).sum();
    let host_mounts: usize = spec
        .host_mounts
        .iter()
        .map(|m| m.host_path.as_os_str().len() + m.path.len() + 2 * PER_FIELD)
        .sum();
    spec.image.len()
        + texts(&spec.command)
        + texts(&spec.args)
        + texts(&spec.networks)
        + texts(&spec.tmpfs)
        + texts(&spec.cap_drop)
        + texts(&spec.cap_add)
        + pairs(&spec.env)
        + pairs(&spec.labels)
        + pairs(&spec.sysctls)
        + pairs(&spec.extra_hosts)
        + templates
        + usize::try_from(spec.secret_kib).unwrap_or(usize::MAX / 4096) * 1024
        + spec.secrets.len() * 4 * PER_FIELD
        + volumes
        + host_mounts
        + (spec.ports.len() * 3 + spec.ulimits.len() * 2 + spec.dns.len()) * PER_FIELD
        + 8 * PER_FIELD
}
