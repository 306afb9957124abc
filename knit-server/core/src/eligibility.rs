//! Which nodes may run an instance, and all that speaks against the others.
//!
//! ```text
//! fixed     labels, where, state of the node          the same for all slots while a plan is made
//! changing  resources, ports, max_per_node, room      changes with every instance that is placed
//! data      volumes of the slot
//! ```
//!
//! Invariant: one walk finds obstacles, whether the first is asked for or all, so that what is
//! said of a node is what decided.

mod obstacle;
mod ports;
mod resource;
mod summary;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use knit_rpc::api::{Availability, NodeState, Reserved};
use knit_rpc::constraint::{Attribute, Value};
use knit_rpc::id::{DeploymentId, NodeId, SpecHash};
use knit_rpc::spec::{DeploymentSpec, Mode, Privilege, VolumeName};

pub(crate) use obstacle::node_name;
pub use obstacle::{Context, Obstacle};
pub use ports::ports_clash;
pub use resource::Resource;
pub use summary::{Refusal, nearest, summary};

use crate::ledger::{self, Ledger};
use crate::liveness::{Verdict, Verdicts};
use crate::placement::Placements;
use crate::snapshot::{Node, Snapshot};

/// Bytes of specs that one node's assignment may hold: NATS refuses messages over 8 MiB, and what
/// a string grows by when it is written as JSON must fit as well.
pub const ASSIGNMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What one slot needs of its node.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    pub deployment: &'a DeploymentId,
    pub slot: u32,
    pub spec: &'a DeploymentSpec,
    pub spec_hash: &'a SpecHash,
    /// What it reserves.
    pub asked: Reserved,
    /// Bytes of its spec on the wire.
    pub bytes: usize,
}

impl<'a> Needs<'a> {
    pub fn new(
        deployment: &'a DeploymentId,
        slot: u32,
        spec: &'a DeploymentSpec,
        spec_hash: &'a SpecHash,
    ) -> Self {
        Self {
            deployment,
            slot,
            spec,
            spec_hash,
            asked: ledger::asked(&spec.instance.resources),
            bytes: ledger::spec_bytes(&spec.instance),
        }
    }
}

/// A node with what is taken of it.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    pub node: &'a Node,
    pub verdict: Option<&'a Verdict>,
    pub ledger: &'a Ledger,
    /// Other slots of the deployment that are on it.
    pub siblings: u32,
}

/// Who is told of obstacles; it breaks off when it has heard enough.
pub trait Listener<'a>: FnMut(Obstacle<'a>) -> ControlFlow<()> {}
impl<'a, F: FnMut(Obstacle<'a>) -> ControlFlow<()>> Listener<'a> for F {}

/// Whether no other node will do: the slot's data is here, or it is one on every node. Then being
/// cordoned does not count: a new revision would otherwise have no place at all. Neither does
/// being drained where the data is; what may not stay must not be placed.
pub(crate) fn is_tied(needs: &Needs<'_>, node: &Node, placements: &Placements<'_>) -> bool {
    (needs.spec.mode == Mode::EveryNode && node.availability != Availability::Draining)
        || volumes(needs.spec, needs.slot).any(|volume| placements.bound(&volume) == Some(&node.id))
}

/// Tells what does not change while a plan is made: labels, `where`, the state of the node, and,
/// last, what people said that it is there for.
pub fn fixed<'a>(
    spec: &'a DeploymentSpec,
    node: &'a Node,
    verdict: Option<&'a Verdict>,
    tell: &mut impl Listener<'a>,
) -> ControlFlow<()> {
    for (key, value) in &spec.node_selector {
        let found = node.label(key);
        if found != Some(value) {
            tell(Obstacle::Label { key, value, found })?;
        }
    }
    if !meets_constraint(node, spec) {
        for part in spec.constraint.iter().flat_map(|c| c.failing(&|a| attribute(node, a))) {
            tell(Obstacle::Where(part))?;
        }
    }
    if let Some(privilege) = refused(spec, node) {
        tell(Obstacle::Policy { privilege, is_told: node.facts.policy.is_some() })?;
    }
    if let Some(verdict) = verdict
        && verdict.state != NodeState::Ready
    {
        tell(Obstacle::State { state: verdict.state, message: verdict.message.as_deref() })?;
    }
    if node.adopting {
        tell(Obstacle::Adopting)?;
    }
    if node.sealing_key.is_none() && !spec.instance.secret_names().is_empty() {
        tell(Obstacle::NoSecrets)?;
    }
    match node.availability {
        Availability::Active => ControlFlow::Continue(()),
        Availability::Cordoned => tell(Obstacle::Cordoned),
        Availability::Draining => tell(Obstacle::Draining),
    }
}

/// What of a spec the node's policy refuses. An agent that tells of none is too old for all but the
/// host's network, which it has always given.
fn refused<'a>(spec: &'a DeploymentSpec, node: &Node) -> Option<Privilege<'a>> {
    match &node.facts.policy {
        Some(policy) => policy.refuses(&spec.instance),
        None => spec.instance.privileges().find(|one| *one != Privilege::HostNetwork),
    }
}

