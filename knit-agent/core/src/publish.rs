//! Which host port leads to which container.
//!
//! ```text
//! (mesh | public | address, protocol, port) ─> (container address, port)
//! ```
//!
//! Two revisions of one slot may hold one port during a rollout: the newest one that accepts
//! connections has it; an older one keeps it until then.
//! Between two slots the one that has the port keeps it.
//!
//! Invariant: the map leads only to containers that run, so writing it before a container is
//! stopped and after its successor runs loses no connection.

mod obstacle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::spec::{HostIp, PortSpec, Protocol};

use crate::container::Identity;
use crate::desired::{Desired, Slot};
use crate::observed::{Container, Observed};

pub use obstacle::obstacle;
use obstacle::reserved;

/// On which of the host's addresses a port is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The mesh address, whichever it is.
    Mesh,
    /// Every address.
    Public,
    Address(Ipv4Addr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub scope: Scope,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub address: Ipv4Addr,
    pub port: u16,
}

/// All that a node publishes by rules of its own.
pub type PortMap = BTreeMap<HostPort, Target>;

/// What a published port may stand in the way of.
struct Candidate<'a> {
    slot: Slot,
    revision: u64,
    started: u64,
    instance: &'a InstanceId,
    target: Target,
}

/// The ports as they should be, given what runs. Without an assignment (an agent that just
/// started, a server that forgot) whatever of ours runs keeps its ports.
pub fn wanted(
    desired: Option<&Desired>,
    running: &[(Identity, &Container)],
    observed: &Observed,
) -> PortMap {
    let mut candidates: BTreeMap<HostPort, Vec<Candidate<'_>>> = BTreeMap::new();
    for (identity, container) in running {
        if desired.is_some_and(|desired| !desired.instances.contains_key(&identity.instance)) {
            continue;
        }
        let Some(address) = container.address().filter(|_| container.state.is_up()) else {
            continue;
        };
        for port in identity.ports.iter().filter(|port| reserved(port).is_none()) {
            for host_port in host_ports(port, observed) {
                candidates.entry(host_port).or_default().push(Candidate {
                    slot: identity.slot(),
                    revision: identity.revision,
                    started: container.started_at.map_or(0, Timestamp::as_millis),
                    instance: &identity.instance,
                    target: Target { address, port: port.container_port },
                });
            }
        }
    }
    candidates
        .into_iter()
        .filter_map(|(key, rivals)| {
            let published = observed.published.get(&key);
            Some((key, winner(&rivals, published, &observed.unready)?.target))
        })
        .collect()
}

fn winner<'a, 'b>(
    rivals: &'b [Candidate<'a>],
    published: Option<&Target>,
    unready: &BTreeSet<Target>,
) -> Option<&'b Candidate<'a>> {
    let holder = rivals.iter().find(|rival| Some(&rival.target) == published);
    let first = rivals.iter().min_by_key(|rival| (rival.started, &rival.slot));
    let slot = &holder.or(first)?.slot;
    rivals.iter().filter(|rival| rival.slot == *slot).max_by_key(|rival| {
        let is_ready = !unready.contains(&rival.target);
        (is_ready, rival.revision, rival.started, rival.instance)
    })
}

/// Targets that are to take a port over from another one: whether they accept connections yet is
/// worth knowing.
pub fn successors(running: &[(Identity, &Container)], observed: &Observed) -> BTreeSet<Target> {
    let mut successors = BTreeSet::new();
    for (identity, container) in running.iter().filter(|(_, container)| container.state.is_up()) {
        let Some(address) = container.address() else { continue };
        for port in identity.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let target = Target { address, port: port.container_port };
            let keys = host_ports(port, observed);
            let held = keys.iter().filter_map(|key| observed.published.get(key));
            if held.into_iter().any(|holder| *holder != target) {
                successors.insert(target);
            }
        }
    }
    successors
}

/// The keys that a port takes in the map; none for one that Docker publishes itself, or for an
/// interface without an address.
pub fn host_ports(port: &PortSpec, observed: &Observed) -> Vec<HostPort> {
    let key = |scope| HostPort { scope, protocol: port.protocol, port: port.host_port };
    match &port.host_ip {
        HostIp::Mesh => vec![key(Scope::Mesh)],
        HostIp::Public => vec![key(Scope::Public)],
        HostIp::Loopback => Vec::new(),
        HostIp::Literal(address) => vec![key(Scope::Address(*address))],
        HostIp::Interface(name) => {
            let addresses = observed.interfaces.get(name).into_iter().flatten();
            addresses.map(|address| key(Scope::Address(*address))).collect()
        }
    }
}

/// Addresses of the containers that lose a port to another one when `have` becomes `want`.
pub fn superseded(have: &PortMap, want: &PortMap) -> BTreeSet<Ipv4Addr> {
    let loses = |key: &HostPort, target: &Target| {
        want.get(key).is_some_and(|taker| taker.address != target.address)
    };
    have.iter().filter(|(key, target)| loses(key, target)).map(|(_, one)| one.address).collect()
}

/// What differs between two maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    pub gone: PortMap,
    pub new: PortMap,
}

/// The elements to take out of `have` and to put in to get `want`; one that changed is in both.
pub fn difference(have: &PortMap, want: &PortMap) -> Difference {
    let missing_from = |one: &PortMap, other: &PortMap| {
        one.iter()
            .filter(|(key, target)| other.get(key) != Some(target))
            .map(|(k, t)| (*k, *t))
            .collect()
    };
    Difference { gone: missing_from(have, want), new: missing_from(want, have) }
}
