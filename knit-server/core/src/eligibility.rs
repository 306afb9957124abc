//! Which nodes may run an instance, and why the others may not.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use knit_rpc::api::{Availability, NodeState};
use knit_rpc::id::NodeId;
use knit_rpc::spec::{DeploymentSpec, HostIp, PortSpec, VolumeName};

use crate::ledger::spec_bytes;
use crate::liveness::Verdicts;
use crate::placement::{Placements, Wanted};
use crate::snapshot::{Node, Snapshot};

/// Bytes of specs that one node's assignment may hold: NATS refuses messages over 8 MiB, and what
/// a string grows by when it is written as JSON must fit as well.
pub const ASSIGNMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why one node may not run one instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    pub node: String,
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.reason)
    }
}

/// Returns the nodes that may run the slot, and each other node's refusal.
pub fn candidates<'a>(
    snapshot: &'a Snapshot,
    verdicts: &Verdicts,
    placements: &Placements<'_>,
    wanted: &Wanted<'_>,
) -> (Vec<&'a Node>, Vec<Refusal>) {
    let mut fit = Vec::new();
    let mut refusals = Vec::new();
    for node in snapshot.nodes.values() {
        if wanted.only.is_some_and(|only| *only != node.id) {
            continue;
        }
        match refusal(snapshot, verdicts, placements, wanted, node) {
            None => fit.push(node),
            Some(reason) => refusals.push(Refusal { node: node.name().to_owned(), reason }),
        }
    }
    (fit, refusals)
}

/// Whether the node carries every label that the deployment asks for.
pub fn selected(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| node.label(key) == Some(value.as_str()))
}

