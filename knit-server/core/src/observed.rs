//! What nodes said of their instances, with an index by deployment that is always true.
//!
//! Invariant: nothing changes a status but through [`Observed`], so that the index holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use knit_rpc::id::{DeploymentId, InstanceId, NodeId};
use knit_rpc::message::InstanceStatus;

/// Statuses by node and instance. Reads as the map that it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    by_node: BTreeMap<NodeId, BTreeMap<InstanceId, InstanceStatus>>,
    by_deployment: BTreeMap<DeploymentId, BTreeSet<(InstanceId, NodeId)>>,
}

impl Observed {
    /// Replaces all that is known of a node; returns what was.
    pub fn insert(
        &mut self,
        node: NodeId,
        statuses: BTreeMap<InstanceId, InstanceStatus>,
    ) -> Option<BTreeMap<InstanceId, InstanceStatus>> {
        let before = self.remove(&node);
        for status in statuses.values() {
            let index = self.by_deployment.entry(status.deployment_id.clone()).or_default();
            index.insert((status.id.clone(), node.clone()));
        }
        self.by_node.insert(node, statuses);
        before
    }

    /// Forgets a node; returns what was known of it.
    pub fn remove(&mut self, node: &NodeId) -> Option<BTreeMap<InstanceId, InstanceStatus>> {
        let before = self.by_node.remove(node)?;
        for status in before.values() {
            if let Some(index) = self.by_deployment.get_mut(&status.deployment_id) {
                index.remove(&(status.id.clone(), node.clone()));
                if index.is_empty() {
                    self.by_deployment.remove(&status.deployment_id);
                }
            }
        }
        Some(before)
    }

    /// Takes in what a node said of one instance.
    pub fn put(&mut self, node: &NodeId, status: InstanceStatus) {
        let index = self.by_deployment.entry(status.deployment_id.clone()).or_default();
        index.insert((status.id.clone(), node.clone()));
        self.by_node.entry(node.clone()).or_default().insert(status.id.clone(), status);
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What nodes said of a deployment's instances, decided or not.
    pub fn of_deployment(
        &self,
        deployment: &DeploymentId,
    ) -> impl Iterator<Item = (&NodeId, &InstanceStatus)> {
        let index = self.by_deployment.get(deployment).into_iter().flatten();
        index.filter_map(|(id, node)| Some((node, self.by_node.get(node)?.get(id)?)))
    }

    /// Whether any node speaks of an instance of a deployment under this id.
    pub fn speaks_of(&self, deployment: &DeploymentId, id: &InstanceId) -> bool {
        self.by_deployment.get(deployment).is_some_and(|index| {
            let from = (id.clone(), NodeId::from_bytes([0; 16]));
            index.range(from..).next().is_some_and(|(found, _)| found == id)
        })
    }
}

impl Deref for Observed {
    type Target = BTreeMap<NodeId, BTreeMap<InstanceId, InstanceStatus>>;
    fn deref(&self) -> &Self::Target {
        &self.by_node
    }
}

#[cfg(test)]
mod tests {
    use knit_rpc::message::Phase;

    use super::*;
    use crate::testing::*;

    #[test]
    fn the_index_follows_every_change() {
        let mut snapshot = cluster(2);
        deploy(&mut snapshot, 1, 2, instance_spec("a"));
        settle(&mut snapshot, NOW);
        run_all(&mut snapshot);
        let (id, of) = (deployment_id(1), |observed: &Observed| {
            observed.of_deployment(&deployment_id(1)).map(|(_, one)| one.slot).collect::<Vec<_>>()
        });
        assert_eq!(of(&snapshot.observed).len(), 2);
        let known = snapshot.instances.keys().next().unwrap().clone();
        assert!(snapshot.observed.speaks_of(&id, &known));
        let node = snapshot.instances[&known].node.clone();
        snapshot.observed.remove(&node);
        assert!(!snapshot.observed.speaks_of(&id, &known));
        assert_eq!(of(&snapshot.observed).len(), 1);
        let instance = snapshot.instances[&known].clone();
        report(&mut snapshot, &instance, Phase::Failed);
        assert_eq!(of(&snapshot.observed).len(), 2);
        snapshot.observed.clear();
        assert_eq!(of(&snapshot.observed).len(), 0);
    }
}
