//! What speaks against a node, in numbers and in words.

use std::cmp::Reverse;

use knit_rpc::api::{NodeState, Reserved};
use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::spec::{PortSpec, Privilege, VolumeName};

use super::Resource;
use crate::ledger::{self, Claim};
use crate::placement::Placements;
use crate::snapshot::{Node, Snapshot};

/// Holders of a resource that are named, at most.
const HOLDERS_NAMED_MAX: usize = 3;

/// One thing that keeps a node from running a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle<'a> {
    Label {
        key: &'a str,
        value: &'a str,
        found: Option<&'a str>,
    },
    /// A part of `where` that does not hold, in words.
    Where(String),
    /// What its own policy does not let containers have.
    Policy {
        privilege: Privilege<'a>,
        /// Whether its agent tells of a policy at all.
        is_told: bool,
    },
    State {
        state: NodeState,
        message: Option<&'a str>,
    },
    Adopting,
    /// Its agent is too old to take secrets.
    NoSecrets,
    Cordoned,
    Draining,
    Short {
        resource: Resource,
        needs: u64,
        free: u64,
        total: u64,
    },
    /// It has not said what it has.
    CapacityUnknown {
        needs: Reserved,
    },
    Port {
        port: &'a PortSpec,
        taken: &'a Claim,
    },
    PerNode {
        max: u32,
        has: u32,
    },
    /// Bytes of specs.
    TooLarge {
        bytes: usize,
    },
    DataElsewhere {
        volume: VolumeName,
        node: &'a NodeId,
    },
    /// Volumes of one slot that are on two nodes.
    DataApart {
        one: (VolumeName, &'a NodeId),
        other: (VolumeName, &'a NodeId),
    },
    DataLeaving {
        volume: VolumeName,
        node: &'a NodeId,
    },
}

/// Everything that a sentence may need to name things.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c, 'a> {
    pub snapshot: &'c Snapshot,
    pub placements: &'c Placements<'a>,
    pub node: &'c Node,
}

