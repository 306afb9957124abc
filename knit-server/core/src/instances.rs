//! The decided instances, with indexes by node and by slot that are always true.
//!
//! Invariant: nothing changes an instance but through [`Instances`], so that the indexes hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use knit_rpc::id::{DeploymentId, InstanceId, NodeId};

use crate::ledger::Ledger;
use crate::snapshot::Instance;

/// Instances by id. Reads as the map that it is.
#[derive(Debug, Clone, Default)]
pub struct Instances {
    all: BTreeMap<InstanceId, Instance>,
    /// In the order of (revision, attempt, id).
    by_slot: BTreeMap<DeploymentId, BTreeMap<u32, Vec<InstanceId>>>,
    by_node: BTreeMap<NodeId, OfNode>,
}

#[derive(Debug, Clone, Default)]
struct OfNode {
    ids: BTreeSet<InstanceId>,
    /// Summed up when it is first asked for, and again after a change.
    ledger: OnceLock<Arc<Ledger>>,
}

impl Instances {
    /// Takes an instance in; returns the one that had its id.
    pub fn insert(&mut self, instance: Instance) -> Option<Instance> {
        let id = instance.id.clone();
        let before = self.remove(&id);
        let of_node = self.by_node.entry(instance.node.clone()).or_default();
        of_node.ids.insert(id.clone());
        of_node.ledger = OnceLock::new();
        let ids = self
            .by_slot
            .entry(instance.deployment.clone())
            .or_default()
            .entry(instance.slot)
            .or_default();
        let later = |other: &InstanceId| {
            self.all.get(other).is_some_and(|other| age(other) > age(&instance))
        };
        let at = ids.iter().position(later).unwrap_or(ids.len());
        ids.insert(at, id.clone());
        self.all.insert(id, instance);
        before
    }

    pub fn remove(&mut self, id: &InstanceId) -> Option<Instance> {
        let instance = self.all.remove(id)?;
        if let Some(of_node) = self.by_node.get_mut(&instance.node) {
            of_node.ids.remove(id);
            of_node.ledger = OnceLock::new();
            if of_node.ids.is_empty() {
                self.by_node.remove(&instance.node);
            }
        }
        if let Some(slots) = self.by_slot.get_mut(&instance.deployment) {
            if let Some(ids) = slots.get_mut(&instance.slot) {
                ids.retain(|other| other != id);
                if ids.is_empty() {
                    slots.remove(&instance.slot);
                }
            }
            if slots.is_empty() {
                self.by_slot.remove(&instance.deployment);
            }
        }
        Some(instance)
    }

    /// Changes one instance; nothing when there is none of this id.
    pub fn update(&mut self, id: &InstanceId, change: impl FnOnce(&mut Instance)) {
        if let Some(mut instance) = self.remove(id) {
            change(&mut instance);
            self.insert(instance);
        }
    }

