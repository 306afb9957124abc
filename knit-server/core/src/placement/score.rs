//! How good a node is for one more instance: the least score wins.

use std::fmt::Write;

use knit_rpc::api::Reserved;
use knit_rpc::spec::{DeploymentSpec, SpreadKey};

use crate::eligibility::Resource;
use crate::ledger::Ledger;
use crate::snapshot::Node;

/// What a node is judged by, what counts most first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    /// Slots of the deployment where each spread key has the node's value; empty when the manifest
    /// names no key, since siblings say the same then.
    pub(crate) spread: Vec<u32>,
    pub(crate) own: OwnScore,
}

/// What a node is judged by apart from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnScore {
    /// Other slots of the deployment on the node.
    pub(crate) siblings: u32,
    pub(crate) without_image: bool,
    /// Thousandths of its CPU or memory, whichever is scarcer, that would be reserved.
    pub(crate) reserved: u64,
    pub(crate) instances: u32,
    /// The node's number, for the order among equals.
    pub(crate) number: u32,
}

/// What would be reserved of a node with one more instance, in thousandths of its CPU or memory,
/// whichever is scarcer; 0 of what it did not say.
pub(crate) fn reserved_permille(node: &Node, ledger: &Ledger, asked: &Reserved) -> u64 {
    let reserved = ledger.reserved();
    let share = |resource: Resource| {
        let sum = resource.of(&reserved).saturating_add(resource.of(asked));
        sum.saturating_mul(1000).checked_div(resource.total(node)).unwrap_or(0)
    };
    share(Resource::Cpu).max(share(Resource::Memory))
}

/// Why the node of this score won over `fit - 1` others, in a sentence.
pub(crate) fn because(
    spec: &DeploymentSpec,
    node: &Node,
    score: &Score,
    (fit, all): (usize, usize),
) -> String {
    let mut text = match (fit, all) {
        (_, 1) => "the only node".to_owned(),
        (1, _) => format!("the only one of {all} nodes that fits"),
        _ => format!("{fit} of {all} nodes fit"),
    };
    let _ = write!(text, "; {}", merits(spec, node, score, "fewest of"));
    text
}

/// What speaks for a node, with numbers: `fewest of web here (0), has the image, 12 % reserved`.
pub(crate) fn merits(spec: &DeploymentSpec, node: &Node, score: &Score, count: &str) -> String {
    let mut text = String::new();
    for (key, slots) in spec.spread.iter().zip(&score.spread) {
        if let SpreadKey::Label(name) = key {
            let value = node.label(name).unwrap_or("none");
            let _ = write!(text, "{count} {} in {name}={value} ({slots}), ", spec.name);
        }
    }
    let image = if score.own.without_image { "" } else { ", has the image" };
    let OwnScore { siblings, reserved, .. } = score.own;
    let _ = write!(text, "{count} {} here ({siblings}){image}", spec.name);
    let _ = write!(text, ", {} % reserved", reserved / 10);
    text
}