/// Tells what every placed instance may change: resources, ports, `max_per_node`, room in the
/// assignment.
pub fn changing<'a>(
    needs: &Needs<'a>,
    host: &Host<'a>,
    tell: &mut impl Listener<'a>,
) -> ControlFlow<()> {
    let reserved = host.ledger.reserved();
    let silent = Resource::ALL.into_iter().all(|resource| resource.total(host.node) == 0);
    if silent && Resource::ALL.into_iter().any(|resource| resource.of(&needs.asked) > 0) {
        tell(Obstacle::CapacityUnknown { needs: needs.asked })?;
    }
    for resource in Resource::ALL {
        let (asked, total) = (resource.of(&needs.asked), resource.total(host.node));
        let free = total.saturating_sub(resource.of(&reserved));
        if total > 0 && asked > free {
            tell(Obstacle::Short { resource, needs: asked, free, total })?;
        }
    }
    if let Some(max) = needs.spec.max_per_node
        && host.siblings >= max
    {
        tell(Obstacle::PerNode { max, has: host.siblings })?;
    }
    for port in &needs.spec.instance.ports {
        let claims = host.ledger.claims(port.host_port, port.protocol);
        let taken = claims.iter().find(|claim| {
            (claim.slot != needs.slot || claim.deployment != *needs.deployment)
                && ports::addresses_overlap(&port.host_ip, &claim.host_ip, host.node.mesh_ip())
        });
        if let Some(taken) = taken {
            tell(Obstacle::Port { port, taken })?;
        }
    }
    let bytes = host.ledger.spec_bytes_with(needs.spec_hash, needs.bytes);
    if bytes > ASSIGNMENT_BYTES_MAX {
        tell(Obstacle::TooLarge { bytes })?;
    }
    ControlFlow::Continue(())
}

/// Tells what the slot's volumes have against a node.
pub fn of_data<'a>(
    needs: &Needs<'_>,
    node: &NodeId,
    placements: &'a Placements<'_>,
    tell: &mut impl Listener<'a>,
) -> ControlFlow<()> {
    let mut first: Option<(VolumeName, &NodeId)> = None;
    for volume in volumes(needs.spec, needs.slot) {
        let Some(on) = placements.bound(&volume) else { continue };
        if placements.is_leaving(&volume) {
            tell(Obstacle::DataLeaving { volume: volume.clone(), node: on })?;
        }
        match &first {
            Some((_, other)) if *other == on => {}
            Some(one) => {
                tell(Obstacle::DataApart { one: one.clone(), other: (volume, on) })?;
            }
            None => {
                if on != node {
                    tell(Obstacle::DataElsewhere { volume: volume.clone(), node: on })?;
                }
                first = Some((volume, on));
            }
        }
    }
    ControlFlow::Continue(())
}

/// All that keeps a node from running a slot; nothing when it may.
pub fn obstacles<'a>(
    needs: &Needs<'a>,
    host: &Host<'a>,
    placements: &'a Placements<'_>,
) -> Vec<Obstacle<'a>> {
    let tied = is_tied(needs, host.node, placements);
    let mut found = Vec::new();
    let mut note = |obstacle: Obstacle<'a>| {
        if !(tied && obstacle.is_availability()) {
            found.push(obstacle);
        }
        ControlFlow::Continue(())
    };
    let _ = of_data(needs, &host.node.id, placements, &mut note);
    let _ = fixed(needs.spec, host.node, host.verdict, &mut note);
    let _ = changing(needs, host, &mut note);
    found
}

/// Whether the node carries every label that the deployment asks for.
pub fn selected(node: &Node, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| node.label(key) == Some(value))
}

/// Whether `where` holds of the node.
fn meets_constraint(node: &Node, spec: &DeploymentSpec) -> bool {
    spec.constraint.as_ref().is_none_or(|constraint| constraint.eval(&|a| attribute(node, a)))
}

fn attribute(node: &Node, attribute: &Attribute) -> Option<Value> {
    let text = |text: &str| (!text.is_empty()).then(|| Value::Text(text.to_owned()));
    let number = |number: u64| (number > 0).then_some(Value::Number(number));
    match attribute {
        Attribute::Label(name) => node.label(name).map(|value| Value::Text(value.to_owned())),
        Attribute::Arch => text(&node.facts.arch),
        Attribute::Kernel => text(&node.facts.kernel),
        Attribute::Docker => node.facts.docker.as_deref().and_then(text),
        Attribute::Name => text(node.name()),
        Attribute::Id => text(node.id.as_str()),
        Attribute::Cpus => number(u64::from(node.facts.cpus)),
        Attribute::Memory => number(node.facts.memory),
    }
}

/// The volumes of a slot.
pub fn volumes(spec: &DeploymentSpec, slot: u32) -> impl Iterator<Item = VolumeName> {
    spec.instance.volumes.iter().map(move |mount| VolumeName::of(&spec.project, mount, slot))
}

/// Whether an instance may stay on a node where it is: its labels and `where` hold, and it is not
/// being drained. Where its data is it may always stay.
pub fn may_stay(snapshot: &Snapshot, node: &NodeId, spec: &DeploymentSpec) -> bool {
    let Some(node) = snapshot.nodes.get(node) else { return false };
    is_wanted_on(node, spec)
        || spec.instance.volumes.iter().any(|mount| {
            let from = VolumeName::of(&spec.project, mount, 0);
            let all = VolumeName { slot: None, ..from };
            snapshot
                .volumes
                .range(all..)
                .take_while(|(name, _)| name.project == spec.project && name.name == mount.name)
                .any(|(_, volume)| volume.node == node.id)
        })
}

fn is_wanted_on(node: &Node, spec: &DeploymentSpec) -> bool {
    node.availability != Availability::Draining
        && selected(node, &spec.node_selector)
        && meets_constraint(node, spec)
}

/// The nodes that should have an instance of a deployment with `mode: every-node`: cordoned ones
/// too, and those that are lost or not ready keep their slot.
pub fn every_node<'a>(
    snapshot: &'a Snapshot,
    verdicts: &Verdicts,
    spec: &DeploymentSpec,
) -> Vec<&'a Node> {
    let wanted = |node: &&Node| verdicts.state(&node.id).is_some() && is_wanted_on(node, spec);
    snapshot.nodes.values().filter(wanted).collect()
}

#[cfg(test)]
mod tests;
