//! Why an instance is where it is, and why it is not elsewhere.
//!
//! Each answer is what placement itself would find if the slot were placed now, without what it
//! runs already.

use std::cmp::Ordering;

use knit_rpc::Timestamp;
use knit_rpc::api::{Unplaced, WhyNot, WhySlot, WhyView};
use knit_rpc::id::NodeId;
use knit_rpc::message::Phase;
use knit_rpc::spec::Mode;

use crate::eligibility::{self, Context, Obstacle, node_name};
use crate::liveness::Verdicts;
use crate::placement::{Chooser, Placements, Score, Wanted, merits};
use crate::snapshot::{Deployment, Instance, Node, Snapshot};

/// Other nodes that one answer tells of, over all slots, at most; slots after that have none.
const OTHERS_MAX: usize = 2_000;

/// Why each slot, or one, is where it is, or what it waits for.
pub fn why(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    slot: Option<u32>,
    unplaced: &[Unplaced],
    now: Timestamp,
) -> WhyView {
    let mut others_left = OTHERS_MAX;
    let mut slots = Vec::new();
    for slot in slots_of(snapshot, verdicts, deployment, slot) {
        let rows: Vec<&Instance> = snapshot.instances.of_slot(&deployment.id, slot).collect();
        let newest = rows.last().copied();
        let others = if deployment.spec.mode == Mode::EveryNode || others_left == 0 {
            Vec::new()
        } else {
            others(snapshot, verdicts, deployment, slot, newest)
        };
        others_left = others_left.saturating_sub(others.len());
        slots.push(WhySlot {
            slot,
            node: newest.map(|row| node_name(snapshot, &row.node).to_owned()),
            because: because(snapshot, deployment, slot, &rows, unplaced, now),
            others,
        });
    }
    WhyView { slots }
}

/// All that keeps a node from running one more of the deployment, or who is better.
pub fn why_not(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    node: &NodeId,
) -> WhyNot {
    let name = node_name(snapshot, node).to_owned();
    let here: Vec<String> = snapshot
        .instances
        .of_deployment(&deployment.id)
        .filter(|row| row.node == *node)
        .map(|row| format!("{}.{}", deployment.spec.name, row.slot))
        .collect();
    let slot = slots_of(snapshot, verdicts, deployment, None)
        .into_iter()
        .find(|slot| snapshot.instances.of_slot(&deployment.id, *slot).next().is_none())
        .or_else(|| deployment.spec.instance.volumes.is_empty().then_some(deployment.spec.replicas))
        .unwrap_or(0);
    let question = Question::new(snapshot, verdicts, deployment, slot);
    let judged = question.judge();
    let best = judged.iter().filter_map(|(node, judged)| Some((*node, judged.as_ref().ok()?)));
    let best = best.min_by_key(|(node, score)| ((*score).clone(), node.id.clone()));
    let found = judged.iter().find(|(judged, _)| judged.id == *node);
    let (mut reasons, nearest) = match found {
        None => (vec!["it is no node of this cluster".to_owned()], None),
        Some((node, Err(obstacles))) => {
            let context = question.context(node);
            let remedies: Vec<String> = obstacles.iter().map(|o| o.remedy(&context)).collect();
            (sentences(obstacles, &context), Some(remedies.join("; ")))
        }
        Some((node, Ok(score))) => {
            let better = best.filter(|(best, _)| best.id != node.id);
            let why = better.map_or_else(
                || "it would be the next one's node".to_owned(),
                |better| compared(deployment, (node, score), better),
            );
            (Vec::new(), Some(why))
        }
    };
    reasons.extend(failed_on(snapshot, deployment, node));
    let nearest = match (here.is_empty(), nearest) {
        (true, nearest) => nearest,
        (false, Some(nearest)) => Some(format!("it runs {}; {nearest}", here.join(", "))),
        (false, None) => Some(format!("it runs {}", here.join(", "))),
    };
    WhyNot { node: name, reasons, nearest }
}

/// What keeps instances that are on a node already from running there.
fn failed_on(snapshot: &Snapshot, deployment: &Deployment, node: &NodeId) -> Vec<String> {
    let rows = snapshot.instances.of_deployment(&deployment.id).filter(|row| row.node == *node);
    rows.filter_map(|row| {
        let status = snapshot.observed_of(row)?;
        let is_broken = matches!(status.phase, Phase::Failed | Phase::CrashLoop);
        let why = status.message.as_deref().filter(|_| is_broken)?;
        Some(format!("{}.{} is {} there: {why}", deployment.spec.name, row.slot, status.phase))
    })
    .collect()
}

/// The slots that are asked about.
fn slots_of(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    slot: Option<u32>,
) -> Vec<u32> {
    let spec = &deployment.spec;
    let mut slots: Vec<u32> = match (slot, spec.mode) {
        (Some(slot), _) => vec![slot],
        (None, Mode::Replicated) => (0..spec.replicas).collect(),
        (None, Mode::EveryNode) => {
            eligibility::every_node(snapshot, verdicts, spec).iter().map(|n| n.number).collect()
        }
    };
    slots.sort_unstable();
    slots
}

