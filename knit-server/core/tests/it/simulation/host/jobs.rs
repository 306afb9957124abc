//! The executor: actions of one instance in order, instances side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use knit_agent_core::memory::Step;
use knit_agent_core::probe::Run;
use knit_agent_core::{Action, Desired, Wanted, container, volume};
use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;

use super::Host;
use super::agent::{Agent, Wake};
use crate::simulation::engine::Refusal;
use crate::simulation::image::Kind;
use crate::simulation::rng::Rng;

/// What is being done for one instance.
#[derive(Debug)]
pub(super) struct Job {
    instance: InstanceId,
    /// None when it is to go.
    wanted: Option<Wanted>,
    actions: Vec<Action>,
    /// The action that is under way.
    at: usize,
    ends: Timestamp,
}

impl Agent {
    /// Begins a job per instance.
    pub(super) fn begin(
        &mut self,
        host: &mut Host,
        desired: &Desired,
        actions: Vec<Action>,
        now: Timestamp,
        rng: &mut Rng,
    ) {
        let mut jobs: BTreeMap<InstanceId, Vec<Action>> = BTreeMap::new();
        let (tidying, actions): (Vec<_>, Vec<_>) = actions.into_iter().partition(Action::tidies);
        for action in tidying {
            if let Action::RemoveVolume(volume) = action {
                host.engine.volumes.remove(&volume);
            }
        }
        for action in actions {
            if let Action::Fail { instance, reason } = action {
                self.memory.blocked(&instance, reason, now);
            } else if let Some(instance) = action.instance().cloned() {
                jobs.entry(instance).or_default().push(action);
            }
        }
        for (instance, actions) in jobs {
            self.note_given_up(&instance, &actions, now);
            let wanted = desired.instances.get(&instance).cloned();
            let step = match (&wanted, actions.first()) {
                (None, _) | (Some(_), Some(Action::GiveUp { .. })) => Step::Stopping,
                (Some(_), Some(Action::Pull { .. })) => Step::Pulling,
                (Some(_), _) => Step::Starting,
            };
            self.memory.busy.insert(instance.clone(), step);
            let ends = now.plus(actions.first().map_or(Duration::ZERO, |one| takes(one, rng)));
            self.jobs.push(Job { instance, wanted, actions, at: 0, ends });
        }
    }

    /// Takes every job as far as it comes by `now`.
    pub(super) fn work(&mut self, host: &mut Host, now: Timestamp, rng: &mut Rng) {
        for mut job in std::mem::take(&mut self.jobs) {
            if job.is_overtaken(host) {
                // Nobody knows whether what was asked of the engine is still done.
                if rng.chance(50) {
                    let _ = job.act(host, now, rng);
                }
                self.done(&job, None, now);
                continue;
            }
            let outcome = job.go_on(host, now, rng);
            match outcome {
                Ok(false) => self.jobs.push(job),
                Ok(true) => self.done(&job, None, now),
                Err(refusal) => self.done(&job, Some(refusal), now),
            }
        }
    }

    fn done(&mut self, job: &Job, refusal: Option<Refusal>, now: Timestamp) {
        self.wake(Wake::Read);
        self.memory.busy.remove(&job.instance);
        let Some(refusal) = refusal else {
            let was_stable = self.was_stable(&job.instance);
            self.memory.succeeded(&job.instance, &job.actions, was_stable);
            return;
        };
        let known = self.memory.faults.get(&job.instance).filter(|_| refusal.unreachable);
        let (message, permanent) = known.map_or((refusal.message, refusal.permanent), |fault| {
            (fault.message.clone(), fault.permanent)
        });
        if job.actions.iter().all(Action::clears) {
            self.memory.failed_to_go(&job.instance, message, permanent, now);
        } else {
            self.memory.failed(&job.instance, message, permanent, now);
        }
    }

