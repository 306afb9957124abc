//! Asks peers about nodes that fell silent, and weighs what they say.
//!
//! ```text
//!  last beat ── 3.5 s ──> live peers are asked, again and again ── 6 s ──> judged by their answers
//! ```
//!
//! A peer that reaches the node over the mesh speaks for a cut path; peers that all do not reach
//! it speak for its death. Peers that say nothing (an older agent, a lost message) leave the
//! judgement to silence alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::NodeId;
use knit_rpc::message::ProbeRequest;

use super::{LOST_AFTER, beats, judging, silence};
use crate::snapshot::{Deafness, Node, ProbeAnswer, Probing, Snapshot};

/// Silence after which peers are asked: beats come 2 s apart, so one was missed.
pub const ASK_AFTER: Duration = Duration::from_millis(3_500);
/// How often they are asked again, and how often once the node was judged.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_LATER_EVERY: Duration = Duration::from_secs(4);
/// Peers that are asked, at most.
pub const ASKED_MAX: usize = 5;
/// Nodes that are asked about in one question, at most.
pub const TARGETS_MAX: usize = 64;
/// How long the first answers wait for the others.
const ANSWERS_WAIT: Duration = Duration::from_millis(1_500);
/// How long an answer counts.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(5);

/// What peers are to be asked at `now`; `own` is the node on this server's host, which is asked
/// last: its path to a silent node may be cut where the server's own is.
pub fn question(snapshot: &Snapshot, own: Option<&NodeId>, now: Timestamp) -> Option<ProbeRequest> {
    if matches!(snapshot.deafness, Some(Deafness { until: None, .. })) {
        return None;
    }
    let mut due: Vec<(Option<Timestamp>, &Node)> = snapshot
        .nodes
        .values()
        .filter(|node| is_silent(snapshot, node, now))
        .map(|node| (snapshot.probes.get(&node.id), node))
        .filter(|(probing, node)| is_due(snapshot, node, *probing, now))
        .map(|(probing, node)| (probing.map(|probing| probing.asked_again_at), node))
        .collect();
    // Who was never asked about goes first, then who waits longest.
    due.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    let targets: BTreeMap<NodeId, _> = due
        .into_iter()
        .filter_map(|(_, node)| Some((node.id.clone(), node.mesh_ip()?)))
        .take(TARGETS_MAX)
        .collect();
    let by = whom(snapshot, own, now);
    (!targets.is_empty() && !by.is_empty()).then_some(ProbeRequest { by, targets })
}

/// Takes note of a question that was sent.
pub fn asked(snapshot: &mut Snapshot, question: &ProbeRequest, now: Timestamp) {
    for target in question.targets.keys() {
        let probing = snapshot.probes.entry(target.clone()).or_insert_with(|| Probing {
            asked_at: now,
            asked_again_at: now,
            asked: BTreeSet::new(),
            answers: BTreeMap::new(),
        });
        probing.asked_again_at = now;
        probing.asked.extend(question.by.iter().cloned());
    }
}

/// Takes note of a beat and of what it says of others; returns whether it answered anything.
///
/// Who beats speaks for itself: what was asked about it is forgotten.
pub fn answer(
    snapshot: &mut Snapshot,
    sender: &NodeId,
    probed: &BTreeMap<NodeId, bool>,
    now: Timestamp,
) -> bool {
    snapshot.probes.remove(sender);
    let mut answered = false;
    for (target, reached) in probed {
        // Only who was asked may speak.
        let asked = snapshot.probes.get_mut(target).filter(|p| p.asked.contains(sender));
        if let Some(probing) = asked {
            let said = ProbeAnswer { reached: *reached, at: now };
            probing.answers.insert(sender.clone(), said);
            answered = true;
        }
    }
    answered
}

/// What the peers that were asked say of a node: whether any reaches it, and how many do not.
/// `None` while there is nothing to go by.
pub(super) fn verdict(snapshot: &Snapshot, node: &Node, now: Timestamp) -> Option<Said> {
    let probing = snapshot.probes.get(&node.id)?;
    let is_live = |id: &NodeId| snapshot.nodes.get(id).is_some_and(|peer| beats(peer, now));
    let counts =
        |(id, said): &(&NodeId, &ProbeAnswer)| is_live(id) && now.since(said.at) <= ANSWER_AGE_MAX;
    let answers: BTreeMap<&NodeId, &ProbeAnswer> = probing.answers.iter().filter(counts).collect();
    if answers.values().any(|said| said.reached) {
        return Some(Said::Reached);
    }
    let waited = now.since(probing.asked_at) >= ANSWERS_WAIT;
    let complete = probing.asked.iter().filter(|id| is_live(id)).all(|id| answers.contains_key(id));
    (!answers.is_empty() && (waited || complete)).then_some(Said::Gone { by: answers.len() })
}

/// What peers say of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// One reaches it.
    Reached,
    /// None of so many reaches it.
    Gone { by: usize },
}

fn is_silent(snapshot: &Snapshot, node: &Node, now: Timestamp) -> bool {
    !node.lost
        && silence(snapshot, node, now) >= ASK_AFTER
        && (node.last_beat.is_some() || judging(snapshot, now))
}

fn is_due(snapshot: &Snapshot, node: &Node, probing: Option<&Probing>, now: Timestamp) -> bool {
    let every = if silence(snapshot, node, now) < LOST_AFTER { ASK_EVERY } else { ASK_LATER_EVERY };
    probing.is_none_or(|probing| now.since(probing.asked_again_at) >= every)
}

/// Live peers, the same ones as long as they live.
fn whom(snapshot: &Snapshot, own: Option<&NodeId>, now: Timestamp) -> BTreeSet<NodeId> {
    let is_live = |node: &&Node| {
        node.last_beat.is_some_and(|at| now.since(at) < ASK_AFTER) && !node.lives.alternates(now)
    };
    let mut peers: Vec<&NodeId> =
        snapshot.nodes.values().filter(is_live).map(|node| &node.id).collect();
    peers.sort_by_key(|id| (Some(*id) == own, *id));
    peers.into_iter().take(ASKED_MAX).cloned().collect()
}

#[cfg(test)]
mod tests;