impl Obstacle<'_> {
    /// The whole truth, with numbers.
    pub fn sentence(&self, context: &Context<'_, '_>) -> String {
        let snapshot = context.snapshot;
        match self {
            Self::Short { resource, needs, free, total } => format!(
                "needs {}, has {} free of {}{}",
                resource.amount_of(*needs),
                resource.amount(*free),
                resource.amount(*total),
                holders(context, *resource)
            ),
            Self::CapacityUnknown { needs } => {
                let asked = Resource::ALL.into_iter().filter(|resource| resource.of(needs) > 0);
                let asked: Vec<String> = asked.map(|r| r.amount_of(r.of(needs))).collect();
                format!("needs {}, and it has not said yet what it has", asked.join(", "))
            }
            Self::PerNode { max, has } => {
                format!("has {has} of it already, max_per_node is {max}")
            }
            Self::Port { port, taken } => format!(
                "host port {}/{} ({}) is taken by {}",
                port.host_port,
                port.protocol,
                port.host_ip,
                slot_name(snapshot, &taken.deployment, taken.slot)
            ),
            Self::TooLarge { bytes } => format!(
                "its assignment would hold {} KiB of specs, at most {} KiB travel in one message",
                bytes / 1024,
                super::ASSIGNMENT_BYTES_MAX / 1024
            ),
            Self::Label { .. }
            | Self::Where(_)
            | Self::Policy { .. }
            | Self::State { .. }
            | Self::Adopting
            | Self::NoSecrets
            | Self::Cordoned
            | Self::Draining
            | Self::DataElsewhere { .. }
            | Self::DataApart { .. }
            | Self::DataLeaving { .. } => self.short(snapshot),
        }
    }

    /// What nodes with the same trouble have in common: no numbers of one node's own.
    pub fn short(&self, snapshot: &Snapshot) -> String {
        match self {
            Self::Label { key, value, found: None } => format!("label {key}={value} is missing"),
            Self::Label { key, value, found: Some(found) } => {
                format!("label {key}={value} is missing (it is {found})")
            }
            Self::Where(part) => part.clone(),
            Self::Policy { privilege, is_told: true } => {
                format!("its policy (agent.toml) refuses {privilege}")
            }
            Self::Policy { privilege, is_told: false } => {
                format!("its agent is too old to give containers {privilege}")
            }
            Self::State { state: NodeState::NotReady, message: Some(message) } => {
                format!("it is not ready: {message}")
            }
            Self::State { state, .. } => format!("it is {}", state.as_str()),
            Self::Adopting => {
                "it runs what this server does not know yet; taking that in".to_owned()
            }
            Self::NoSecrets => "its agent cannot take secrets (upgrade it)".to_owned(),
            Self::Cordoned => "it is cordoned".to_owned(),
            Self::Draining => "it is draining".to_owned(),
            Self::Short { resource, .. } => format!("not enough {}", resource.name()),
            Self::CapacityUnknown { .. } => "it has not said yet what it has".to_owned(),
            Self::Port { port, taken } => format!(
                "host port {}/{} ({}) is taken by {}",
                port.host_port,
                port.protocol,
                port.host_ip,
                slot_name(snapshot, &taken.deployment, taken.slot)
            ),
            Self::PerNode { max, .. } => format!("has {max} of it already (max_per_node)"),
            Self::TooLarge { .. } => "its assignment would be too large".to_owned(),
            Self::DataElsewhere { volume, node } => {
                format!("its data (volume {volume}) is on {}", node_name(snapshot, node))
            }
            Self::DataApart { one, other } => format!(
                "its data is apart: volume {} is on {}, volume {} on {}",
                one.0,
                node_name(snapshot, one.1),
                other.0,
                node_name(snapshot, other.1)
            ),
            Self::DataLeaving { volume, node } => {
                format!("volume {volume} is being removed from {}", node_name(snapshot, node))
            }
        }
    }

    /// As a clause about a node: `lacks 212 MiB of memory`.
    pub fn clause(&self, snapshot: &Snapshot) -> String {
        match self {
            Self::Short { resource, needs, free, .. } => {
                format!("which lacks {}", resource.amount_of(needs - free))
            }
            Self::Cordoned => "which is cordoned".to_owned(),
            Self::Draining => "which is draining".to_owned(),
            Self::State { state, .. } => format!("which is {}", state.as_str()),
            Self::PerNode { .. } | Self::CapacityUnknown { .. } => {
                let short = self.short(snapshot);
                format!("which {}", short.trim_start_matches("it "))
            }
            Self::Label { .. }
            | Self::Where(_)
            | Self::Policy { .. }
            | Self::Adopting
            | Self::NoSecrets
            | Self::Port { .. }
            | Self::TooLarge { .. }
            | Self::DataElsewhere { .. }
            | Self::DataApart { .. }
            | Self::DataLeaving { .. } => format!("where {}", self.short(snapshot)),
        }
    }

    /// What would have to change.
    pub fn remedy(&self, context: &Context<'_, '_>) -> String {
        let (snapshot, node) = (context.snapshot, context.node.name());
        match self {
            Self::Label { key, value, .. } => {
                format!("label it: `knit node label {node} {key}={value}`")
            }
            Self::Where(part) => match part.split_once(" fails") {
                Some((part, _)) => format!("{part} must hold"),
                None => part.clone(),
            },
            Self::Policy { privilege, is_told: true } => format!(
                "allow {privilege} there: {} under [policy] in /etc/knit/agent.toml, and restart \
                 its agent",
                policy_line(*privilege)
            ),
            Self::Policy { is_told: false, .. } => "upgrade its agent".to_owned(),
            Self::State { .. } => "it must become ready".to_owned(),
            Self::Adopting => "what it runs must be taken in, which happens by itself".to_owned(),
            Self::NoSecrets => format!("upgrade knit-agent on {node}, and let it register"),
            Self::Cordoned => format!("let it work again: `knit node uncordon {node}`"),
            Self::Draining => format!("let it work again: `knit node undrain {node}`"),
            Self::Short { resource, needs, free, .. } => {
                format!("{} must become free", resource.amount_of(needs - free))
            }
            Self::CapacityUnknown { .. } => "its agent must say what it has".to_owned(),
            Self::Port { port, taken } => format!(
                "{} must give up host port {}/{}",
                slot_name(snapshot, &taken.deployment, taken.slot),
                port.host_port,
                port.protocol
            ),
            Self::PerNode { has, .. } => format!("max_per_node must be {} or more", has + 1),
            Self::TooLarge { .. } => "templates or env of what it runs must shrink".to_owned(),
            Self::DataElsewhere { volume, .. }
            | Self::DataApart { one: (volume, _), .. }
            | Self::DataLeaving { volume, .. } => {
                format!("nothing: data does not move, and volume {volume} decides")
            }
        }
    }

    /// Whether it is what people said that the node is there for.
    pub(crate) fn is_availability(&self) -> bool {
        matches!(self, Self::Cordoned | Self::Draining)
    }

    /// Whether its summary leaves an amount out.
    pub(super) fn has_amount(&self) -> bool {
        matches!(self, Self::Short { .. })
    }

    /// How far the node is from being of use: the kind of trouble, then its amount in thousandths
    /// of the node.
    pub(super) fn distance(&self) -> (u8, u64) {
        match self {
            Self::Short { needs, free, total, .. } => {
                (0, (needs - free).saturating_mul(1000) / total.max(&1))
            }
            Self::PerNode { .. } => (1, 0),
            Self::Port { .. } => (2, 0),
            Self::Cordoned | Self::Draining => (3, 0),
            Self::Label { .. } | Self::Where(_) | Self::Policy { .. } => (4, 0),
            Self::State { .. }
            | Self::Adopting
            | Self::NoSecrets
            | Self::CapacityUnknown { .. } => (5, 0),
            Self::TooLarge { .. } => (6, 0),
            Self::DataElsewhere { .. } | Self::DataApart { .. } | Self::DataLeaving { .. } => {
                (7, 0)
            }
        }
    }
}

