//! Why an instance is where it is, and why it is not elsewhere.

use knit_rpc::Timestamp;
use knit_rpc::api::{Unplaced, WhyNot, WhyView};
use knit_rpc::id::NodeId;

use crate::liveness::Verdicts;
use crate::snapshot::{Deployment, Snapshot};

/// Why each slot, or one, is where it is.
pub fn why(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    slot: Option<u32>,
    unplaced: &[Unplaced],
    now: Timestamp,
) -> WhyView {
    let _ = (snapshot, verdicts, deployment, slot, unplaced, now);
    WhyView { slots: Vec::new() }
}

/// All that keeps a node from running the deployment.
pub fn why_not(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    node: &NodeId,
) -> WhyNot {
    let _ = (verdicts, deployment);
    let name = snapshot.nodes.get(node).map_or(node.as_str(), |node| node.name());
    WhyNot { node: name.to_owned(), reasons: Vec::new(), nearest: None }
}