/// One sentence that sums refusals up: `2 nodes: label role=web is missing; 1 node: …`.
pub fn summary(spec: &DeploymentSpec, refusals: &[Refusal]) -> String {
    if refusals.is_empty() {
        return "no node has joined this cluster yet".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for refusal in refusals {
        *counts.entry(refusal.reason.as_str()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(reason, count)| (usize::MAX - count, *reason));
    let counted: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| {
            format!("{count} node{}: {reason}", if count == 1 { "" } else { "s" })
        })
        .collect();
    let labels = refusals.iter().all(|refusal| refusal.reason.starts_with("label "));
    if labels && !spec.node_selector.is_empty() {
        let selector: Vec<String> =
            spec.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return format!(
            "no node matches the node_selector {}: {}",
            selector.join(", "),
            counted.join("; ")
        );
    }
    counted.join("; ")
}

fn refusal(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    placements: &Placements<'_>,
    wanted: &Wanted<'_>,
    node: &Node,
) -> Option<String> {
    for (key, value) in &wanted.spec.node_selector {
        match node.label(key) {
            Some(found) if found == value => {}
            Some(found) => return Some(format!("label {key}={value} is missing (it is {found})")),
            None => return Some(format!("label {key}={value} is missing")),
        }
    }
    if let Some(verdict) = verdicts.nodes.get(&node.id)
        && verdict.state != NodeState::Ready
    {
        let state = verdict.state.as_str();
        return Some(match &verdict.message {
            Some(message) if verdict.state == NodeState::NotReady => {
                format!("it is not ready: {message}")
            }
            Some(_) | None => format!("it is {state}"),
        });
    }
    if node.adopting {
        return Some("it runs what this server does not know yet; taking that in".to_owned());
    }
    port_taken(snapshot, placements, wanted, node).or_else(|| too_large(placements, wanted, node))
}

fn port_taken(
    snapshot: &Snapshot,
    placements: &Placements<'_>,
    wanted: &Wanted<'_>,
    node: &Node,
) -> Option<String> {
    if wanted.spec.instance.ports.is_empty() {
        return None;
    }
    for other in placements.on_node(&node.id) {
        if other.deployment == *wanted.deployment && other.slot == wanted.slot {
            continue;
        }
        let Some(spec) = snapshot.specs.get(&other.spec) else { continue };
        let clash =
            wanted.spec.instance.ports.iter().find(|port| {
                spec.ports.iter().any(|taken| ports_clash(port, taken, node.mesh_ip()))
            });
        if let Some(port) = clash {
            let holder = snapshot.deployments.get(&other.deployment).map_or_else(
                || other.id.to_string(),
                |d| format!("{}.{}", d.spec.name, other.slot),
            );
            return Some(format!(
                "host port {}/{} ({}) is taken by {holder}",
                port.host_port, port.protocol, port.host_ip
            ));
        }
    }
    None
}

/// Whether two published ports cannot both be had on one host.
pub fn ports_clash(a: &PortSpec, b: &PortSpec, mesh_ip: Option<Ipv4Addr>) -> bool {
    a.host_port == b.host_port
        && a.protocol == b.protocol
        && addresses_overlap(&a.host_ip, &b.host_ip, mesh_ip)
}

fn addresses_overlap(a: &HostIp, b: &HostIp, mesh_ip: Option<Ipv4Addr>) -> bool {
    let literal = |host_ip: &HostIp| match host_ip {
        HostIp::Mesh => mesh_ip,
        HostIp::Loopback => Some(Ipv4Addr::LOCALHOST),
        HostIp::Literal(address) => Some(*address),
        HostIp::Public | HostIp::Interface(_) => None,
    };
    if a == b {
        return true;
    }
    match (a, b) {
        (HostIp::Interface(_), HostIp::Interface(_)) => false,
        // An interface's addresses are known to its host only; loopback and mesh are others.
        (HostIp::Public, _)
        | (_, HostIp::Public)
        | (HostIp::Interface(_), HostIp::Literal(_))
        | (HostIp::Literal(_), HostIp::Interface(_)) => true,
        _ => matches!((literal(a), literal(b)), (Some(a), Some(b)) if a == b),
    }
}

fn too_large(placements: &Placements<'_>, wanted: &Wanted<'_>, node: &Node) -> Option<String> {
    let bytes = spec_bytes(&wanted.spec.instance);
    let bytes = placements.ledger(&node.id).spec_bytes_with(wanted.spec_hash, bytes);
    (bytes > ASSIGNMENT_BYTES_MAX).then(|| {
        format!(
            "its assignment would hold {} KiB of specs, at most {} KiB travel in one message",
            bytes / 1024,
            ASSIGNMENT_BYTES_MAX / 1024
        )
    })
}

/// The volumes of a slot.
pub fn volumes(spec: &DeploymentSpec, slot: u32) -> impl Iterator<Item = VolumeName> {
    spec.instance.volumes.iter().map(move |mount| VolumeName::of(&spec.project, mount, slot))
}

/// Whether an instance may stay on a node where it is: selected by its labels, and not being
/// drained. Where its data is it may always stay.
pub fn may_stay(snapshot: &Snapshot, node: &NodeId, spec: &DeploymentSpec) -> bool {
    snapshot.nodes.get(node).is_some_and(|node| {
        keeps_data(snapshot, &node.id, spec)
            || (selected(node, &spec.node_selector) && node.availability != Availability::Draining)
    })
}

fn keeps_data(snapshot: &Snapshot, node: &NodeId, spec: &DeploymentSpec) -> bool {
    spec.instance.volumes.iter().any(|mount| {
        snapshot.volumes.iter().any(|(name, volume)| {
            name.project == spec.project && name.name == mount.name && volume.node == *node
        })
    })
}

/// The nodes that should have an instance of a deployment with `mode: every-node`. A node that is
/// lost or not ready keeps its slot.
pub fn every_node<'a>(
    snapshot: &'a Snapshot,
    verdicts: &Verdicts,
    spec: &DeploymentSpec,
) -> Vec<&'a Node> {
    let wanted = |node: &&Node| {
        selected(node, &spec.node_selector)
            && node.availability != Availability::Draining
            && verdicts.state(&node.id).is_some()
    };
    snapshot.nodes.values().filter(wanted).collect()
}

#[cfg(test)]
mod tests;
