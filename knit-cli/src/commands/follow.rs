//! Follows one revision from accepted to the end of its rollout, and tells each change once.
//!
//! The server drives the rollout: following reads, and stops reading without consequence.

mod outcome;
mod tell;

use std::time::{Duration, Instant};

use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::{Cause, DeploymentState, DeploymentView, RolloutState, RolloutView};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::message::Phase;
use knit_runtime::terminal::eprintln;
use tokio::signal::unix::Signal;

pub(super) use outcome::Outcome;
use tell::Teller;

use super::show::instance_name;

/// The server is asked anew at the latest after this.
const POLL: Duration = Duration::from_millis(150);
/// How long a slot must be without a place before we give up: nodes may be just joining.
const UNPLACED_PATIENCE: Duration = Duration::from_secs(5);

/// How long everything must run before a first revision counts as running: its rollout goes on to
/// watch it for `bake`, but there is nothing to go back to.
const FIRST_SETTLES: Duration = Duration::from_secs(1);

/// A revision that is being followed.
pub(super) struct Followed {
    client: ApiClient,
    project: ProjectName,
    name: DeploymentName,
    revision: u64,
    teller: Teller,
    unplaced_since: Option<Instant>,
    runs_since: Option<Instant>,
    silent: bool,
}

impl Followed {
    pub(super) fn new(
        client: ApiClient,
        project: ProjectName,
        name: DeploymentName,
        revision: u64,
    ) -> Self {
        Self {
            client,
            project,
            name,
            revision,
            teller: Teller::default(),
            unplaced_since: None,
            runs_since: None,
            silent: false,
        }
    }

    /// Waits until the rollout has ended or waits for somebody, until time is over, or until the
    /// user interrupts; says how it ended.
    pub(super) async fn wait(
        mut self,
        timeout: Duration,
        interrupt: &mut Signal,
    ) -> Result<Outcome, HttpError> {
        let name = self.name.to_string();
        let outcome = tokio::select! {
            outcome = self.watch(timeout) => outcome?,
            _ = interrupt.recv() => Outcome::Interrupted,
        };
        eprintln(&outcome.describe(&name));
        Ok(outcome)
    }

