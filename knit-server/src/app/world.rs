//! The cluster in memory.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::api::Unplaced;
use knit_rpc::id::{DeploymentId, NodeId};
use knit_server_core::liveness::Verdicts;
use knit_server_core::status::MeshView;
use knit_server_core::{Dirty, Snapshot};

use crate::store::StoredReport;

/// The snapshot and what was made of it last.
pub struct World {
    pub snapshot: Snapshot,
    pub verdicts: Verdicts,
    pub unplaced: BTreeMap<DeploymentId, Vec<Unplaced>>,
    pub mesh: MeshView,
    pub last_reports: BTreeMap<NodeId, StoredReport>,
    /// The node's time of the last request to register that was accepted of it in this life.
    pub registered: BTreeMap<NodeId, Timestamp>,
    dirty: Dirty,
}

impl World {
    pub fn new(snapshot: Snapshot, last_reports: BTreeMap<NodeId, StoredReport>) -> Self {
        Self {
            snapshot,
            verdicts: Verdicts::default(),
            unplaced: BTreeMap::new(),
            mesh: MeshView::default(),
            last_reports,
            registered: BTreeMap::new(),
            // What a former life left undone is found by looking at everything once.
            dirty: Dirty::All,
        }
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

    /// The planner has looked.
    pub fn clean(&mut self) {
        self.dirty = Dirty::Deployments(BTreeSet::new());
    }
}
