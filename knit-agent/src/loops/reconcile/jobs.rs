//! Hands actions to the executor, one job per instance, and notes how each goes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use knit_agent_core::observed::{Log, Step};
use knit_agent_core::probe::Run;
use knit_agent_core::{Action, Desired, Owner};
use knit_rpc::id::InstanceId;

use super::{Reconciler, Wake};
use crate::executor::{Failure, Job, Report};

impl Reconciler {
    /// Notes how a job goes; what there is to do about it.
    pub(super) fn take(&mut self, report: Report) -> Wake {
        match report {
            Report::Step(instance, step) => {
                let before = self.memory.busy.insert(instance, step);
                if before == Some(step) { Wake::Nothing } else { Wake::Step }
            }
            Report::Pulled(instance, progress) => {
                self.memory.pulls.insert(instance, progress);
                Wake::Step
            }
            Report::Answered(question, answer) => {
                let changed = self.memory.probes.answered(&question, answer);
                if changed { Wake::Step } else { Wake::Nothing }
            }
            Report::LastWords(instance, run, lines) => {
                self.awaited_words.remove(&instance);
                self.memory.logs.insert(instance, Log::of(run, &lines));
                Wake::Step
            }
            Report::Tidied { failed } => {
                self.volumes_changed = true;
                self.memory.tidying.done(failed, knit_runtime::clock::now());
                Wake::Read
            }
            Report::Done { instance, actions, failure } => {
                self.finished.push(instance.clone());
                self.memory.pulls.remove(&instance);
                self.volumes_changed |=
                    actions.iter().any(|action| matches!(action, Action::EnsureVolume { .. }));
                let Some(failure) = failure else {
                    let was_stable = self.was_stable(&instance);
                    self.memory.succeeded(&instance, &actions, was_stable);
                    return Wake::Read;
                };
                // It may have been that an image is not there any more.
                self.images.clear();
                let Failure { message, permanent, unreachable } = failure;
                tracing::warn!(instance.id = %instance, permanent, "{message}");
                // A Docker that is away says nothing about what was wrong with the instance.
                let known = self.memory.faults.get(&instance).filter(|_| unreachable);
                let (message, permanent) = known
                    .map_or((message, permanent), |fault| (fault.message.clone(), fault.permanent));
                let now = knit_runtime::clock::now();
                if actions.iter().all(Action::clears) {
                    self.memory.failed_to_go(&instance, message, permanent, now);
                } else {
                    self.memory.failed(&instance, message, permanent, now);
                }
                Wake::Read
            }
        }
    }

    fn was_stable(&self, instance: &InstanceId) -> bool {
        let label = knit_agent_core::container::LABEL_INSTANCE;
        self.containers.iter().flatten().any(|container| {
            container.labels.get(label).map(String::as_str) == Some(instance.as_str())
                && container.was_stable()
        })
    }

    /// Asks what is due to be asked.
    pub(super) fn ask(&mut self) {
        let now = knit_runtime::clock::now();
        for question in self.memory.probes.ask(now) {
            let mut containers = self.containers.iter().flatten();
            let asked = containers.find(|one| one.id == question.run.container);
            let address = asked.and_then(|container| {
                let on_host = container.networks.contains("host");
                if on_host { Some(Ipv4Addr::LOCALHOST) } else { container.address() }
            });
            self.executor.ask(question, address);
        }
        self.asks_at = self.memory.probes.next(now).map(|at| Instant::now() + at.since(now));
    }

    /// Has the last lines read of runs that ended or are about to.
    pub(super) fn gather_last_words(&mut self, due: Vec<(InstanceId, Run)>) {
        for (instance, run) in due {
            if self.awaited_words.insert(instance.clone()) {
                self.executor.last_words(instance, run);
            }
        }
    }

    /// Notes what is in the way, and sorts the rest by instance.
    pub(super) fn jobs(&mut self, actions: Vec<Action>) -> BTreeMap<InstanceId, Vec<Action>> {
        let mut jobs: BTreeMap<InstanceId, Vec<Action>> = BTreeMap::new();
        for action in actions {
            if let Action::Fail { instance, reason } = action {
                tracing::warn!(instance.id = %instance, "{reason}");
                self.memory.blocked(&instance, reason, knit_runtime::clock::now());
            } else if let Some(instance) = action.instance().cloned() {
                jobs.entry(instance).or_default().push(action);
            }
        }
        jobs
    }

    /// Starts to clear away what no instance needs.
    pub(super) fn tidy(&mut self, owner: &Owner, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.memory.tidying.busy = true;
            self.executor.tidy(owner.clone(), actions);
        }
    }

    /// Starts a job per instance and returns at once.
    pub(super) fn carry_out(
        &mut self,
        owner: &Owner,
        desired: &Desired,
        jobs: BTreeMap<InstanceId, Vec<Action>>,
    ) {
        let Some(node) = self.shared.node_context() else { return };
        for (instance, actions) in jobs {
            self.note_given_up(&instance, &actions);
            let wanted = desired.instances.get(&instance).cloned();
            let step = match (&wanted, actions.first()) {
                (None, _) | (Some(_), Some(Action::GiveUp { .. })) => Step::Stopping,
                (Some(_), Some(Action::Pull { .. })) => Step::Pulling,
                (Some(_), _) => Step::Starting,
            };
            self.memory.busy.insert(instance.clone(), step);
            let (owner, node) = (owner.clone(), node.clone());
            self.executor.start(Job { instance, wanted, owner, node, actions });
        }
    }

    fn note_given_up(&mut self, instance: &InstanceId, actions: &[Action]) {
        let now = knit_runtime::clock::now();
        for action in actions {
            let Action::GiveUp { container, why, reason, .. } = action else { continue };
            let mut containers = self.containers.iter().flatten();
            if let Some(found) = containers.find(|one| one.id == *container) {
                self.memory.gives_up(instance, Run::of(found), *why, reason, now);
            }
        }
    }
}