fn because(
    snapshot: &Snapshot,
    deployment: &Deployment,
    slot: u32,
    rows: &[&Instance],
    unplaced: &[Unplaced],
    now: Timestamp,
) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(newest) = rows.last() {
        if !newest.because.is_empty() {
            said.push(newest.because.clone());
        }
        if let Some(at) = snapshot.observed_of(newest).and_then(|status| status.started_at) {
            said.push(format!("its container started {} ago", ago(now, at)));
        }
        for older in rows.iter().rev().skip(1).filter(|older| older.id != newest.id) {
            let node = node_name(snapshot, &older.node);
            said.push(format!(
                "its instance of revision {} stays on {node} until this one is healthy",
                older.revision
            ));
        }
    }
    for volume in eligibility::volumes(&deployment.spec, slot) {
        if let Some(on) = snapshot.volumes.get(&volume) {
            said.push(format!(
                "its data, volume {volume}, is on {} and does not move",
                node_name(snapshot, &on.node)
            ));
        }
    }
    // One entry stands for all slots with the same reasons: the lowest.
    let waits = unplaced.iter().rev().find(|unplaced| unplaced.slot <= slot);
    let is_told = |unplaced: &&Unplaced| unplaced.slot == slot || rows.is_empty();
    said.extend(waits.filter(is_told).map(|unplaced| format!("waits: {}", unplaced.summary)));
    if deployment.stopped {
        said.push("the deployment is stopped".to_owned());
    }
    said
}

/// Every node but the slot's own, with all that speaks against it, or why it is not better.
fn others(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    slot: u32,
    newest: Option<&Instance>,
) -> Vec<WhyNot> {
    let question = Question::new(snapshot, verdicts, deployment, slot);
    let judged = question.judge();
    let own = judged.iter().find(|(node, _)| newest.is_some_and(|row| row.node == node.id));
    let own = own.and_then(|(node, judged)| Some((*node, judged.as_ref().ok()?)));
    let not_own = judged.iter().filter(|(node, _)| newest.is_none_or(|row| row.node != node.id));
    not_own
        .map(|(node, judged)| {
            let (reasons, nearest) = match judged {
                Err(obstacles) => (sentences(obstacles, &question.context(node)), None),
                Ok(score) => {
                    let compared = own.map(|own| compared(deployment, (node, score), own));
                    (Vec::new(), Some(compared.unwrap_or_else(|| "it would fit".to_owned())))
                }
            };
            WhyNot { node: node.name().to_owned(), reasons, nearest }
        })
        .collect()
}

fn sentences(obstacles: &[Obstacle<'_>], context: &Context<'_, '_>) -> Vec<String> {
    obstacles.iter().map(|obstacle| obstacle.sentence(context)).collect()
}

/// Why a node that fits was not taken, beside the one that was.
fn compared(
    deployment: &Deployment,
    (node, score): (&Node, &Score),
    (better, than): (&Node, &Score),
) -> String {
    let merits = merits(&deployment.spec, node, score, "has of");
    let fits = format!("it fits ({merits})");
    let better_name = better.name();
    let why = match (score, &node.id).cmp(&(than, &better.id)) {
        Ordering::Less | Ordering::Equal => {
            return format!("{fits}; it would be better now, and nothing that is well is moved");
        }
        Ordering::Greater if score.spread != than.spread => "spreads better",
        Ordering::Greater if score.own.siblings != than.own.siblings => "has fewer of it",
        Ordering::Greater if score.own.without_image != than.own.without_image => "has the image",
        Ordering::Greater if score.own.reserved != than.own.reserved => "has less reserved",
        Ordering::Greater if score.own.instances != than.own.instances => "runs fewer instances",
        Ordering::Greater => "comes first among equals",
    };
    format!("{fits}; {better_name} {why}")
}

/// What has to be known to judge nodes for one slot as if it had nothing yet.
struct Question<'a> {
    snapshot: &'a Snapshot,
    deployment: &'a Deployment,
    slot: u32,
    placements: Placements<'a>,
    chooser: Chooser<'a>,
}

impl<'a> Question<'a> {
    fn new(
        snapshot: &'a Snapshot,
        verdicts: &'a Verdicts,
        deployment: &'a Deployment,
        slot: u32,
    ) -> Self {
        let mut placements = Placements::of(snapshot);
        for row in snapshot.instances.of_slot(&deployment.id, slot) {
            placements.remove(&row.id);
        }
        let (id, spec) = (&deployment.id, &deployment.spec);
        let chooser = Chooser::new(snapshot, verdicts, &placements, id, spec);
        Self { snapshot, deployment, slot, placements, chooser }
    }

    fn judge(&self) -> Vec<(&'a Node, Result<Score, Vec<Obstacle<'_>>>)> {
        let wanted = Wanted {
            deployment: &self.deployment.id,
            slot: self.slot,
            spec: &self.deployment.spec,
            spec_hash: &self.deployment.spec_hash,
            preferred: None,
            only: None,
        };
        self.chooser.judge(&self.placements, &wanted)
    }

    fn context<'s>(&'s self, node: &'s Node) -> Context<'s, 'a> {
        Context { snapshot: self.snapshot, placements: &self.placements, node }
    }
}

/// `3 h`, `12 s`: in its greatest unit.
fn ago(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
