//! What is in the way of publishing an instance's ports: each a sentence that names the culprit.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use knit_rpc::api::{API_PORT, NATS_PORT};
use knit_rpc::id::InstanceId;
use knit_rpc::spec::{HostIp, InstanceSpec, PortSpec, Protocol};

use crate::container::Identity;
use crate::desired::{Desired, Wanted};
use crate::observed::{Container, Observed};

/// Why the ports of an instance cannot be published now, in a sentence: another instance or a
/// process of the host holds one, or the interface is not there.
pub fn obstacle(
    wanted: &Wanted,
    desired: &Desired,
    running: &[(Identity, &Container)],
    observed: &Observed,
    mesh: &BTreeSet<Ipv4Addr>,
) -> Option<String> {
    if wanted.spec.uses_host_network() {
        return None;
    }
    wanted.spec.ports.iter().find_map(|port| {
        missing_interface(port, observed)
            .or_else(|| rival(port, wanted, desired, running))
            .or_else(|| host_listener(port, wanted, running, observed, mesh))
            .or_else(|| reserved(port))
    })
}

fn missing_interface(port: &PortSpec, observed: &Observed) -> Option<String> {
    let HostIp::Interface(name) = &port.host_ip else { return None };
    let here = observed.interfaces.get(name).is_some_and(|addresses| !addresses.is_empty());
    (!here).then(|| {
        format!(
            "port {} cannot be published: this node has no interface \"{name}\" with an IPv4 address",
            port.host_port
        )
    })
}

/// Another slot that runs with the port, or, among those that do not run yet, the first by name.
fn rival(
    port: &PortSpec,
    wanted: &Wanted,
    desired: &Desired,
    running: &[(Identity, &Container)],
) -> Option<String> {
    let slot = wanted.slot();
    let runs = |id: &InstanceId| {
        running
            .iter()
            .any(|(identity, container)| identity.instance == *id && container.state.is_up())
    };
    let holder = desired.instances.values().find(|other| {
        other.slot() != slot
            && holds(&other.spec, port)
            && (runs(&other.assigned.id)
                || (other.slot(), &other.assigned.id) < (slot.clone(), &wanted.assigned.id))
    })?;
    Some(format!(
        "port {}/{} on {} is held by {} (instance {})",
        port.host_port,
        port.protocol,
        port.host_ip,
        holder.slot(),
        holder.assigned.id
    ))
}

fn holds(spec: &InstanceSpec, port: &PortSpec) -> bool {
    !spec.uses_host_network()
        && spec.ports.iter().any(|other| {
            other.host_port == port.host_port
                && other.protocol == port.protocol
                && overlap(&other.host_ip, &port.host_ip)
        })
}

fn overlap(one: &HostIp, other: &HostIp) -> bool {
    one == other || *one == HostIp::Public || *other == HostIp::Public
}

fn host_listener(
    port: &PortSpec,
    wanted: &Wanted,
    running: &[(Identity, &Container)],
    observed: &Observed,
    mesh: &BTreeSet<Ipv4Addr>,
) -> Option<String> {
    let here: BTreeSet<Ipv4Addr> = match &port.host_ip {
        HostIp::Mesh => mesh.clone(),
        HostIp::Loopback => BTreeSet::from([Ipv4Addr::LOCALHOST]),
        HostIp::Literal(address) => BTreeSet::from([*address]),
        HostIp::Interface(name) => observed.interfaces.get(name).cloned().unwrap_or_default(),
        HostIp::Public => observed.interfaces.values().flatten().copied().collect(),
    };
    let listener = observed.listeners.iter().find(|listener| {
        listener.protocol == port.protocol
            && listener.port == port.host_port
            && listener.address.is_none_or(|address| here.contains(&address))
    })?;
    if port.host_ip == HostIp::Loopback && held_by_own_slot(port, wanted, running) {
        return Some(format!(
            "port {}/{} on loopback is still held by an older revision of {}",
            port.host_port,
            port.protocol,
            wanted.slot()
        ));
    }
    Some(format!(
        "port {}/{} on {} is taken: {} listens on it",
        port.host_port, port.protocol, port.host_ip, listener.process
    ))
}

/// Knit's own ports on the mesh address: whatever listens there now, a server may next, and a
/// container that had one would be taken for it.
pub(super) fn reserved(port: &PortSpec) -> Option<String> {
    let on_mesh = matches!(port.host_ip, HostIp::Mesh | HostIp::Public);
    let is_own = port.protocol == Protocol::Tcp && [API_PORT, NATS_PORT].contains(&port.host_port);
    (on_mesh && is_own).then(|| {
        format!(
            "port {}/tcp on {} is Knit's own: publish another one",
            port.host_port, port.host_ip
        )
    })
}

fn held_by_own_slot(port: &PortSpec, wanted: &Wanted, running: &[(Identity, &Container)]) -> bool {
    running.iter().any(|(identity, container)| {
        container.state.is_up()
            && identity.slot() == wanted.slot()
            && identity.ports.iter().any(|held| {
                (held.host_port, held.protocol, &held.host_ip)
                    == (port.host_port, port.protocol, &port.host_ip)
            })
    })
}
