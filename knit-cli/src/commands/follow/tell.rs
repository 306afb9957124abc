//! What happens meanwhile, one line for each change.

use std::collections::BTreeMap;

use knit_rpc::api::{Cause, DeploymentView, InstanceView, RolloutState, RolloutView};
use knit_rpc::message::Phase;
use knit_runtime::terminal::{Colour, colour_stderr, eprintln, printable};

use crate::commands::show::{instance_name, phase_colour, pull_percent};

/// A pull is told in steps of so many percent.
const PULL_STEP: u64 = 25;

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Teller {
    told: BTreeMap<String, String>,
}

impl Teller {
    /// What ran before `revision` came is no news until it changes.
    pub(super) fn tell(&mut self, view: &DeploymentView, revision: u64) {
        let first = self.told.is_empty();
        let known = view.instances.iter().filter(|one| first && one.revision < revision);
        let known: Vec<(String, String)> =
            known.map(|one| (one.id.to_string(), progress(one))).collect();
        self.told.extend(known);
        for (subject, line) in lines(view) {
            if self.told.insert(subject, line.clone()).as_deref() != Some(line.as_str()) {
                eprintln(&format!("  {line}"));
            }
        }
    }
}

/// Everything that could be told now, by what it is about.
pub(super) fn lines(view: &DeploymentView) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    if let Some(rollout) = view.rollout.as_ref().filter(|one| one.state == RolloutState::Running) {
        for note in &rollout.notes {
            lines.push((format!("note {note}"), format!("note: {}", printable(note))));
        }
        if let Some(line) = way_back(rollout) {
            lines.push(("way back".to_owned(), line));
        }
    }
    for instance in view.instances.iter().filter(|instance| instance.wanted) {
        lines.push((instance.id.to_string(), progress(instance)));
    }
    for unplaced in &view.unplaced {
        let name = format!("{}.{}", view.name, unplaced.slot);
        let line = format!("{name:<16} no node    {}", printable(&unplaced.summary));
        lines.push((name, line));
    }
    if let Some(line) = view.rollout.as_ref().and_then(|rollout| baking(view, rollout)) {
        lines.push(("baking".to_owned(), line));
    }
    lines
}

/// That it is given up, which is not yet the end.
fn way_back(rollout: &RolloutView) -> Option<String> {
    let (to, of) = match rollout.cause {
        Cause::Rollback { to, of, automatic: true } => (to, of),
        Cause::Rollback { .. }
        | Cause::Deploy
        | Cause::Scale
        | Cause::Restart
        | Cause::Secret { .. } => return None,
    };
    let why = rollout.message.as_deref().map(|why| format!(": {}", printable(why)));
    let text = format!("revision {of} is given up, back to {to}{}", why.unwrap_or_default());
    Some(colour_stderr(Colour::Yellow, &text))
}

/// That all is well, and what is waited for all the same.
fn baking(view: &DeploymentView, rollout: &RolloutView) -> Option<String> {
    let bake = view.spec.update.bake;
    let all = rollout.state == RolloutState::Running
        && rollout.from.is_some()
        && rollout.slots > 0
        && rollout.healthy >= rollout.slots
        && bake.as_millis() > 0;
    all.then(|| format!("all {} are healthy; they have to stay so for {bake}", rollout.slots))
}

fn progress(instance: &InstanceView) -> String {
    let message = instance.message.as_deref().map(|text| format!(": {}", printable(text)));
    let pulled = instance.pull.filter(|_| instance.phase == Phase::Pulling);
    let pulled = pulled.and_then(pull_percent).map(|percent| percent / PULL_STEP * PULL_STEP);
    format!(
        "{:<16} {} on {}{}{}",
        instance_name(instance),
        colour_stderr(phase_colour(instance.phase), &format!("{:<10}", instance.phase)),
        printable(&instance.node_name),
        pulled
            .filter(|percent| *percent > 0)
            .map(|percent| format!(", {percent}%"))
            .unwrap_or_default(),
        message.unwrap_or_default()
    )
}
