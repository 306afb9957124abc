//! While nothing goes wrong, nobody has fewer healthy slots than both revisions promise; and a
//! node whose path to the server alone is cut is not lost.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::api::NodeState;
use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::spec::Mode;
use knit_server_core::Deployment;

use super::Live;
use super::slots::{revisions_in_play, stops_first};
use crate::simulation::faults::Faults;
use crate::simulation::image::Kind;
use crate::simulation::world::{SECOND, World};

/// How long after a fault nothing is promised.
const CALM_AFTER: u64 = 90 * SECOND;
/// How long a peer must have been well to speak for a node that is cut off.
const WITNESS_AFTER: u64 = 40 * SECOND;

/// The most slots of each deployment that were healthy since all was calm.
#[derive(Debug, Default)]
pub(super) struct Promises {
    best: BTreeMap<DeploymentId, Best>,
    /// Nodes that are cut off from the server alone, and were well before.
    cut: BTreeSet<NodeId>,
}

/// How many slots were healthy, of how many.
#[derive(Debug, Clone, Copy, Default)]
struct Best {
    healthy: u32,
    of: u32,
}

impl Promises {
    pub(super) fn check(
        &mut self,
        world: &World,
        faults: &Faults,
        all: &[Live],
    ) -> Result<(), String> {
        self.check_cut(world, faults)?;
        if !faults.are_past(world, CALM_AFTER) {
            self.best.clear();
            return Ok(());
        }
        for deployment in world.server.snapshot.deployments.values() {
            if !is_promised(deployment) {
                self.best.remove(&deployment.id);
                continue;
            }
            let healthy = count(deployment, all.iter());
            let proven = count(deployment, all.iter().filter(|one| one.proven));
            let replicas = deployment.spec.replicas;
            let best = self.best.entry(deployment.id.clone()).or_default();
            // Slots that nobody wants any more may have been those that were healthy.
            let before = if best.of == replicas { best.healthy } else { 0 };
            *best = Best { healthy: before.max(proven), of: replicas };
            if healthy < best.healthy {
                let (name, before) = (&deployment.spec.name, best.healthy);
                return Err(format!("{name} had {before} healthy slots and has {healthy}"));
            }
        }
        Ok(())
    }

    fn check_cut(&mut self, world: &World, faults: &Faults) -> Result<(), String> {
        let well = |id: &NodeId| faults.are_past_on(id, world, WITNESS_AFTER);
        let has_witness = world.hosts.keys().any(|id| well(id) && !world.paths[id].cut);
        let weather = world.server.up && world.wire.weather.lost_percent == 0;
        for (id, path) in &world.paths {
            let is_cut = path.cut && !path.off_mesh && world.hosts[id].powered;
            let lost = world.server.verdicts.state(id) == Some(NodeState::Lost);
            if !is_cut || !has_witness || !weather {
                self.cut.remove(id);
            } else if lost && self.cut.contains(id) {
                return Err(format!("{} is only cut off, and lost", world.hosts[id].name));
            } else if world.server.verdicts.state(id) == Some(NodeState::Ready) {
                // It was heard until just now, and did not lose its power meanwhile.
                self.cut.insert(id.clone());
            }
        }
        Ok(())
    }
}

/// Whether anything is promised of a deployment: it replaces start-first whatever it has, and
/// none of its images serves for a moment and ends.
fn is_promised(deployment: &Deployment) -> bool {
    deployment.removed_at.is_none()
        && !deployment.stopped
        && revisions_in_play(deployment).all(|spec| {
            spec.mode == Mode::Replicated
                && !stops_first(spec)
                && Kind::of(&spec.instance.image) != Kind::Crashing
        })
}

/// Slots that serve.
fn count<'a>(deployment: &Deployment, all: impl Iterator<Item = &'a Live>) -> u32 {
    let slots: BTreeSet<u32> = all
        .filter(|one| one.identity.deployment_id == deployment.id)
        .filter(|one| (one.serves || is_unasked(deployment, one)) && one.kind.is_sound())
        .map(|one| one.identity.slot)
        .filter(|slot| *slot < deployment.spec.replicas)
        .collect();
    u32::try_from(slots.len()).unwrap_or(u32::MAX)
}

/// Whether nobody can tell that an instance does not serve yet: no probe asks it.
fn is_unasked(deployment: &Deployment, one: &Live) -> bool {
    let revision = deployment.revisions.get(&one.identity.revision);
    revision.is_some_and(|revision| revision.spec.health.ready.is_none())
}
