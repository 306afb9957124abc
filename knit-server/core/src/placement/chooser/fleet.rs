//! The nodes as one deployment sees them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;

use knit_rpc::api::NodeState;
use knit_rpc::spec::{DeploymentSpec, SpreadKey};

use crate::eligibility;
use crate::liveness::{Verdict, Verdicts};
use crate::placement::Placements;
use crate::placement::score::OwnScore;
use crate::snapshot::Node;

/// Nodes that spreading does not tell apart.
#[derive(Debug)]
pub(super) struct Area {
    /// Its value of each spread key, by number; none of the key `node`.
    pub(super) groups: Vec<Option<usize>>,
    /// Nodes that fit a slot that has nothing yet, the best first. An entry counts while its stamp
    /// is the node's.
    pub(super) heap: BinaryHeap<Reverse<(OwnScore, usize, u32)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admits {
    All,
    /// Only slots that are tied to it.
    Tied,
    None,
}

/// What was seen of one node.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    pub(super) node: &'a Node,
    pub(super) verdict: Option<&'a Verdict>,
    /// What it admits, by all that stays while a plan is made.
    pub(super) admits: Admits,
    /// Whether it takes a slot that has nothing yet.
    pub(super) fits: bool,
    pub(super) has_image: bool,
    /// Slots of the deployment on it.
    pub(super) slots: u32,
    pub(super) area: usize,
    pub(super) stamp: u32,
}

impl Seen<'_> {
    /// Whether what is on it does not count any more.
    pub(super) fn is_gone(&self) -> bool {
        self.verdict.is_none_or(|verdict| verdict.state == NodeState::Lost)
    }
}

/// Looks at every node, and divides the fleet into areas.
pub(super) fn see<'a>(
    verdicts: &'a Verdicts,
    placements: &Placements<'a>,
    spec: &DeploymentSpec,
    image: &str,
) -> (Vec<Seen<'a>>, Vec<Area>, Vec<Vec<u32>>) {
    let mut values: Vec<BTreeMap<Option<&str>, usize>> = vec![BTreeMap::new(); spec.spread.len()];
    let mut areas: BTreeMap<Vec<Option<usize>>, usize> = BTreeMap::new();
    let mut judged = verdicts.nodes.iter().peekable();
    let mut nodes = Vec::with_capacity(placements.fleet().len());
    for (node, _) in placements.fleet() {
        let node: &'a Node = node;
        // Both are in the order of ids.
        while judged.next_if(|(id, _)| **id < node.id).is_some() {}
        let verdict = judged.next_if(|(id, _)| **id == node.id).map(|(_, verdict)| verdict);
        let group = |(key, values): (&SpreadKey, &mut BTreeMap<Option<&'a str>, usize>)| {
            let SpreadKey::Label(name) = key else { return None };
            let next = values.len();
            Some(*values.entry(node.label(name)).or_insert(next))
        };
        let groups = spec.spread.iter().zip(&mut values).map(group).collect();
        let mut admits = Admits::All;
        let _ = eligibility::fixed(spec, node, verdict, &mut |obstacle| {
            // It is told of last.
            admits = if obstacle.is_availability() { Admits::Tied } else { Admits::None };
            ControlFlow::Break(())
        });
        let next = areas.len();
        nodes.push(Seen {
            node,
            verdict,
            admits,
            fits: false,
            has_image: node.facts.images.contains(image),
            slots: 0,
            area: *areas.entry(groups).or_insert(next),
            stamp: 0,
        });
    }
    let mut numbered: Vec<(usize, Vec<Option<usize>>)> =
        areas.into_iter().map(|(groups, number)| (number, groups)).collect();
    numbered.sort_unstable();
    let area = |(_, groups)| Area { groups, heap: BinaryHeap::new() };
    let areas = numbered.into_iter().map(area).collect();
    (nodes, areas, values.into_iter().map(|values| vec![0; values.len()]).collect())
}
