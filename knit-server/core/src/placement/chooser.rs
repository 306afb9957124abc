//! Chooses nodes for the slots of one deployment.

use knit_rpc::id::{DeploymentId, NodeId, SpecHash};
use knit_rpc::spec::{DeploymentSpec, VolumeName};

use crate::eligibility;
use crate::liveness::Verdicts;
use crate::placement::Placements;
use crate::snapshot::Snapshot;

/// A slot that wants a node.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub deployment: &'a DeploymentId,
    pub slot: u32,
    pub spec: &'a DeploymentSpec,
    pub spec_hash: &'a SpecHash,
    /// Where the slot runs healthily now: preferred, so that an update does not wander.
    pub preferred: Option<&'a NodeId>,
    /// The only node that is asked.
    pub only: Option<&'a NodeId>,
}

/// The node for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub node: NodeId,
    /// Why this one, in a sentence.
    pub because: String,
    /// Its volumes that are not on a node yet: they are to be made there.
    pub volumes: Vec<VolumeName>,
}

/// Why no node takes a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One sentence.
    pub summary: String,
    /// One sentence per node.
    pub reasons: Vec<String>,
}

/// Places the slots of one deployment at one spec, one after the other.
#[derive(Debug)]
pub struct Chooser<'a> {
    snapshot: &'a Snapshot,
    verdicts: &'a Verdicts,
}

impl<'a> Chooser<'a> {
    pub fn new(
        snapshot: &'a Snapshot,
        verdicts: &'a Verdicts,
        placements: &Placements<'_>,
        deployment: &DeploymentId,
        spec: &DeploymentSpec,
    ) -> Self {
        let _ = (placements, deployment, spec);
        Self { snapshot, verdicts }
    }

    /// The best node for the slot, or why there is none.
    pub fn choose(
        &mut self,
        placements: &Placements<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Choice, Refused> {
        let (candidates, refusals) =
            eligibility::candidates(self.snapshot, self.verdicts, placements, wanted);
        let preferred = candidates.iter().find(|node| Some(&node.id) == wanted.preferred);
        let best = preferred.or_else(|| {
            candidates.iter().min_by_key(|node| {
                let siblings = placements
                    .on_node(&node.id)
                    .filter(|o| o.deployment == *wanted.deployment && o.slot != wanted.slot)
                    .count();
                (siblings, placements.ledger(&node.id).instances(), node.id.clone())
            })
        });
        let Some(node) = best else {
            return Err(Refused {
                summary: eligibility::summary(wanted.spec, &refusals),
                reasons: refusals.iter().map(ToString::to_string).collect(),
            });
        };
        let volumes = eligibility::volumes(wanted.spec, wanted.slot)
            .filter(|volume| placements.bound(volume).is_none())
            .collect();
        let because = format!("{} of {} nodes fit", candidates.len(), self.snapshot.nodes.len());
        Ok(Choice { node: node.id.clone(), because, volumes })
    }
}
