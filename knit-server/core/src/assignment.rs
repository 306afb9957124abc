//! What one node should run, whole, as it is sent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::{DeploymentId, NodeId, ProjectName, SpecHash};
use knit_rpc::message::{AssignedInstance, Generation, NetworkDriver, NetworkSpec, NodeAssignment};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, RunPolicy, VolumeName};
use serde::{Deserialize, Serialize};

use crate::rollout;
use crate::secrets;
use crate::snapshot::{Deployment, Instance, Snapshot};

/// A node's assignment with what only the server reads of it, should it ever have to take it in
/// again. Agents ignore the key and keep the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAssignment {
    #[serde(flatten)]
    pub assignment: NodeAssignment,
    #[serde(default)]
    pub deployments: BTreeMap<DeploymentId, Outline>,
    /// Deployments that were removed lately: a server that was set back must not start them again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub removed: BTreeSet<DeploymentId>,
    /// Deployments that nothing should run of, and since when: nothing else tells of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stopped: BTreeMap<DeploymentId, Timestamp>,
    /// The last that the node was sent, when it was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub farewell: bool,
}

/// So many of the removed and so many of the stopped deployments are told, the latest first.
const ENDED_TOLD_MAX: usize = 256;
/// How long nodes are told that a deployment was removed.
const REMOVED_TOLD: Duration = Duration::from_hours(24 * 30);

/// What of a deployment no instance tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    pub revision: u64,
    pub spec_hash: SpecHash,
    /// The newest revision's spec. Its container's part is left at its default when the
    /// assignment carries it by its hash already.
    pub spec: DeploymentSpec,
    #[serde(default)]
    pub restart_floor: u64,
    /// When somebody last changed it, by the server's clock.
    #[serde(default)]
    pub updated_at: Timestamp,
}

impl Outline {
    fn of(deployment: &Deployment, carried: &BTreeMap<SpecHash, InstanceSpec>) -> Self {
        let mut spec = deployment.spec.clone();
        if carried.contains_key(&deployment.spec_hash) {
            spec.instance = InstanceSpec::default();
        }
        Self {
            revision: deployment.revision,
            spec_hash: deployment.spec_hash.clone(),
            spec,
            restart_floor: deployment.restart_floor,
            updated_at: deployment.updated_at,
        }
    }

    /// The spec, whole.
    pub fn spec(&self, carried: &BTreeMap<SpecHash, InstanceSpec>) -> DeploymentSpec {
        let mut spec = self.spec.clone();
        if let Some(instance) = carried.get(&self.spec_hash) {
            spec.instance = instance.clone();
        }
        spec
    }
}

/// The generation after `generation` within `epoch`.
pub fn next(generation: Generation, epoch: u64) -> Generation {
    Generation { epoch: epoch.max(generation.epoch), counter: generation.counter + 1 }
}

/// Writes out what a node should run.
pub fn of_node(snapshot: &Snapshot, node: &NodeId, generation: Generation) -> SentAssignment {
    let mut specs = BTreeMap::new();
    let mut policies = BTreeMap::new();
    let mut networks: BTreeMap<(ProjectName, String), NetworkSpec> = BTreeMap::new();
    let mut owners: BTreeMap<&DeploymentId, &Deployment> = BTreeMap::new();
    let mut instances = Vec::new();
    for instance in snapshot.instances.on_node(node) {
        let (Some(deployment), Some(spec)) =
            (snapshot.deployments.get(&instance.deployment), snapshot.specs.get(&instance.spec))
        else {
            continue;
        };
        let policy = policy(deployment, instance);
        let policy_hash = (policy != RunPolicy::default()).then(|| policy.hash());
        if let Some(hash) = &policy_hash {
            policies.insert(hash.clone(), policy);
        }
        for name in &spec.networks {
            let key = (deployment.spec.project.clone(), name.clone());
            if let Some(network) = snapshot.networks.get(&key)
                && network.spec.driver == NetworkDriver::Bridge
            {
                networks.insert(key, network.spec.clone());
            }
        }
        owners.insert(&deployment.id, deployment);
        specs.insert(instance.spec.clone(), spec.clone());
        instances.push(AssignedInstance {
            id: instance.id.clone(),
            project: deployment.spec.project.clone(),
            deployment: deployment.spec.name.clone(),
            deployment_id: instance.deployment.clone(),
            slot: instance.slot,
            revision: instance.revision,
            spec: instance.spec.clone(),
            policy: policy_hash,
            secrets: secrets::of_instance(spec, instance),
            held: rollout::is_held(deployment, instance),
        });
    }
    let keep_images = owners.values().filter_map(|owner| way_back(owner)).collect();
    let deployments =
        owners.into_iter().map(|(id, owner)| (id.clone(), Outline::of(owner, &specs))).collect();
    let assignment = NodeAssignment {
        cluster: snapshot.cluster.clone(),
        node: node.clone(),
        generation,
        specs,
        instances,
        policies,
        networks: networks.into_values().collect(),
        remove_volumes: removing(snapshot, node),
        keep_images,
        // Whoever sends it seals them.
        secrets: Vec::new(),
    };
    let (removed, stopped) = (removed(snapshot), stopped(snapshot));
    SentAssignment { assignment, deployments, removed, stopped, farewell: false }
}

