//! Chooses nodes for the slots of one deployment.
//!
//! ```text
//! Chooser::new ── looks at every node once ──> a heap of those that fit for each area
//! choose ── nodes that changed since are looked at again ──> the best of the areas' best
//! ```
//!
//! An area is the nodes with one value of each label that the deployment is spread over: within
//! it nodes compare by themselves, and what is placed elsewhere changes nothing there.
//!
//! Invariant: what is chosen depends on the placements as they are and on nothing before: a new
//! chooser would choose the same.

mod fleet;
mod refusal;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use knit_rpc::api::Reserved;
use knit_rpc::id::{DeploymentId, NodeId, SpecHash};
use knit_rpc::spec::{DeploymentSpec, VolumeName};

use self::fleet::{Admits, Area, Seen, see};
pub use self::refusal::Refused;
use super::score::{OwnScore, Score, because, reserved_permille};
use super::{Change, Placements};
use crate::eligibility::{self, Host, Needs, Obstacle, node_name};
use crate::ledger;
use crate::liveness::Verdicts;
use crate::snapshot::{Node, Snapshot};

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

/// Places the slots of one deployment at one spec, one after the other.
#[derive(Debug)]
pub struct Chooser<'a> {
    snapshot: &'a Snapshot,
    deployment: DeploymentId,
    asked: Reserved,
    /// Bytes of the spec on the wire.
    bytes: usize,
    spec_hash: SpecHash,
    nodes: Vec<Seen<'a>>,
    areas: Vec<Area>,
    /// Slots that each value of each spread label has on nodes that are not gone.
    groups: Vec<Vec<u32>>,
    /// How many instances each slot has on each node, by (slot, node).
    rows: BTreeMap<(u32, usize), u32>,
    /// Nodes that fit a slot that has nothing yet.
    fitting: usize,
    /// How much of the placements' log has been read.
    read: usize,
    /// The last refusal of a slot that has nothing yet, and how much had been read then.
    refused: Option<(usize, Refused)>,
}

impl<'a> Chooser<'a> {
    /// Looks at every node once. `placements` lie over `snapshot`.
    pub fn new(
        snapshot: &'a Snapshot,
        verdicts: &'a Verdicts,
        placements: &Placements<'a>,
        deployment: &DeploymentId,
        spec: &DeploymentSpec,
    ) -> Self {
        let image = spec.instance.image_reference();
        let (nodes, areas, groups) = see(verdicts, placements, spec, &image);
        let mut chooser = Self {
            snapshot,
            deployment: deployment.clone(),
            asked: ledger::asked(&spec.instance.resources),
            bytes: ledger::spec_bytes(&spec.instance),
            spec_hash: spec.instance.hash(),
            nodes,
            areas,
            groups,
            rows: BTreeMap::new(),
            fitting: 0,
            read: placements.log.len(),
            refused: None,
        };
        for instance in placements.of_deployment(deployment) {
            if let Some(at) = placements.position(&instance.node) {
                chooser.count(at, instance.slot, true);
            }
        }
        let mut heaps: Vec<Vec<_>> = chooser.areas.iter().map(|_| Vec::new()).collect();
        for at in 0..chooser.nodes.len() {
            if let Some(entry) = chooser.look_again(at, spec, placements) {
                heaps[chooser.nodes[at].area].push(entry);
            }
        }
        for (area, heap) in chooser.areas.iter_mut().zip(heaps) {
            area.heap = heap.into();
        }
        chooser
    }

