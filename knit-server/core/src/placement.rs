//! What would run where if the plan so far were carried out, and which node is best for one more.

mod chooser;
mod score;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use chooser::{Choice, Chooser, Refused, Wanted};
use knit_rpc::id::{DeploymentId, InstanceId, NodeId};
use knit_rpc::spec::VolumeName;
pub(crate) use score::{Score, merits};

use crate::instances::age;
use crate::ledger::Ledger;
use crate::snapshot::{Instance, Node, Snapshot};

/// The snapshot's instances and volumes with what was decided since laid over them. It costs what
/// it changes.
#[derive(Debug, Clone)]
pub struct Placements<'a> {
    snapshot: &'a Snapshot,
    added: BTreeMap<InstanceId, Instance>,
    added_by_slot: BTreeMap<DeploymentId, BTreeMap<u32, BTreeSet<InstanceId>>>,
    added_by_node: BTreeMap<NodeId, BTreeSet<InstanceId>>,
    /// Instances of the snapshot.
    removed: BTreeSet<InstanceId>,
    volumes: BTreeMap<VolumeName, NodeId>,
    /// The nodes in the order of ids, which numbers them, once somebody asks.
    fleet: OnceCell<Vec<(&'a Node, Arc<Ledger>)>>,
    /// What was changed, in order.
    log: Vec<Change>,
}

/// An instance that came or went.
#[derive(Debug, Clone)]
struct Change {
    /// The node's place in the fleet.
    at: usize,
    deployment: DeploymentId,
    slot: u32,
    came: bool,
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
            fleet: OnceCell::new(),
            log: Vec::new(),
        }
    }

    /// Takes an instance in, in the place of the one that has its id.
    pub fn insert(&mut self, instance: Instance) {
        self.remove(&instance.id);
        self.change(&instance, true);
        if self.snapshot.instances.get(&instance.id) == Some(&instance) {
            self.removed.remove(&instance.id);
            return;
        }
        let id = instance.id.clone();
        let slots = self.added_by_slot.entry(instance.deployment.clone()).or_default();
        slots.entry(instance.slot).or_default().insert(id.clone());
        self.added_by_node.entry(instance.node.clone()).or_default().insert(id.clone());
        self.added.insert(id, instance);
    }

    pub fn remove(&mut self, id: &InstanceId) {
        if let Some(instance) = self.added.remove(id) {
            let slots = self.added_by_slot.get_mut(&instance.deployment);
            if let Some(ids) = slots.and_then(|slots| slots.get_mut(&instance.slot)) {
                ids.remove(id);
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

    fn change(&mut self, instance: &Instance, came: bool) {
        let Some(at) = self.position(&instance.node) else { return };
        let Some((_, ledger)) = self.fleet.get_mut().and_then(|fleet| fleet.get_mut(at)) else {
            return;
        };
        let spec = self.snapshot.spec_of(instance);
        let ledger = Arc::make_mut(ledger);
        if came {
            ledger.add(instance, spec);
        } else {
            ledger.remove(instance, spec);
        }
        let deployment = instance.deployment.clone();
        self.log.push(Change { at, deployment, slot: instance.slot, came });
    }

    fn fleet(&self) -> &[(&'a Node, Arc<Ledger>)] {
        self.fleet.get_or_init(|| {
            let nodes = self.snapshot.nodes.values();
            nodes.map(|node| (node, self.snapshot.ledger(&node.id))).collect()
        })
    }

    /// A node's place in the fleet.
    fn position(&self, node: &NodeId) -> Option<usize> {
        self.fleet().binary_search_by(|(known, _)| known.id.cmp(node)).ok()
    }

    pub fn contains(&self, id: &InstanceId) -> bool {
        self.added.contains_key(id)
            || (self.snapshot.instances.contains_key(id) && !self.removed.contains(id))
    }

    /// What a node would run, in no particular order.
    pub fn on_node(&self, node: &NodeId) -> impl Iterator<Item = &Instance> {
        let added = self.added_by_node.get(node).into_iter().flatten();
        let added = added.filter_map(|id| self.added.get(id));
        self.kept(self.snapshot.instances.on_node(node)).chain(added)
    }

    /// A deployment's instances, in no particular order.
    pub fn of_deployment(&self, deployment: &DeploymentId) -> impl Iterator<Item = &Instance> {
        let added = self.added_by_slot.get(deployment).into_iter().flat_map(BTreeMap::values);
        let added = added.flatten().filter_map(|id| self.added.get(id));
        self.kept(self.snapshot.instances.of_deployment(deployment)).chain(added)
    }

    /// A slot's instances, in the order of (revision, attempt, id).
    pub fn of_slot(&self, deployment: &DeploymentId, slot: u32) -> Vec<Instance> {
        let kept = self.kept(self.snapshot.instances.of_slot(deployment, slot));
        let mut found: Vec<Instance> = kept.cloned().collect();
        let added = self.added_by_slot.get(deployment).and_then(|slots| slots.get(&slot));
        if let Some(added) = added {
            found.extend(added.iter().filter_map(|id| self.added.get(id)).cloned());
            found.sort_by(|a, b| age(a).cmp(&age(b)));
        }
        found
    }

    fn kept<'s>(
        &'s self,
        instances: impl Iterator<Item = &'s Instance>,
    ) -> impl Iterator<Item = &'s Instance> {
        let untouched = self.removed.is_empty() && self.added.is_empty();
        instances.filter(move |instance| {
            untouched
                || !(self.removed.contains(&instance.id) || self.added.contains_key(&instance.id))
        })
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

    /// Whether a volume is being removed.
    pub(crate) fn is_leaving(&self, volume: &VolumeName) -> bool {
        !self.volumes.contains_key(volume)
            && self.snapshot.volumes.get(volume).is_some_and(|volume| volume.removing)
    }

    /// The volumes that got their node since the snapshot.
    pub fn new_volumes(&self) -> BTreeMap<VolumeName, NodeId> {
        self.volumes.clone()
    }
}

#[cfg(test)]
mod tests;