/// What the node's owner writes to allow it.
fn policy_line(privilege: Privilege<'_>) -> String {
    match privilege {
        Privilege::Privileged => "privileged = true".to_owned(),
        Privilege::HostNetwork => "host_network = true".to_owned(),
        Privilege::Capability(name) => format!("cap_add = [\"{name}\"]"),
        Privilege::HostPath { path, read_only } => {
            let key = if read_only { "host_paths_read_only" } else { "host_paths" };
            format!("{key} = [\"{}\"]", path.display())
        }
    }
}

/// Who has most of a resource: `: web.0 reserves 1.2 GiB, …`.
fn holders(context: &Context<'_, '_>, resource: Resource) -> String {
    let mut holders: Vec<(Reverse<u64>, String)> = context
        .placements
        .on_node(&context.node.id)
        .filter_map(|instance| {
            let spec = context.snapshot.spec_of(instance)?;
            let amount = resource.of(&ledger::asked(&spec.resources));
            let name = slot_name(context.snapshot, &instance.deployment, instance.slot);
            (amount > 0).then_some((Reverse(amount), name))
        })
        .collect();
    if holders.is_empty() {
        return String::new();
    }
    holders.sort();
    let more = holders.len().saturating_sub(HOLDERS_NAMED_MAX);
    let named: Vec<String> = holders
        .into_iter()
        .take(HOLDERS_NAMED_MAX)
        .map(|(Reverse(amount), name)| format!("{name} reserves {}", resource.amount(amount)))
        .collect();
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!(": {}{more}", named.join(", "))
}

/// `web.0`.
pub(crate) fn slot_name(snapshot: &Snapshot, deployment: &DeploymentId, slot: u32) -> String {
    match snapshot.deployments.get(deployment) {
        Some(deployment) => format!("{}.{slot}", deployment.spec.name),
        None => format!("{deployment}.{slot}"),
    }
}

pub(crate) fn node_name<'a>(snapshot: &'a Snapshot, node: &'a NodeId) -> &'a str {
    snapshot.nodes.get(node).map_or(node.as_str(), Node::name)
}