    /// The best node for the slot, or why there is none.
    pub fn choose(
        &mut self,
        placements: &Placements<'a>,
        wanted: &Wanted<'_>,
    ) -> Result<Choice, Refused> {
        self.catch_up(placements, wanted.spec);
        let volumes: Vec<VolumeName> = eligibility::volumes(wanted.spec, wanted.slot).collect();
        let at = |node: Option<&NodeId>| node.and_then(|node| placements.position(node));
        let data = volumes.iter().find_map(|volume| placements.bound(volume));
        let rows = (wanted.slot, 0)..=(wanted.slot, usize::MAX);
        let is_new = self.rows.range(rows).next().is_none();
        let chosen = if wanted.only.is_some() || data.is_some() {
            let only = at(wanted.only.or(data)).filter(|at| self.takes(placements, wanted, *at));
            let why = match (wanted.only, data) {
                (Some(_), _) => "one on every node".to_owned(),
                (None, Some(node)) => {
                    format!("its data is on {}", node_name(self.snapshot, node))
                }
                (None, None) => String::new(),
            };
            only.map(|at| (at, why))
        } else if let Some(at) =
            at(wanted.preferred).filter(|at| self.takes(placements, wanted, *at))
        {
            Some((at, "its slot runs there already".to_owned()))
        } else if is_new {
            self.best_of_areas(wanted.spec)
        } else {
            self.best_of_all(placements, wanted)
        };
        let Some((at, because)) = chosen else {
            return Err(self.refuse(placements, wanted, data, is_new));
        };
        let volumes = volumes.into_iter().filter(|volume| placements.bound(volume).is_none());
        Ok(Choice { node: self.nodes[at].node.id.clone(), because, volumes: volumes.collect() })
    }

    /// The best for a slot that has nothing yet.
    fn best_of_areas(&mut self, spec: &DeploymentSpec) -> Option<(usize, String)> {
        for area in &mut self.areas {
            while let Some(Reverse((_, at, stamp))) = area.heap.peek()
                && *stamp != self.nodes[*at].stamp
            {
                area.heap.pop();
            }
        }
        let best = self.areas.iter().filter_map(|area| {
            let Reverse((own, at, _)) = area.heap.peek()?;
            Some((Score { spread: self.spread(area, own.siblings, &[]), own: *own }, *at))
        });
        let (score, at) = best.min()?;
        let counts = (self.fitting, self.nodes.len());
        Some((at, because(spec, self.nodes[at].node, &score, counts)))
    }

    /// The best for a slot that has instances, which do not count against itself.
    fn best_of_all(
        &self,
        placements: &Placements<'a>,
        wanted: &Wanted<'_>,
    ) -> Option<(usize, String)> {
        let fits = (0..self.nodes.len()).filter(|at| self.takes(placements, wanted, *at));
        let scored: Vec<(Score, usize)> =
            fits.map(|at| (self.score(placements, at, wanted.slot), at)).collect();
        let counts = (scored.len(), self.nodes.len());
        let (score, at) = scored.into_iter().min()?;
        Some((at, because(wanted.spec, self.nodes[at].node, &score, counts)))
    }

    /// Reads what the placements were changed by.
    fn catch_up(&mut self, placements: &Placements<'a>, spec: &DeploymentSpec) {
        for change in &placements.log[self.read..] {
            let Change { at, slot, came, .. } = *change;
            if change.deployment == self.deployment {
                self.count(at, slot, came);
            }
            if let Some(entry) = self.look_again(at, spec, placements) {
                self.areas[self.nodes[at].area].heap.push(entry);
            }
        }
        self.read = placements.log.len();
    }

    /// Takes note of an instance that came or went.
    fn count(&mut self, at: usize, slot: u32, came: bool) {
        let rows = self.rows.entry((slot, at)).or_default();
        let before = *rows;
        *rows = if came { before + 1 } else { before.saturating_sub(1) };
        if *rows == 0 {
            self.rows.remove(&(slot, at));
        }
        if before == u32::from(!came) {
            let seen = &mut self.nodes[at];
            let step = |count: &mut u32| *count = if came { *count + 1 } else { *count - 1 };
            step(&mut seen.slots);
            if !seen.is_gone() {
                for (counts, group) in self.groups.iter_mut().zip(&self.areas[seen.area].groups) {
                    if let Some(group) = group {
                        step(&mut counts[*group]);
                    }
                }
            }
        }
    }

    /// Finds out again whether a node fits a slot that has nothing yet, and how well.
    fn look_again(
        &mut self,
        at: usize,
        spec: &DeploymentSpec,
        placements: &Placements<'a>,
    ) -> Option<Reverse<(OwnScore, usize, u32)>> {
        let fits = self.nodes[at].admits == Admits::All && {
            let (deployment, spec_hash) = (&self.deployment, &self.spec_hash);
            let (asked, bytes) = (self.asked, self.bytes);
            let needs = Needs { deployment, slot: u32::MAX, spec, spec_hash, asked, bytes };
            let host = self.host(placements, at, self.nodes[at].slots);
            eligibility::changing(&needs, &host, &mut |_| ControlFlow::Break(())).is_continue()
        };
        let seen = &mut self.nodes[at];
        seen.stamp += 1;
        if seen.fits != fits {
            seen.fits = fits;
            self.fitting = if fits { self.fitting + 1 } else { self.fitting - 1 };
        }
        let seen = &self.nodes[at];
        fits.then(|| Reverse((self.own_score(placements, at, seen.slots), at, seen.stamp)))
    }

