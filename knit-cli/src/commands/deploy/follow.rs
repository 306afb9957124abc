//! Follows one revision from accepted to running, and tells each change once.
//!
//! The server drives the rollout: following reads, and stops reading without consequence.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::{Accepted, DeploymentState, DeploymentView, InstanceView};
use knit_rpc::message::Phase;
use knit_runtime::terminal::{Colour, colour_stderr, eprintln, printable};

use crate::commands::show::{instance_name, phase_colour};

/// The server is asked anew at the latest after this.
const POLL: Duration = Duration::from_millis(150);
/// How long a slot must be without a place before we give up: nodes may be just joining.
const UNPLACED_PATIENCE: Duration = Duration::from_secs(5);
/// Nodes whose reasons are told, at most; `-o json` of `knit status` has them all.
const REASONS_SHOWN_MAX: usize = 20;
/// Restarts after which a container is taken to end for good: some need a second try.
const RESTARTS_PATIENCE: u32 = 3;

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every replica of the revision runs.
    Running(u32),
    /// It cannot run; the sentences say why.
    Impossible(Vec<String>),
    /// It does not run yet, and our time is over.
    TimedOut(Duration),
    /// Somebody deployed another revision meanwhile.
    Superseded(u64),
    /// Somebody removed it meanwhile.
    Removed,
    /// The user wants to wait no longer.
    Interrupted,
}

impl Outcome {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Running(_) => 0,
            Self::Impossible(_) => 3,
            Self::TimedOut(_) => 4,
            Self::Superseded(_) | Self::Removed => 5,
            Self::Interrupted => 130,
        })
    }

    pub(super) fn describe(&self, name: &str) -> String {
        match self {
            Self::Running(replicas) => {
                colour_stderr(Colour::Green, &format!("{name} runs: {replicas} of {replicas}"))
            }
            Self::Impossible(reasons) => {
                let lines: Vec<String> = reasons.iter().map(|reason| printable(reason)).collect();
                let text = match lines.as_slice() {
                    [only] => format!("{name} cannot run: {only}"),
                    lines => format!("{name} cannot run:\n  {}", lines.join("\n  ")),
                };
                colour_stderr(Colour::Red, &text)
            }
            Self::TimedOut(timeout) => format!(
                "{name} does not run after {} s; the server goes on: see `knit status {name}`",
                timeout.as_secs()
            ),
            Self::Superseded(revision) => {
                format!("{name} was deployed again meanwhile: revision {revision} took its place")
            }
            Self::Removed => format!("{name} was removed meanwhile"),
            Self::Interrupted => format!(
                "no longer waiting; the server goes on deploying {name}: see `knit status {name}`"
            ),
        }
    }
}

/// A revision that is being followed.
pub(super) struct Followed {
    client: ApiClient,
    accepted: Accepted,
    told: BTreeMap<String, String>,
    unplaced_since: Option<Instant>,
    silent: bool,
}

impl Followed {
    pub(super) fn new(client: ApiClient, accepted: Accepted) -> Self {
        Self { client, accepted, told: BTreeMap::new(), unplaced_since: None, silent: false }
    }

    /// Waits until the revision runs, cannot run, or time is over.
    pub(super) async fn wait(mut self, timeout: Duration) -> Result<Outcome, HttpError> {
        let start = Instant::now();
        loop {
            if let Some(outcome) = self.look().await? {
                return Ok(outcome);
            }
            if start.elapsed() > timeout {
                return Ok(Outcome::TimedOut(timeout));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&mut self) -> Result<Option<Outcome>, HttpError> {
        let view = self.client.deployment(&self.accepted.project, &self.accepted.name).await;
        let view = match view {
            Ok(view) => view,
            Err(error) if error.status() == Some(404) => return Ok(Some(Outcome::Removed)),
            Err(HttpError::Unreachable { .. } | HttpError::Answer { .. }) => {
                if !std::mem::replace(&mut self.silent, true) {
                    eprintln("the server does not answer; still waiting");
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if std::mem::take(&mut self.silent) {
            eprintln("the server answers again");
        }
        self.tell(&view);
        Ok(self.judge(&view))
    }

    fn judge(&mut self, view: &DeploymentView) -> Option<Outcome> {
        if view.revision > self.accepted.revision {
            return Some(Outcome::Superseded(view.revision));
        }
        if view.state == DeploymentState::Removing {
            return Some(Outcome::Removed);
        }
        let failed = failures(view);
        if !failed.is_empty() {
            return Some(Outcome::Impossible(failed));
        }
        if view.running >= view.replicas && view.unplaced.is_empty() {
            return Some(Outcome::Running(view.replicas));
        }
        if view.unplaced.is_empty() {
            self.unplaced_since = None;
            return None;
        }
        let since = *self.unplaced_since.get_or_insert_with(Instant::now);
        (since.elapsed() >= UNPLACED_PATIENCE).then(|| Outcome::Impossible(places_missing(view)))
    }

    /// One line for each change of an instance.
    fn tell(&mut self, view: &DeploymentView) {
        for instance in view.instances.iter().filter(|instance| instance.wanted) {
            let line = progress(instance);
            let told = self.told.insert(instance.id.to_string(), line.clone());
            if told.as_deref() != Some(line.as_str()) {
                eprintln(&format!("  {line}"));
            }
        }
        for unplaced in &view.unplaced {
            let name = format!("{}.{}", view.name, unplaced.slot);
            let line = format!("{name:<16} no node    {}", printable(&unplaced.summary));
            if self.told.insert(name, line.clone()).as_deref() != Some(line.as_str()) {
                eprintln(&format!("  {line}"));
            }
        }
    }
}

fn progress(instance: &InstanceView) -> String {
    let message = instance.message.as_deref().map(|text| format!(": {}", printable(text)));
    format!(
        "{:<16} {} on {}{}",
        instance_name(instance),
        colour_stderr(phase_colour(instance.phase), &format!("{:<10}", instance.phase)),
        printable(&instance.node_name),
        message.unwrap_or_default()
    )
}

/// Instances of the newest revision that cannot run or keep ending, each as a sentence.
fn failures(view: &DeploymentView) -> Vec<String> {
    let keeps_ending = |instance: &InstanceView| {
        instance.phase == Phase::Restarting && instance.restarts >= RESTARTS_PATIENCE
    };
    let failed = |instance: &&InstanceView| {
        instance.wanted
            && instance.revision == view.revision
            && (instance.phase == Phase::Failed || keeps_ending(instance))
    };
    view.instances
        .iter()
        .filter(failed)
        .map(|instance| {
            let why = instance.message.as_deref().unwrap_or("it failed");
            format!("{} on {}: {why}", instance_name(instance), instance.node_name)
        })
        .collect()
}

/// The sum of the reasons in one line, then one line per node where that says more.
fn places_missing(view: &DeploymentView) -> Vec<String> {
    let sentences = |unplaced: &knit_rpc::api::Unplaced| {
        let sum = format!("{}.{} has no node: {}", view.name, unplaced.slot, unplaced.summary);
        let each = unplaced.reasons.iter().filter(|_| unplaced.reasons.len() > 1);
        let each = each.take(REASONS_SHOWN_MAX).map(|reason| format!("  {reason}"));
        std::iter::once(sum).chain(each).collect::<Vec<_>>()
    };
    view.unplaced.iter().flat_map(sentences).collect()
}