    fn note_given_up(&mut self, instance: &InstanceId, actions: &[Action], now: Timestamp) {
        for action in actions {
            let Action::GiveUp { container, why, reason, .. } = action else { continue };
            let mut containers = self.containers.iter().flatten();
            if let Some(found) = containers.find(|one| one.id == *container) {
                self.memory.gives_up(instance, Run::of(found), *why, reason, now);
            }
        }
    }

    fn was_stable(&self, instance: &InstanceId) -> bool {
        self.containers.iter().flatten().any(|one| {
            one.labels.get(container::LABEL_INSTANCE).map(String::as_str) == Some(instance.as_str())
                && one.was_stable()
        })
    }
}

impl Job {
    fn is_overtaken(&self, host: &Host) -> bool {
        let is_wanted = |id: &InstanceId| {
            host.disk.iter().flat_map(|held| &held.instances).any(|one| one.id == *id)
        };
        self.wanted.is_some() && !is_wanted(&self.instance)
    }

    /// True when all is done.
    fn go_on(&mut self, host: &mut Host, now: Timestamp, rng: &mut Rng) -> Result<bool, Refusal> {
        while self.ends <= now {
            if host.engine_fails(rng) {
                return Err(Refusal::passing("the engine stumbled"));
            }
            self.act(host, now, rng)?;
            self.at += 1;
            let Some(next) = self.actions.get(self.at) else { return Ok(true) };
            self.ends = self.ends.plus(takes(next, rng));
        }
        Ok(false)
    }

    fn act(&self, host: &mut Host, now: Timestamp, rng: &mut Rng) -> Result<(), Refusal> {
        host.note(self.actions.get(self.at));
        let engine = &mut host.engine;
        match (self.actions.get(self.at), &self.wanted) {
            (Some(Action::Pull { image, .. }), _) => engine.pull(image),
            (Some(Action::EnsureVolume { .. }), Some(wanted)) => {
                engine.answers()?;
                engine.volumes.extend(volume::of(wanted));
                Ok(())
            }
            (Some(Action::Create { .. }), Some(wanted)) => {
                engine.create(&container::plan(&host.owner, wanted, Path::new("/files")))
            }
            (Some(Action::Start { container, .. }), _) => {
                engine.start(container, Duration::from_millis(250 * rng.below(6)), now)
            }
            (Some(Action::Stop { container, .. } | Action::GiveUp { container, .. }), _) => {
                engine.stop(container, now)
            }
            (Some(Action::Remove { container, .. }), _) => engine.remove(container),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

impl Host {
    /// Takes note of what is done, and of what should not be.
    fn note(&mut self, action: Option<&Action>) {
        match action {
            Some(Action::Start { container, .. }) => self.started.push(container.clone()),
            Some(Action::Stop { container, .. } | Action::GiveUp { container, .. }) => {
                let found = self.engine.containers().iter().find(|one| one.id == *container);
                let address = found.and_then(knit_agent_core::Container::address);
                let leads = self.rules.iter().find(|(_, target)| Some(target.address) == address);
                if let Some((key, _)) = leads.filter(|_| self.engine.up) {
                    let wrong =
                        format!("{} stops {container} while {key:?} leads to it", self.name);
                    self.wrongs.push(wrong);
                }
            }
            Some(_) | None => {}
        }
    }
}

/// How long the engine needs for it.
fn takes(action: &Action, rng: &mut Rng) -> Duration {
    let ticks = match action {
        Action::Pull { image, .. } if Kind::of(image) == Kind::Slow => rng.between(10, 40),
        Action::Pull { .. } => rng.between(1, 6),
        Action::Create { .. } | Action::Start { .. } | Action::Remove { .. } => rng.below(2),
        Action::Stop { .. } | Action::GiveUp { .. } => rng.below(5),
        Action::Publish(_)
        | Action::WriteFiles { .. }
        | Action::RefreshSecrets { .. }
        | Action::RemoveFiles { .. }
        | Action::EnsureNetwork { .. }
        | Action::EnsureVolume { .. }
        | Action::RemoveNetwork(_)
        | Action::RemoveVolume(_)
        | Action::Fail { .. } => 0,
    };
    Duration::from_millis(250 * ticks)
}
