//! What a change would lead to, without doing it.

use knit_rpc::Timestamp;
use knit_rpc::api::{PlanView, RevisionView, SlotPlan, Unplaced};
use knit_rpc::id::DeploymentId;
use knit_rpc::spec::DeploymentSpec;

use crate::liveness::Verdicts;
use crate::snapshot::{Deployment, Snapshot};

/// What would happen if `spec` were submitted: nothing does. `id` is the deployment's if its name
/// is new.
pub fn submit(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    spec: &DeploymentSpec,
    id: DeploymentId,
    now: Timestamp,
) -> PlanView {
    let _ = (snapshot, verdicts, id, now);
    let (slots, unplaced): (Vec<SlotPlan>, Vec<Unplaced>) = (Vec::new(), Vec::new());
    PlanView {
        project: spec.project.clone(),
        name: spec.name.clone(),
        revision: 0,
        changed: Vec::new(),
        recreates: Vec::new(),
        slots,
        unplaced,
        notes: Vec::new(),
    }
}

/// The remembered revisions of a deployment, the newest first.
pub fn history(deployment: &Deployment) -> Vec<RevisionView> {
    let _ = deployment;
    Vec::new()
}
