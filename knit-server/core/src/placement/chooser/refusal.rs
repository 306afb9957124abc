//! Why no node takes a slot, in words.

use knit_rpc::id::NodeId;

use super::{Chooser, Wanted};
use crate::eligibility::{self, Context, Obstacle, Refusal};
use crate::placement::Placements;
use crate::snapshot::Node;

/// Nodes whose reasons are told, at most.
const REASONS_SHOWN_MAX: usize = 100;

/// Why no node takes a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One sentence.
    pub summary: String,
    /// One sentence per node, for the first [`REASONS_SHOWN_MAX`].
    pub reasons: Vec<String>,
}

impl<'a> Chooser<'a> {
    /// Asks every node again, for all that speaks against it.
    pub(super) fn refuse(
        &mut self,
        placements: &Placements<'a>,
        wanted: &Wanted<'_>,
        data: Option<&NodeId>,
        is_new: bool,
    ) -> Refused {
        let only = wanted.only.or(data);
        let is_common = only.is_none() && is_new;
        if let Some((read, refused)) = &self.refused
            && is_common
            && *read == self.read
        {
            return refused.clone();
        }
        let needs = self.needs(wanted);
        let asked: Vec<usize> = match only {
            Some(node) => placements.position(node).into_iter().collect(),
            None => (0..self.nodes.len()).collect(),
        };
        let found: Vec<(&Node, Vec<Obstacle<'_>>)> = asked
            .into_iter()
            .map(|at| {
                let host = self.host(placements, at, self.siblings(at, wanted.slot));
                (self.nodes[at].node, eligibility::obstacles(&needs, &host, placements))
            })
            .collect();
        let refusals: Vec<Refusal> = found
            .iter()
            .take(REASONS_SHOWN_MAX)
            .map(|(node, obstacles)| Refusal {
                node: node.name().to_owned(),
                reasons: {
                    let context = Context { snapshot: self.snapshot, placements, node };
                    obstacles.iter().map(|obstacle| obstacle.sentence(&context)).collect()
                },
            })
            .collect();
        let summary = match (only, refusals.as_slice()) {
            (Some(_), [one]) if wanted.only.is_some() => format!("{}: {}", one.node, one.all()),
            (Some(_), [one]) => format!("its data is on {}: {}", one.node, one.all()),
            (Some(node), _) => format!("its data is on {node}, which is no node of this cluster"),
            (None, _) => eligibility::summary(self.snapshot, wanted.spec, &found),
        };
        let reasons = refusals.iter().map(ToString::to_string).collect();
        let refused = Refused { summary, reasons };
        if is_common {
            self.refused = Some((self.read, refused.clone()));
        }
        refused
    }
}
