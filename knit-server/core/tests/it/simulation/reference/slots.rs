//! How many containers a slot may have at once, and where its data is.

use std::collections::BTreeMap;

use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::spec::{DeploymentSpec, Mode, Order, Strategy, VolumeName};
use knit_server_core::Deployment;

use super::Live;
use crate::simulation::faults::Faults;
use crate::simulation::world::{SECOND, World};

/// How long a surplus container may take to go: its drain, its end, messages, a retry or two.
const SURPLUS_MAX: u64 = 30 * SECOND;
/// How long after a fault nothing is said of a host, and of who was stopped first.
const CALM_AFTER: u64 = 60 * SECOND;

/// Since when each slot has more than it may, and where data was made.
#[derive(Debug, Default)]
pub(super) struct Slots {
    surplus: BTreeMap<(DeploymentId, u32), u64>,
    data: BTreeMap<VolumeName, NodeId>,
}

impl Slots {
    pub(super) fn check_data(&mut self, world: &World, all: &[Live]) -> Result<(), String> {
        for one in all {
            for volume in one.volumes() {
                let home = self.data.entry(volume.clone()).or_insert_with(|| one.node.clone());
                if *home != one.node {
                    let home = &world.hosts[home].name;
                    return Err(format!("{} uses {volume}, made on {home}", one.words(world)));
                }
            }
            let rival = all.iter().find(|other| {
                other.container != one.container
                    && other.node == one.node
                    && other.identity.slot() == one.identity.slot()
                    && other.writes.iter().any(|volume| one.writes.contains(volume))
            });
            if let Some(rival) = rival {
                let (one, rival) = (one.words(world), rival.words(world));
                return Err(format!("{one} and {rival} write to one volume"));
            }
        }
        Ok(())
    }

    pub(super) fn check(
        &mut self,
        world: &World,
        faults: &Faults,
        all: &[Live],
    ) -> Result<(), String> {
        let mut counts: BTreeMap<(DeploymentId, u32), Vec<&Live>> = BTreeMap::new();
        let trusted = |one: &&Live| one.heard && faults.are_past_on(&one.node, world, CALM_AFTER);
        for one in all.iter().filter(trusted) {
            let identity = &one.identity;
            let key = (identity.deployment_id.clone(), identity.slot);
            counts.entry(key).or_default().push(one);
        }
        self.surplus.retain(|key, _| counts.contains_key(key));
        for (key, found) in counts {
            let allowed = allowed(world, &key, &found);
            if found.len() <= allowed {
                self.surplus.remove(&key);
                continue;
            }
            let since = *self.surplus.entry(key).or_insert(world.tick);
            if world.tick - since >= SURPLUS_MAX {
                let found: Vec<String> = found.iter().map(|one| one.words(world)).collect();
                let seconds = (world.tick - since) / SECOND;
                let found = found.join(", ");
                return Err(format!("at most {allowed} for {seconds} s, but there are {found}"));
            }
        }
        Ok(())
    }
}

/// Who stops first has stopped before the next one starts, wherever.
pub(super) fn check_started(
    world: &mut World,
    faults: &Faults,
    all: &[Live],
) -> Result<(), String> {
    let mut started = Vec::new();
    for (id, host) in &mut world.hosts {
        started.extend(host.started.drain(..).map(|container| (id.clone(), container)));
    }
    if !faults.are_past(world, CALM_AFTER) {
        return Ok(());
    }
    for (node, name) in started {
        let is_it = |one: &&Live| one.node == node && [&one.container, &one.name].contains(&&name);
        let Some(one) = all.iter().find(is_it) else { continue };
        let deployments = &world.server.snapshot.deployments;
        let deployment = deployments.get(&one.identity.deployment_id);
        let made_for = deployment.and_then(|d| d.revisions.get(&one.identity.revision));
        let rival = all.iter().find(|other| {
            // One that only moves, away from a node that is being drained, runs until it is
            // replaced.
            other.container != one.container
                && other.identity.slot() == one.identity.slot()
                && other.identity.spec != one.identity.spec
        });
        if let (Some(rival), true) = (rival, made_for.is_some_and(|r| stops_first(&r.spec))) {
            let (one, rival) = (one.words(world), rival.words(world));
            return Err(format!("{one} starts before {rival} has stopped"));
        }
    }
    Ok(())
}

/// How many a slot may have.
fn allowed(world: &World, (id, slot): &(DeploymentId, u32), found: &[&Live]) -> usize {
    let Some(deployment) = world.server.snapshot.deployments.get(id) else { return 0 };
    let spec = &deployment.spec;
    let gone = deployment.removed_at.is_some() || deployment.stopped;
    if gone || (spec.mode == Mode::Replicated && *slot >= spec.replicas) {
        return 0;
    }
    // Who came back from being lost runs beside its replacement until that is healthy.
    let moved = found.iter().any(|one| one.node != found[0].node);
    if moved || !stops_first(spec) { 2 } else { 1 }
}

/// Whether one of a slot's containers is gone before another starts.
pub(super) fn stops_first(spec: &DeploymentSpec) -> bool {
    spec.instance.volumes.iter().any(|volume| !volume.read_only)
        || spec.update.strategy == Strategy::Recreate
        || spec.update.order == Order::StopFirst
}

/// The specs that instances of a deployment may have now.
pub(super) fn revisions_in_play(deployment: &Deployment) -> impl Iterator<Item = &DeploymentSpec> {
    deployment.revisions.values().map(|revision| &revision.spec)
}