    /// Keeps what the question is answered with yes for.
    pub fn retain(&mut self, mut keep: impl FnMut(&Instance) -> bool) {
        let gone: Vec<InstanceId> =
            self.all.values().filter(|i| !keep(i)).map(|i| i.id.clone()).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// What a node should run, in the order of ids.
    pub fn on_node(&self, node: &NodeId) -> impl Iterator<Item = &Instance> {
        let of_node = self.by_node.get(node);
        of_node.into_iter().flat_map(|of| &of.ids).filter_map(|id| self.all.get(id))
    }

    /// How many instances a node should run.
    pub fn count_on(&self, node: &NodeId) -> usize {
        self.by_node.get(node).map_or(0, |of_node| of_node.ids.len())
    }

    /// A deployment's instances, slot by slot, the newest of each slot last.
    pub fn of_deployment(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Instance> {
        let slots = self.by_slot.get(deployment);
        slots.into_iter().flat_map(BTreeMap::values).flatten().filter_map(|id| self.all.get(id))
    }

    /// A slot's instances, the newest last.
    pub fn of_slot(&self, deployment: &DeploymentId, slot: u32) -> impl Iterator<Item = &Instance> {
        let ids = self.by_slot.get(deployment).and_then(|slots| slots.get(&slot));
        ids.into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// The deployments that have instances, whether or not anybody still wants them.
    pub fn deployments(&self) -> impl Iterator<Item = &DeploymentId> {
        self.by_slot.keys()
    }

    /// What is taken of a node. `add` takes one instance into a ledger and returns whether its
    /// spec was known; only what was known whole is remembered.
    pub(crate) fn ledger(
        &self,
        node: &NodeId,
        add: impl Fn(&mut Ledger, &Instance) -> bool,
    ) -> Arc<Ledger> {
        let Some(of_node) = self.by_node.get(node) else { return Arc::default() };
        if let Some(ledger) = of_node.ledger.get() {
            return ledger.clone();
        }
        let (mut ledger, mut whole) = (Ledger::default(), true);
        for instance in self.on_node(node) {
            whole &= add(&mut ledger, instance);
        }
        let ledger = Arc::new(ledger);
        if whole { of_node.ledger.get_or_init(|| ledger).clone() } else { ledger }
    }
}

/// What orders the instances of a slot.
pub(crate) fn age(instance: &Instance) -> (u64, u32, &InstanceId) {
    (instance.revision, instance.attempt, &instance.id)
}

impl Deref for Instances {
    type Target = BTreeMap<InstanceId, Instance>;
    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl PartialEq for Instances {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Instances {}

impl Extend<(InstanceId, Instance)> for Instances {
    fn extend<I: IntoIterator<Item = (InstanceId, Instance)>>(&mut self, instances: I) {
        for (_, instance) in instances {
            self.insert(instance);
        }
    }
}

impl FromIterator<(InstanceId, Instance)> for Instances {
    fn from_iter<I: IntoIterator<Item = (InstanceId, Instance)>>(instances: I) -> Self {
        let mut found = Self::default();
        found.extend(instances);
        found
    }
}

impl IntoIterator for Instances {
    type Item = (InstanceId, Instance);
    type IntoIter = std::collections::btree_map::IntoIter<InstanceId, Instance>;
    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl<'a> IntoIterator for &'a Instances {
    type Item = (&'a InstanceId, &'a Instance);
    type IntoIter = std::collections::btree_map::Iter<'a, InstanceId, Instance>;
    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn the_indexes_follow_every_change() {
        let mut snapshot = cluster(2);
        deploy(&mut snapshot, 1, 3, reserving("a", 100, 0));
        deploy(&mut snapshot, 2, 1, reserving("b", 1000, 0));
        for n in 1..=2 {
            equip(&mut snapshot, n, 8, 0, 0);
        }
        settle(&mut snapshot, NOW);
        let cpu = |snapshot: &crate::Snapshot, n| {
            (snapshot.instances.count_on(&node_id(n)), snapshot.ledger(&node_id(n)).reserved())
        };
        let before: Vec<_> = (1..=2).map(|n| cpu(&snapshot, n)).collect();
        assert_eq!(before.iter().map(|(count, _)| count).sum::<usize>(), 4);
        assert_eq!(before.iter().map(|(_, reserved)| reserved.cpu_millis).sum::<u64>(), 1300);

        let moved = snapshot.instances.on_node(&node_id(1)).next().unwrap().clone();
        snapshot.instances.update(&moved.id, |instance| instance.node = node_id(2));
        assert!(snapshot.instances.on_node(&node_id(1)).all(|row| row.id != moved.id));
        assert_eq!(cpu(&snapshot, 2).0, before[1].0 + 1);
        assert!(cpu(&snapshot, 2).1.cpu_millis > before[1].1.cpu_millis);

        let id = InstanceId::derive(&moved.deployment, moved.slot, 0, 0);
        snapshot.instances.insert(Instance { id: id.clone(), revision: 0, ..moved.clone() });
        let slot = snapshot.instances.of_slot(&moved.deployment, moved.slot);
        let slot: Vec<_> = slot.map(|row| row.id.clone()).collect();
        assert_eq!(slot, [id, moved.id.clone()], "the newest last");

        snapshot.instances.retain(|row| row.deployment != moved.deployment);
        assert_eq!(snapshot.instances.of_deployment(&moved.deployment).count(), 0);
        let rebuilt: Instances = snapshot.instances.clone().into_iter().collect();
        assert_eq!(rebuilt, snapshot.instances);
        assert_eq!(rebuilt.deployments().count(), snapshot.instances.deployments().count());
    }
}
