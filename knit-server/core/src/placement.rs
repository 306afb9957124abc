//! What would run where if the plan so far were carried out, and which node is best for one more.

mod chooser;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use chooser::{Choice, Chooser, Refused, Wanted};
use knit_rpc::id::{DeploymentId, InstanceId, NodeId};
use knit_rpc::spec::VolumeName;

use crate::instances::age;
use crate::ledger::Ledger;
use crate::snapshot::{Instance, Snapshot};

/// The snapshot's instances and volumes with what was decided since laid over them.
#[derive(Debug, Clone)]
pub struct Placements<'a> {
    snapshot: &'a Snapshot,
    added: BTreeMap<InstanceId, Instance>,
    added_by_slot: BTreeMap<DeploymentId, BTreeSet<(u32, InstanceId)>>,
    added_by_node: BTreeMap<NodeId, BTreeSet<InstanceId>>,
    /// Instances of the snapshot.
    removed: BTreeSet<InstanceId>,
    volumes: BTreeMap<VolumeName, NodeId>,
    /// Of the nodes that were changed.
    ledgers: BTreeMap<NodeId, Arc<Ledger>>,
}

impl<'a> Placements<'a> {
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            added: BTreeMap::new(),
            added_by_slot: BTreeMap::new(),
            added_by_node: BTreeMap::new(),
            removed: BTreeSet::new(),
            volumes: BTreeMap::new(),
            ledgers: BTreeMap::new(),
        }
    }

    pub fn insert(&mut self, instance: Instance) {
        self.remove(&instance.id);
        self.change(&instance, true);
        if self.snapshot.instances.get(&instance.id) == Some(&instance) {
            self.removed.remove(&instance.id);
            return;
        }
        let id = instance.id.clone();
        self.added_by_slot
            .entry(instance.deployment.clone())
            .or_default()
            .insert((instance.slot, id.clone()));
        self.added_by_node.entry(instance.node.clone()).or_default().insert(id.clone());
        self.added.insert(id, instance);
    }

    pub fn remove(&mut self, id: &InstanceId) {
        if let Some(instance) = self.added.remove(id) {
            if let Some(ids) = self.added_by_slot.get_mut(&instance.deployment) {
                ids.remove(&(instance.slot, id.clone()));
            }
            if let Some(ids) = self.added_by_node.get_mut(&instance.node) {
                ids.remove(id);
            }
            self.change(&instance, false);
        } else if let Some(instance) = self.snapshot.instances.get(id)
            && self.removed.insert(id.clone())
        {
            self.change(instance, false);
        }
    }

    fn change(&mut self, instance: &Instance, add: bool) {
        let ledger = self.ledger(&instance.node);
        let ledger = self.ledgers.entry(instance.node.clone()).or_insert(ledger);
        let spec = self.snapshot.spec_of(instance);
        if add {
            Arc::make_mut(ledger).add(instance, spec);
        } else {
            Arc::make_mut(ledger).remove(instance, spec);
        }
    }

    pub fn contains(&self, id: &InstanceId) -> bool {
        self.added.contains_key(id)
            || (self.snapshot.instances.contains_key(id) && !self.removed.contains(id))
    }

    /// What is taken of a node.
    pub(crate) fn ledger(&self, node: &NodeId) -> Arc<Ledger> {
        match self.ledgers.get(node) {
            Some(ledger) => ledger.clone(),
            None => self.snapshot.ledger(node),
        }
    }

    /// What a node would run, in no particular order.
    pub fn on_node(&self, node: &NodeId) -> impl Iterator<Item = &Instance> {
        let added = self.added_by_node.get(node).into_iter().flatten();
        let added = added.filter_map(|id| self.added.get(id));
        self.kept(self.snapshot.instances.on_node(node)).chain(added)
    }

    /// A deployment's instances, in no particular order.
    pub fn of_deployment(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Instance> {
        let added = self.added_by_slot.get(deployment).into_iter().flatten();
        let added = added.filter_map(|(_, id)| self.added.get(id));
        self.kept(self.snapshot.instances.of_deployment(deployment)).chain(added)
    }

    /// A slot's instances, in the order of (revision, attempt, id).
    pub fn of_slot(&self, deployment: &DeploymentId, slot: u32) -> Vec<Instance> {
        let kept = self.kept(self.snapshot.instances.of_slot(deployment, slot));
        let mut found: Vec<Instance> = kept.cloned().collect();
        if let Some(added) = self.added_by_slot.get(deployment) {
            let from = added.iter().filter(|(of, _)| *of == slot);
            found.extend(from.filter_map(|(_, id)| self.added.get(id)).cloned());
            found.sort_by(|a, b| age(a).cmp(&age(b)));
        }
        found
    }

    fn kept<'s>(
        &'s self,
        instances: impl Iterator<Item = &'s Instance>,
    ) -> impl Iterator<Item = &'s Instance> {
        instances.filter(|i| !self.removed.contains(&i.id) && !self.added.contains_key(&i.id))
    }

    /// What the snapshot does not have, in the order of ids.
    pub fn created(&self) -> Vec<Instance> {
        self.added.values().cloned().collect()
    }

    /// What the snapshot has and the plan has not, in the order of ids.
    pub fn removed(&self) -> Vec<Instance> {
        let gone = self.removed.iter().filter(|id| !self.added.contains_key(*id));
        gone.filter_map(|id| self.snapshot.instances.get(id)).cloned().collect()
    }

    /// Ties a volume to the node on which it is to be made.
    pub fn bind(&mut self, volume: VolumeName, node: NodeId) {
        self.volumes.insert(volume, node);
    }

    /// The node that a volume is on.
    pub fn bound(&self, volume: &VolumeName) -> Option<&NodeId> {
        match self.volumes.get(volume) {
            Some(node) => Some(node),
            None => self.snapshot.volumes.get(volume).map(|volume| &volume.node),
        }
    }

    /// The volumes that got their node since the snapshot.
    pub fn new_volumes(&self) -> BTreeMap<VolumeName, NodeId> {
        self.volumes.clone()
    }
}
