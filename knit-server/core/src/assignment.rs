//! What one node should run, whole, as it is sent to it.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::message::{AssignedInstance, Generation, NodeAssignment};
use serde::{Deserialize, Serialize};

use crate::snapshot::{Instance, Snapshot};

/// A node's assignment with what only the server reads of it, should it ever have to take it in
/// again. Agents ignore the key and keep the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAssignment {
    #[serde(flatten)]
    pub assignment: NodeAssignment,
    #[serde(default)]
    pub deployments: BTreeMap<DeploymentId, Outline>,
}

/// What of a deployment no instance tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    pub replicas: u32,
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
}

/// The generation after `generation` within `epoch`.
pub fn next(generation: Generation, epoch: u64) -> Generation {
    Generation { epoch: epoch.max(generation.epoch), counter: generation.counter + 1 }
}

/// Writes out what a node should run.
pub fn of_node(snapshot: &Snapshot, node: &NodeId, generation: Generation) -> SentAssignment {
    let mut specs = BTreeMap::new();
    let mut deployments = BTreeMap::new();
    let mut instances = Vec::new();
    for instance in snapshot.instances.values().filter(|instance| instance.node == *node) {
        let (Some(assigned), Some(spec)) =
            (assigned(snapshot, instance), snapshot.specs.get(&instance.spec))
        else {
            continue;
        };
        if let Some(deployment) = snapshot.deployments.get(&instance.deployment) {
            deployments.entry(deployment.id.clone()).or_insert_with(|| Outline {
                replicas: deployment.spec.replicas,
                node_selector: deployment.spec.node_selector.clone(),
            });
        }
        specs.insert(instance.spec.clone(), spec.clone());
        instances.push(assigned);
    }
    let assignment = NodeAssignment {
        cluster: snapshot.cluster.clone(),
        node: node.clone(),
        generation,
        specs,
        instances,
        policies: BTreeMap::new(),
        networks: Vec::new(),
        remove_volumes: BTreeSet::new(),
        keep_images: BTreeSet::new(),
    };
    SentAssignment { assignment, deployments }
}

fn assigned(snapshot: &Snapshot, instance: &Instance) -> Option<AssignedInstance> {
    let deployment = snapshot.deployments.get(&instance.deployment)?;
    Some(AssignedInstance {
        id: instance.id.clone(),
        project: deployment.spec.project.clone(),
        deployment: deployment.spec.name.clone(),
        deployment_id: instance.deployment.clone(),
        slot: instance.slot,
        revision: instance.revision,
        spec: instance.spec.clone(),
        policy: None,
        held: false,
    })
}
