//! Which host port leads to which container.
//!
//! ```text
//! (mesh | public | address, protocol, port) ─> (container address, port)
//! ```
//!
//! Only what is ready gets connections. Two revisions of one slot may hold one port during a
//! rollout: the newest one that is ready has it; an older one keeps it until then. One without a
//! ready probe has to accept connections before it takes a port over. One that is held takes none.
//! Between two slots the one that has the port keeps it.
//!
//! Invariant: the map leads only to containers that run, so writing it before a container is
//! stopped and after its successor runs loses no connection.

mod obstacle;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::spec::{HostIp, PortSpec, Protocol};

use crate::container::Identity;
use crate::desired::{Desired, Slot};
use crate::health::{self, Verdict};
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
    now: Timestamp,
) -> PortMap {
    let mut candidates: BTreeMap<HostPort, Vec<Candidate<'_>>> = BTreeMap::new();
    for (identity, container) in running {
        if desired.is_some_and(|desired| !serves(identity, container, desired, observed, now)) {
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
            Some((key, winner(&rivals, published, &observed.deaf)?.target))
        })
        .collect()
}

/// Whether an instance is wanted and may have connections.
fn serves(
    identity: &Identity,
    container: &Container,
    desired: &Desired,
    observed: &Observed,
    now: Timestamp,
) -> bool {
    let id = &identity.instance;
    desired.instances.get(id).is_some_and(|wanted| {
        let verdict = health::verdict(id, wanted, container, &observed.memory, now);
        !wanted.assigned.held && verdict == Verdict::Ready
    })
}

fn winner<'a, 'b>(
    rivals: &'b [Candidate<'a>],
    published: Option<&Target>,
    deaf: &BTreeSet<Target>,
) -> Option<&'b Candidate<'a>> {
    let holder = rivals.iter().find(|rival| Some(&rival.target) == published);
    let first = rivals.iter().min_by_key(|rival| (rival.started, &rival.slot));
    let slot = &holder.or(first)?.slot;
    rivals.iter().filter(|rival| rival.slot == *slot).max_by_key(|rival| {
        let accepts = !deaf.contains(&rival.target);
        (accepts, rival.revision, rival.started, rival.instance)
    })
}

/// Targets that are to take a port over from another one, and that no ready probe asks: whether
/// they accept connections yet is worth knowing.
pub fn successors(
    desired: Option<&Desired>,
    running: &[(Identity, &Container)],
    observed: &Observed,
) -> BTreeSet<Target> {
    let mut successors = BTreeSet::new();
    for (identity, container) in running.iter().filter(|(_, container)| container.state.is_up()) {
        let wanted = desired.and_then(|desired| desired.instances.get(&identity.instance));
        if wanted.is_some_and(|wanted| wanted.policy.health.ready.is_some()) {
            continue;
        }
        let is_held = wanted.is_some_and(|wanted| wanted.assigned.held);
        let Some(address) = container.address() else { continue };
        for port in identity.ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
            let target = Target { address, port: port.container_port };
            let keys = host_ports(port, observed);
            let mut holders = keys.iter().filter_map(|key| observed.published.get(key));
            if is_held || holders.any(|holder| *holder != target) {
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

/// Addresses of the containers that lose a port to another one when `have` becomes `want`, and how
/// long each goes on with the connections that it has: as long as the taker's policy says.
pub fn superseded(
    desired: &Desired,
    running: &[(Identity, &Container)],
    have: &PortMap,
    want: &PortMap,
) -> BTreeMap<Ipv4Addr, Duration> {
    let mut superseded: BTreeMap<Ipv4Addr, Duration> = BTreeMap::new();
    for (key, loser) in have {
        let Some(taker) = want.get(key).filter(|taker| taker.address != loser.address) else {
            continue;
        };
        let taker =
            running.iter().find(|(_, container)| container.address() == Some(taker.address));
        let wanted = taker.and_then(|(identity, _)| desired.instances.get(&identity.instance));
        let drain = wanted.map(|wanted| wanted.policy.drain.duration()).unwrap_or_default();
        let longest = superseded.entry(loser.address).or_default();
        *longest = drain.max(*longest);
    }
    superseded
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
