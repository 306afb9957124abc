//! Whether the cluster has come to rest at exactly what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::api::{Availability, NodeState};
use knit_rpc::id::{NodeId, SpecHash};
use knit_rpc::spec::{DeploymentSpec, Mode};
use knit_server_core::{Deployment, Instance, Node, Snapshot};

use crate::simulation::host::Host;
use crate::simulation::image::Kind;
use crate::simulation::world::World;

/// What is not as it should be once all is calm, if anything.
pub(in crate::simulation) fn unrest(world: &World) -> Option<String> {
    let snapshot = &world.server.snapshot;
    let not_ready =
        snapshot.nodes.keys().find(|id| world.server.verdicts.state(id) != Some(NodeState::Ready));
    if let Some(id) = not_ready {
        return Some(format!("{} is not ready", world.hosts[id].name));
    }
    if let Some(left) = world.hosts.values().find_map(|host| leftover(snapshot, host)) {
        return Some(left);
    }
    snapshot.deployments.values().find_map(|one| of_deployment(world, one))
}

/// A container that nobody decided.
fn leftover(snapshot: &Snapshot, host: &Host) -> Option<String> {
    let ours = host.ours();
    let (identity, _) =
        ours.iter().find(|(identity, _)| !snapshot.instances.contains_key(&identity.instance))?;
    let (name, slot) = (&identity.deployment, identity.slot);
    Some(format!("{} of {name}.{slot} is left on {}", identity.instance, host.name))
}

fn of_deployment(world: &World, deployment: &Deployment) -> Option<String> {
    let name = &deployment.spec.name;
    if deployment.removed_at.is_some() {
        return Some(format!("{name} is not gone"));
    }
    let rows: Vec<&Instance> =
        world.server.snapshot.instances.of_deployment(&deployment.id).collect();
    if deployment.stopped {
        return (!rows.is_empty()).then(|| format!("{name} is stopped, and has instances"));
    }
    if deployment.rollout.as_ref().is_some_and(|rollout| !rollout.paused) {
        return Some(format!("{name} is being rolled out"));
    }
    let is_paused = deployment.rollout.is_some();
    for (slot, only) in wanted_slots(world, deployment) {
        let of_slot: Vec<&&Instance> = rows.iter().filter(|row| row.slot == slot).collect();
        let (spec, hash) = spec_of_slot(deployment, slot);
        let sound = Kind::of(&spec.instance.image).is_sound();
        match of_slot.as_slice() {
            [] => {
                if let Some(node) = a_place(world, deployment, spec, slot, only.as_ref()) {
                    return Some(format!("{name}.{slot} has no place, and fits on {node}"));
                }
            }
            // What replaces it cannot run, has no place or waits for a person.
            [_, _] if is_paused || !sound => {}
            [one] => {
                let as_wanted = one.spec == *hash || is_paused;
                if !as_wanted && a_place(world, deployment, spec, slot, only.as_ref()).is_some() {
                    return Some(format!("{name}.{slot} runs another spec"));
                }
                if sound && as_wanted && !is_paused && !serves(world, one) {
                    return Some(format!("{name}.{slot} does not serve"));
                }
            }
            several => return Some(format!("{name}.{slot} has {} instances", several.len())),
        }
    }
    let slots: BTreeSet<u32> =
        wanted_slots(world, deployment).into_iter().map(|(s, _)| s).collect();
    let surplus = rows.iter().find(|row| !slots.contains(&row.slot));
    surplus.map(|row| format!("{name}.{} is not wanted", row.slot))
}

fn wanted_slots(world: &World, deployment: &Deployment) -> Vec<(u32, Option<NodeId>)> {
    let spec = &deployment.spec;
    if spec.mode == Mode::Replicated {
        return (0..spec.replicas).map(|slot| (slot, None)).collect();
    }
    let nodes = world.server.snapshot.nodes.values();
    nodes
        .filter(|node| matches(node, spec) && node.availability != Availability::Draining)
        .map(|node| (node.number, Some(node.id.clone())))
        .collect()
}

/// What a slot is wanted as: what was not admitted stays as it was.
fn spec_of_slot(deployment: &Deployment, slot: u32) -> (&DeploymentSpec, &SpecHash) {
    let rollout = deployment.rollout.as_ref().filter(|rollout| slot >= rollout.admitted);
    let from = rollout.and_then(|rollout| deployment.revisions.get(&rollout.from?));
    let from = from.filter(|from| slot < from.spec.replicas || from.spec.mode == Mode::EveryNode);
    from.map_or((&deployment.spec, &deployment.spec_hash), |from| (&from.spec, &from.spec_hash))
}

fn serves(world: &World, instance: &Instance) -> bool {
    let host = &world.hosts[&instance.node];
    host.ours().iter().any(|(identity, container)| {
        identity.instance == instance.id && host.engine.serves(&container.id, world.now)
    })
}

/// A node that the slot fits on, as far as this model knows.
fn a_place(
    world: &World,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    slot: u32,
    only: Option<&NodeId>,
) -> Option<String> {
    let snapshot = &world.server.snapshot;
    let nodes = snapshot.nodes.values();
    nodes
        .filter(|node| only.is_none_or(|only| node.id == *only))
        .find(|node| fits(snapshot, node, deployment, spec, slot))
        .map(|node| node.name().to_owned())
}

fn matches(node: &Node, spec: &DeploymentSpec) -> bool {
    spec.node_selector.iter().all(|(key, value)| node.label(key) == Some(value.as_str()))
}

fn fits(
    snapshot: &Snapshot,
    node: &Node,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    slot: u32,
) -> bool {
    let others: Vec<&Instance> = snapshot.instances.on_node(&node.id).collect();
    let memory = |spec: &knit_rpc::spec::InstanceSpec| spec.resources.memory.map_or(0, |m| m.0);
    let taken: u64 = others.iter().filter_map(|one| snapshot.spec_of(one)).map(memory).sum();
    let siblings = others
        .iter()
        .filter(|one| one.deployment == deployment.id && one.slot != slot)
        .map(|one| one.slot)
        .collect::<BTreeSet<u32>>()
        .len();
    let port_taken = others.iter().any(|one| {
        let is_own = one.deployment == deployment.id && one.slot == slot;
        let held = snapshot.spec_of(one).map_or(&[][..], |spec| &spec.ports);
        !is_own
            && held
                .iter()
                .any(|port| spec.instance.ports.iter().any(|own| own.host_port == port.host_port))
    });
    let data_elsewhere = volumes(snapshot, spec, slot).values().any(|home| **home != node.id);
    matches(node, spec)
        && node.availability == Availability::Active
        && taken + memory(&spec.instance) <= node.facts.memory
        && spec.max_per_node.is_none_or(|most| siblings < most as usize)
        && !port_taken
        && !data_elsewhere
}

/// Where the slot's data is.
fn volumes<'a>(
    snapshot: &'a Snapshot,
    spec: &DeploymentSpec,
    slot: u32,
) -> BTreeMap<knit_rpc::spec::VolumeName, &'a NodeId> {
    let names = spec
        .instance
        .volumes
        .iter()
        .map(|mount| knit_rpc::spec::VolumeName::of(&spec.project, mount, slot));
    names
        .filter_map(|name| {
            let home = &snapshot.volumes.get(&name)?.node;
            Some((name, home))
        })
        .collect()
}
