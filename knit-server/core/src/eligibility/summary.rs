//! Refusals in one sentence.

use std::collections::BTreeMap;
use std::fmt;

use knit_rpc::spec::DeploymentSpec;

use super::{Obstacle, node_name};
use crate::snapshot::{Node, Snapshot};

/// Reasons that a summary tells, at most.
const REASONS_SUMMED_MAX: usize = 5;

/// Why one node may not run one slot: everything, in sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub node: String,
    pub reasons: Vec<String>,
}

impl Refusal {
    /// All reasons in a row.
    pub fn all(&self) -> String {
        self.reasons.join("; ")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.node, self.all())
    }
}

/// One sentence that sums obstacles up: `2 nodes: label role=web is missing; 1 node: not enough
/// memory; nearest: fra-2, which lacks 212 MiB of memory`. A node is counted with each of its
/// obstacles.
pub fn summary(
    snapshot: &Snapshot,
    spec: &DeploymentSpec,
    refused: &[(&Node, Vec<Obstacle<'_>>)],
) -> String {
    if refused.is_empty() {
        return "no node has joined this cluster yet".to_owned();
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for obstacle in refused.iter().flat_map(|(_, obstacles)| obstacles) {
        *counts.entry(obstacle.short(snapshot)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = counts.len().saturating_sub(REASONS_SUMMED_MAX);
    let mut counted: Vec<String> = counts
        .into_iter()
        .take(REASONS_SUMMED_MAX)
        .map(|(reason, count)| format!("{}: {reason}", nodes(count)))
        .collect();
    if more > 0 {
        counted.push(format!("{more} more reasons"));
    }
    let alike = refused.iter().all(|(_, o)| matches!(o.as_slice(), [one] if !one.has_amount()));
    if !alike && let Some(nearest) = nearest(snapshot, refused) {
        counted.push(format!("nearest: {nearest}"));
    }
    let is_label = |obstacle: &Obstacle<'_>| matches!(obstacle, Obstacle::Label { .. });
    if refused.iter().all(|(_, obstacles)| obstacles.iter().any(is_label)) {
        let selector: Vec<String> =
            spec.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let selector = selector.join(", ");
        return format!("no node matches the node_selector {selector}: {}", counted.join("; "));
    }
    counted.join("; ")
}

/// The node that is nearest to being of use, with what it lacks.
pub fn nearest(snapshot: &Snapshot, refused: &[(&Node, Vec<Obstacle<'_>>)]) -> Option<String> {
    let distance = |obstacles: &[Obstacle<'_>]| {
        let (kind, amount) = obstacles.iter().map(Obstacle::distance).max().unwrap_or_default();
        (kind, obstacles.len(), amount)
    };
    let (node, obstacles) =
        refused.iter().min_by(|a, b| (distance(&a.1), &a.0.id).cmp(&(distance(&b.1), &b.0.id)))?;
    let mut text = node_name(snapshot, &node.id).to_owned();
    let mut lacked = false;
    for (index, obstacle) in obstacles.iter().enumerate() {
        let clause = obstacle.clause(snapshot);
        let lacks = clause.strip_prefix("which lacks ");
        let joint = if index == 0 { ", " } else { " and " };
        let rest = lacks.filter(|_| lacked).unwrap_or(&clause);
        text.push_str(joint);
        text.push_str(rest);
        lacked = lacks.is_some();
    }
    Some(text)
}

fn nodes(count: usize) -> String {
    format!("{count} node{}", if count == 1 { "" } else { "s" })
}
