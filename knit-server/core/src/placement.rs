//! What runs where, and which candidate is best.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::id::{DeploymentId, InstanceId, NodeId};

use crate::snapshot::{Instance, Node};

/// The instances as they would be if the plan so far were carried out.
#[derive(Debug, Clone, Default)]
pub struct Placements {
    instances: BTreeMap<InstanceId, Instance>,
    by_node: BTreeMap<NodeId, BTreeSet<InstanceId>>,
    by_deployment: BTreeMap<DeploymentId, BTreeSet<(u32, InstanceId)>>,
}

impl Placements {
    pub fn of(instances: &BTreeMap<InstanceId, Instance>) -> Self {
        let mut placements = Self::default();
        for instance in instances.values() {
            placements.insert(instance.clone());
        }
        placements
    }

    pub fn insert(&mut self, instance: Instance) {
        self.by_node.entry(instance.node.clone()).or_default().insert(instance.id.clone());
        self.by_deployment
            .entry(instance.deployment.clone())
            .or_default()
            .insert((instance.slot, instance.id.clone()));
        self.instances.insert(instance.id.clone(), instance);
    }

    pub fn remove(&mut self, id: &InstanceId) -> Option<Instance> {
        let instance = self.instances.remove(id)?;
        if let Some(ids) = self.by_node.get_mut(&instance.node) {
            ids.remove(id);
        }
        if let Some(ids) = self.by_deployment.get_mut(&instance.deployment) {
            ids.remove(&(instance.slot, id.clone()));
        }
        Some(instance)
    }

    pub fn contains(&self, id: &InstanceId) -> bool {
        self.instances.contains_key(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    pub fn on_node(&self, node: &NodeId) -> impl Iterator<Item = &Instance> {
        self.by_node.get(node).into_iter().flatten().filter_map(|id| self.instances.get(id))
    }

    pub fn of_deployment(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Instance> {
        self.by_deployment
            .get(deployment)
            .into_iter()
            .flatten()
            .filter_map(|(_, id)| self.instances.get(id))
    }

    /// A slot's instances, the newest attempt last.
    pub fn of_slot(&self, deployment: &DeploymentId, slot: u32) -> Vec<Instance> {
        let mut found: Vec<Instance> =
            self.of_deployment(deployment).filter(|i| i.slot == slot).cloned().collect();
        found.sort_by(|a, b| (a.revision, a.attempt, &a.id).cmp(&(b.revision, b.attempt, &b.id)));
        found
    }
}

/// The best of the candidates: the preferred one, else where fewest slots of this deployment are,
/// then fewest instances, then the first by id.
pub fn best<'a>(
    candidates: &[&'a Node],
    placements: &Placements,
    deployment: &DeploymentId,
    slot: u32,
    preferred: Option<&NodeId>,
) -> Option<&'a Node> {
    if let Some(node) = candidates.iter().find(|node| Some(&node.id) == preferred) {
        return Some(node);
    }
    candidates.iter().copied().min_by_key(|node| {
        let siblings: BTreeSet<u32> = placements
            .on_node(&node.id)
            .filter(|other| other.deployment == *deployment && other.slot != slot)
            .map(|other| other.slot)
            .collect();
        (siblings.len(), placements.on_node(&node.id).count(), node.id.clone())
    })
}
