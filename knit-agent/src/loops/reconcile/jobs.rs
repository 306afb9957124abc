//! Hands actions to the executor, one job per instance, and notes how each goes.

use std::collections::BTreeMap;

use knit_agent_core::observed::Step;
use knit_agent_core::{Action, Desired, Owner};
use knit_rpc::id::InstanceId;

use super::Reconciler;
use crate::executor::{Failure, Job, Report};

impl Reconciler {
    /// Notes how a job goes; true when it changed something in Docker.
    pub(super) fn take(&mut self, report: Report) -> bool {
        match report {
            Report::Step(instance, step) => {
                self.memory.busy.insert(instance, step);
                false
            }
            Report::Tidied { failed } => {
                self.memory.tidying.done(failed, knit_runtime::clock::now());
                true
            }
            Report::Done { instance, actions, failure } => {
                self.memory.busy.remove(&instance);
                let Some(failure) = failure else {
                    let was_stable = self.was_stable(&instance);
                    self.memory.succeeded(&instance, &actions, was_stable);
                    return true;
                };
                let Failure { message, permanent, unreachable } = failure;
                tracing::warn!(instance.id = %instance, permanent, "{message}");
                // A Docker that is away says nothing about what was wrong with the instance.
                let known = self.memory.faults.get(&instance).filter(|_| unreachable);
                let (message, permanent) = known
                    .map_or((message, permanent), |fault| (fault.message.clone(), fault.permanent));
                self.memory.failed(&instance, message, permanent, knit_runtime::clock::now());
                true
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

    /// Starts a job per instance. What would stop a container waits for the ports to lead away.
    pub(super) fn carry_out(
        &mut self,
        owner: &Owner,
        desired: &Desired,
        actions: Vec<Action>,
        is_published: bool,
    ) {
        let Some(node) = self.shared.node_context() else { return };
        let (tidying, actions): (Vec<Action>, Vec<Action>) =
            actions.into_iter().partition(Action::tidies);
        if !tidying.is_empty() {
            self.memory.tidying.busy = true;
            self.executor.tidy(owner.clone(), tidying);
        }
        let mut jobs: BTreeMap<InstanceId, Vec<Action>> = BTreeMap::new();
        for action in actions {
            if let Action::Fail { instance, reason } = action {
                tracing::warn!(instance.id = %instance, "{reason}");
                self.memory.blocked(&instance, reason, knit_runtime::clock::now());
            } else if let Some(instance) = action.instance().cloned() {
                jobs.entry(instance).or_default().push(action);
            }
        }
        for (instance, actions) in jobs {
            let stops = actions.iter().any(|action| matches!(action, Action::Stop { .. }));
            if stops && !is_published {
                continue;
            }
            let wanted = desired.instances.get(&instance).cloned();
            let step = match (&wanted, actions.first()) {
                (None, _) => Step::Stopping,
                (Some(_), Some(Action::Pull { .. })) => Step::Pulling,
                (Some(_), _) => Step::Starting,
            };
            self.memory.busy.insert(instance.clone(), step);
            let (owner, node) = (owner.clone(), node.clone());
            self.executor.start(Job { instance, wanted, owner, node, actions });
        }
    }
}