    async fn watch(&mut self, timeout: Duration) -> Result<Outcome, HttpError> {
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
        let view = self.client.deployment(&self.project, &self.name).await;
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
        self.teller.tell(&view, self.revision);
        let judgement = judge(&view, self.revision);
        let lasts = |since: &mut Option<Instant>, still: bool, patience: Duration| {
            *since = still.then(|| since.unwrap_or_else(Instant::now));
            since.is_some_and(|since| since.elapsed() >= patience)
        };
        let unplaced = judgement == Judgement::NoPlace;
        let unplaced = lasts(&mut self.unplaced_since, unplaced, UNPLACED_PATIENCE);
        let settles = FIRST_SETTLES.min(view.spec.update.bake.duration());
        let runs = lasts(&mut self.runs_since, judgement == Judgement::FirstRuns, settles);
        Ok(match judgement {
            Judgement::Over(outcome) => Some(outcome),
            Judgement::NoPlace if unplaced => {
                Some(Outcome::Impossible(outcome::places_missing(&view), Vec::new()))
            }
            Judgement::FirstRuns if runs => Some(Outcome::Running(view.replicas)),
            Judgement::Waiting | Judgement::NoPlace | Judgement::FirstRuns => None,
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Over(Outcome),
    Waiting,
    /// All that is missing is a node for a slot.
    NoPlace,
    /// Everything runs, and there is nothing that the server would go back to.
    FirstRuns,
}

/// Where the revision stands that we follow.
fn judge(view: &DeploymentView, revision: u64) -> Judgement {
    let over = Judgement::Over;
    if view.state == DeploymentState::Removing && view.rollout.is_none() {
        return over(Outcome::Removed);
    }
    match &view.rollout {
        Some(rollout) if rollout.revision == revision => own(view, rollout),
        Some(rollout) => way_back(rollout, revision)
            .unwrap_or_else(|| over(Outcome::Superseded(rollout.revision))),
        None if view.revision > revision => over(Outcome::Superseded(view.revision)),
        None => ended(view),
    }
}

/// The rollout of the revision itself.
fn own(view: &DeploymentView, rollout: &RolloutView) -> Judgement {
    let message = || rollout.message.clone().unwrap_or_default();
    match rollout.state {
        RolloutState::Running if only_places_missing(view) => Judgement::NoPlace,
        RolloutState::Running if rollout.from.is_some() => Judgement::Waiting,
        RolloutState::Running if view.state == DeploymentState::Running => Judgement::FirstRuns,
        RolloutState::Running => Judgement::Waiting,
        RolloutState::Paused => Judgement::Over(Outcome::Paused(message(), rollout.log.clone())),
        RolloutState::Succeeded => ended(view),
        RolloutState::RolledBack => Judgement::Over(match rollout.cause {
            // Followed from its beginning: somebody asked for it.
            Cause::Rollback { to, .. } => Outcome::WentBack(to),
            Cause::Deploy | Cause::Scale | Cause::Restart | Cause::Secret { .. } => {
                Outcome::RolledBack(rollout.from, message(), rollout.log.clone())
            }
        }),
        RolloutState::Failed => {
            Judgement::Over(Outcome::Impossible(vec![message()], rollout.log.clone()))
        }
        RolloutState::Superseded => Judgement::Over(Outcome::Superseded(view.revision)),
    }
}

/// Whether nothing else is on its way that could still make room or come right.
fn only_places_missing(view: &DeploymentView) -> bool {
    let is_first = view.rollout.as_ref().is_some_and(|rollout| rollout.from.is_none());
    let missing = u32::try_from(view.unplaced.len()).unwrap_or(u32::MAX);
    missing > 0 && (is_first || view.running.saturating_add(missing) >= view.replicas)
}

/// The rollout that leads back from the revision, if this is it.
fn way_back(rollout: &RolloutView, revision: u64) -> Option<Judgement> {
    let to = match rollout.cause {
        Cause::Rollback { to, of, automatic: true } if of == revision => to,
        Cause::Rollback { .. }
        | Cause::Deploy
        | Cause::Scale
        | Cause::Restart
        | Cause::Secret { .. } => return None,
    };
    let message = rollout.message.clone().unwrap_or_default();
    let log = rollout.log.clone();
    Some(match rollout.state {
        RolloutState::Running => Judgement::Waiting,
        RolloutState::RolledBack | RolloutState::Succeeded => {
            Judgement::Over(Outcome::RolledBack(Some(to), message, log))
        }
        RolloutState::Failed | RolloutState::Superseded | RolloutState::Paused => {
            let also = format!("going back to revision {to} did not end well either: {message}");
            Judgement::Over(Outcome::Impossible(vec![also], log))
        }
    })
}

/// No rollout is under way: what is there runs, cannot run, or is being started.
fn ended(view: &DeploymentView) -> Judgement {
    let broken = |phase: Phase| matches!(phase, Phase::Failed | Phase::CrashLoop);
    let failed = view
        .instances
        .iter()
        .filter(|one| one.wanted && one.revision == view.revision && broken(one.phase));
    let (mut reasons, mut log) = (Vec::new(), Vec::new());
    for instance in failed {
        let why = instance.message.as_deref().unwrap_or(instance.phase.as_str());
        reasons.push(format!("{} on {}: {why}", instance_name(instance), instance.node_name));
        log.clone_from(&instance.log);
    }
    if !reasons.is_empty() {
        Judgement::Over(Outcome::Impossible(reasons, log))
    } else if view.running >= view.replicas && view.unplaced.is_empty() {
        Judgement::Over(Outcome::Running(view.replicas))
    } else if view.unplaced.is_empty() {
        Judgement::Waiting
    } else {
        Judgement::NoPlace
    }
}

#[cfg(test)]
mod tests;