/// What was removed lately, whether anything of it is left or not.
fn removed(snapshot: &Snapshot) -> BTreeSet<DeploymentId> {
    let leaving = snapshot.deployments.values().filter_map(|one| Some((one.removed_at?, &one.id)));
    let gone = snapshot.removed.iter().map(|(id, at)| (*at, id));
    latest(leaving.chain(gone)).into_iter().map(|(_, id)| id.clone()).collect()
}

/// Removed deployments that nodes are told of no more.
pub fn outlived(
    removed: &BTreeMap<DeploymentId, Timestamp>,
    now: Timestamp,
) -> BTreeSet<DeploymentId> {
    let told = latest(removed.iter().map(|(id, at)| (*at, id)));
    let told = told.into_iter().filter(|(at, _)| now.since(*at) <= REMOVED_TOLD);
    let told: BTreeSet<&DeploymentId> = told.map(|(_, id)| id).collect();
    removed.keys().filter(|id| !told.contains(id)).cloned().collect()
}

fn stopped(snapshot: &Snapshot) -> BTreeMap<DeploymentId, Timestamp> {
    let stopped = snapshot.deployments.values().filter(|one| one.stopped);
    let stopped = stopped.filter(|one| one.removed_at.is_none());
    let told = latest(stopped.map(|one| (one.updated_at, &one.id)));
    told.into_iter().map(|(at, id)| (id.clone(), at)).collect()
}

fn latest<'a>(
    all: impl Iterator<Item = (Timestamp, &'a DeploymentId)>,
) -> Vec<(Timestamp, &'a DeploymentId)> {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.truncate(ENDED_TOLD_MAX);
    all
}

/// How the instance is kept: as the newest revision says, when it is as that wants it.
fn policy(deployment: &Deployment, instance: &Instance) -> RunPolicy {
    let target = rollout::target(deployment, instance.slot);
    if instance.spec == *target.spec_hash {
        return target.spec.policy();
    }
    let own = deployment.revisions.get(&instance.revision);
    own.map_or_else(|| deployment.spec.policy(), |revision| revision.spec.policy())
}

/// The image that a rollback would need.
fn way_back(deployment: &Deployment) -> Option<String> {
    let stable = deployment.revisions.get(&deployment.stable?)?;
    Some(stable.spec.instance.image_reference())
}

fn removing(snapshot: &Snapshot, node: &NodeId) -> BTreeSet<VolumeName> {
    let here = snapshot.volumes.iter().filter(|(_, volume)| volume.node == *node);
    here.filter(|(_, volume)| volume.removing).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_removals_are_told_for_a_month() {
        let at = |n: u64| Timestamp::from_millis(n);
        let id = |n: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            DeploymentId::from_bytes(bytes)
        };
        let removed: BTreeMap<_, _> = (0..300).map(|n| (id(n), at(n))).collect();
        let outlived_at = |now| outlived(&removed, now).into_iter().collect::<Vec<_>>();
        assert_eq!(outlived_at(at(300)), (0..44).map(id).collect::<Vec<_>>(), "256 are left");
        let month = Timestamp::default().plus(REMOVED_TOLD);
        let later = Timestamp::from_millis(month.as_millis() + 298);
        assert_eq!(outlived_at(later).len(), 298, "two are younger");
        let mut snapshot = crate::testing::cluster(1);
        snapshot.removed = removed;
        let node = crate::testing::node_id(1);
        let told = of_node(&snapshot, &node, Generation::default()).removed;
        assert_eq!(
            (told.len(), told.contains(&id(44)), told.contains(&id(43))),
            (256, true, false)
        );
    }
}