    fn host<'s>(&'s self, placements: &'s Placements<'a>, at: usize, siblings: u32) -> Host<'s> {
        let Seen { node, verdict, .. } = self.nodes[at];
        Host { node, verdict, ledger: &placements.fleet()[at].1, siblings }
    }

    /// Slots other than `slot` on the node.
    fn siblings(&self, at: usize, slot: u32) -> u32 {
        self.nodes[at].slots - u32::from(self.rows.contains_key(&(slot, at)))
    }

    fn needs<'w>(&self, wanted: &Wanted<'w>) -> Needs<'w> {
        let Wanted { deployment, slot, spec, spec_hash, .. } = *wanted;
        Needs { deployment, slot, spec, spec_hash, asked: self.asked, bytes: self.bytes }
    }

    /// Whether the node may run this very slot.
    fn takes(&self, placements: &Placements<'a>, wanted: &Wanted<'_>, at: usize) -> bool {
        let stop = &mut |_: Obstacle<'_>| ControlFlow::Break(());
        let needs = self.needs(wanted);
        let host = self.host(placements, at, self.siblings(at, wanted.slot));
        let is_admitted = match self.nodes[at].admits {
            Admits::All => true,
            Admits::Tied => eligibility::is_tied(&needs, host.node, placements),
            Admits::None => false,
        };
        is_admitted
            && eligibility::changing(&needs, &host, stop).is_continue()
            && eligibility::of_data(&needs, &host.node.id, placements, stop).is_continue()
    }

    /// How good the node is for a slot, whose own instances do not count.
    fn score(&self, placements: &Placements<'a>, at: usize, slot: u32) -> Score {
        let own = self.rows.range((slot, 0)..=(slot, usize::MAX));
        let own: Vec<usize> = own.map(|((_, at), _)| *at).collect();
        let siblings = self.siblings(at, slot);
        Score {
            spread: self.spread(&self.areas[self.nodes[at].area], siblings, &own),
            own: self.own_score(placements, at, siblings),
        }
    }

    /// Slots of the deployment where each spread key has the area's value, without one slot that
    /// is on the nodes `own`.
    fn spread(&self, area: &Area, siblings: u32, own: &[usize]) -> Vec<u32> {
        let count = |(key, group): (usize, &Option<usize>)| {
            let Some(group) = group else { return siblings };
            let mine = own.iter().filter(|at| {
                let seen = &self.nodes[**at];
                !seen.is_gone() && self.areas[seen.area].groups[key] == Some(*group)
            });
            self.groups[key][*group] - u32::try_from(mine.count()).unwrap_or(u32::MAX)
        };
        area.groups.iter().enumerate().map(count).collect()
    }

    fn own_score(&self, placements: &Placements<'a>, at: usize, siblings: u32) -> OwnScore {
        let seen = &self.nodes[at];
        let ledger = &placements.fleet()[at].1;
        OwnScore {
            siblings,
            without_image: !seen.has_image,
            reserved: reserved_permille(seen.node, ledger, &self.asked),
            instances: ledger.instances(),
            number: seen.node.number,
        }
    }

    /// Every node with its score, or with all that speaks against it.
    pub(crate) fn judge<'s>(
        &'s self,
        placements: &'s Placements<'a>,
        wanted: &Wanted<'s>,
    ) -> Vec<(&'a Node, Result<Score, Vec<Obstacle<'s>>>)> {
        let needs = self.needs(wanted);
        let judge = |at: usize| {
            let host = self.host(placements, at, self.siblings(at, wanted.slot));
            let obstacles = eligibility::obstacles(&needs, &host, placements);
            let judged = if obstacles.is_empty() {
                Ok(self.score(placements, at, wanted.slot))
            } else {
                Err(obstacles)
            };
            (self.nodes[at].node, judged)
        };
        (0..self.nodes.len()).map(judge).collect()
    }
}
