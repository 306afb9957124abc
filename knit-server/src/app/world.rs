//! The cluster in memory.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::api::Unplaced;
use knit_rpc::id::{DeploymentId, NodeId, ProjectName, SpecHash};
use knit_rpc::message::Generation;
use knit_server_core::liveness::Verdicts;
use knit_server_core::revocation::Revocations;
use knit_server_core::status::{Asking, MeshView};
use knit_server_core::{Deployment, Dirty, Snapshot};

use crate::store::StoredReport;

/// The snapshot and what was made of it last.
pub struct World {
    pub snapshot: Snapshot,
    pub verdicts: Verdicts,
    pub unplaced: BTreeMap<DeploymentId, Vec<Unplaced>>,
    pub mesh: MeshView,
    pub last_reports: BTreeMap<NodeId, StoredReport>,
    /// Nodes whose reports were taken in in this life of the server.
    pub reported: BTreeSet<NodeId>,
    /// The node's time of the last request to register that was accepted of it in this life.
    pub registered: BTreeMap<NodeId, Timestamp>,
    /// Nodes that were removed, with the generation of the empty assignment that is their last.
    pub removed: BTreeMap<NodeId, Generation>,
    /// Projects, with the moment that each was made.
    pub projects: BTreeMap<ProjectName, Timestamp>,
    /// Keys of nodes that were cut off from NATS, or are about to be.
    pub revocations: Revocations,
    /// Hosts that ask to join.
    pub asking: BTreeMap<NodeId, Asking>,
    /// Hosts that shall not be asked about again.
    pub rejected: BTreeSet<NodeId>,
    dirty: Dirty,
}

impl World {
    pub fn new(
        snapshot: Snapshot,
        last_reports: BTreeMap<NodeId, StoredReport>,
        removed: BTreeMap<NodeId, Generation>,
        rejected: BTreeSet<NodeId>,
        projects: BTreeMap<ProjectName, Timestamp>,
        revocations: Revocations,
    ) -> Self {
        Self {
            snapshot,
            verdicts: Verdicts::default(),
            unplaced: BTreeMap::new(),
            mesh: MeshView::default(),
            last_reports,
            reported: BTreeSet::new(),
            registered: BTreeMap::new(),
            removed,
            projects,
            revocations,
            asking: BTreeMap::new(),
            rejected,
            // What a former life left undone is found by looking at everything once.
            dirty: Dirty::All,
        }
    }

    /// Takes in a deployment that was stored.
    pub fn put(&mut self, deployment: Deployment) {
        let specs = &mut self.snapshot.specs;
        specs.insert(deployment.spec_hash.clone(), deployment.spec.instance.clone());
        for revision in deployment.revisions.values() {
            specs
                .entry(revision.spec_hash.clone())
                .or_insert_with(|| revision.spec.instance.clone());
        }
        self.mark(deployment.id.clone());
        let kept: BTreeSet<u64> = deployment.revisions.keys().copied().collect();
        let before = self.snapshot.deployments.insert(deployment.id.clone(), deployment);
        if before.is_some_and(|before| before.revisions.keys().any(|n| !kept.contains(n))) {
            self.forget_specs();
        }
    }

    /// As the store does it: a spec that no instance and no remembered revision refers to is
    /// forgotten.
    pub fn forget_specs(&mut self) {
        let snapshot = &mut self.snapshot;
        let instances = snapshot.instances.values().map(|instance| &instance.spec);
        let deployments = snapshot.deployments.values();
        let revisions = deployments.flat_map(|deployment| {
            let remembered = deployment.revisions.values().map(|revision| &revision.spec_hash);
            remembered.chain(std::iter::once(&deployment.spec_hash))
        });
        let used: BTreeSet<SpecHash> = instances.chain(revisions).cloned().collect();
        snapshot.specs.retain(|hash, _| used.contains(hash));
    }

    /// Has the planner look at a deployment again.
    pub fn mark(&mut self, deployment: DeploymentId) {
        if let Dirty::Deployments(ids) = &mut self.dirty {
            ids.insert(deployment);
        }
    }

    /// Has the planner look at everything again.
    pub fn mark_all(&mut self) {
        self.dirty = Dirty::All;
    }

    /// What the planner has to look at.
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// The planner has looked: what is without a place, and what is not at rest, which it looks at
    /// again. Returns the deployments whose slots got or lost their place.
    pub fn planned(
        &mut self,
        unplaced: &BTreeMap<DeploymentId, Vec<Unplaced>>,
        unsettled: BTreeSet<DeploymentId>,
    ) -> BTreeSet<DeploymentId> {
        let looked_at = match std::mem::replace(&mut self.dirty, Dirty::Deployments(unsettled)) {
            Dirty::All => self.unplaced.keys().chain(unplaced.keys()).cloned().collect(),
            Dirty::Deployments(ids) => ids,
        };
        let mut changed = looked_at;
        changed.retain(|id| self.unplaced.get(id) != unplaced.get(id));
        for id in &changed {
            match unplaced.get(id) {
                Some(found) => self.unplaced.insert(id.clone(), found.clone()),
                None => self.unplaced.remove(id),
            };
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use knit_rpc::id::ClusterId;

    use super::*;

    fn id(n: u8) -> DeploymentId {
        DeploymentId::from_bytes([n; 16])
    }

    fn waiting(ids: &[u8]) -> BTreeMap<DeploymentId, Vec<Unplaced>> {
        let why = Unplaced { slot: 0, summary: "full".into(), reasons: Vec::new() };
        ids.iter().map(|n| (id(*n), vec![why.clone()])).collect()
    }

    #[test]
    fn what_was_not_looked_at_waits_on_and_what_is_not_at_rest_is_looked_at_again() {
        let snapshot = Snapshot::empty(ClusterId::from_bytes([9; 16]), Timestamp::default());
        let mut world = World::new(
            snapshot,
            BTreeMap::new(),
            BTreeMap::new(),
            BTreeSet::new(),
            BTreeMap::new(),
            Revocations::new(),
        );
        let changed = world.planned(&waiting(&[1, 2]), [id(2)].into());
        assert_eq!(changed, [id(1), id(2)].into());
        assert_eq!(world.dirty(), &Dirty::Deployments([id(2)].into()));
        world.mark(id(3));
        assert_eq!(world.planned(&BTreeMap::new(), BTreeSet::new()), [id(2)].into());
        assert_eq!(world.unplaced, waiting(&[1]));
        world.mark_all();
        assert_eq!(world.planned(&waiting(&[1]), BTreeSet::new()), BTreeSet::new());
    }
}
