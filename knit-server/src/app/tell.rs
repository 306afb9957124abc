//! What of a change is told to whoever watches.

use knit_rpc::Timestamp;
use knit_rpc::api::RolloutState;
use knit_rpc::event::EventKind;
use knit_server_core::Deployment;

use super::App;

impl App {
    /// Tells what became of a deployment and of its rollouts.
    pub(crate) fn tell_deployment(
        &self,
        before: Option<&Deployment>,
        after: &Deployment,
        now: Timestamp,
    ) {
        let changed =
            before.is_none_or(|b| b.revision != after.revision || b.stopped != after.stopped);
        if changed {
            self.tell_changed(after, now);
        }
        for (revision, state, message) in rollouts(before, after) {
            tracing::info!(
                deployment.name = %after.spec.name,
                deployment.revision = revision,
                state = state.as_str(),
                why = message.as_deref().unwrap_or_default(),
                "a rollout changed"
            );
            self.feed.tell(
                now,
                EventKind::RolloutChanged {
                    project: after.spec.project.clone(),
                    deployment: after.spec.name.clone(),
                    revision,
                    state: state.as_str().to_owned(),
                    message,
                },
            );
        }
    }

    /// Tells that there is something new about a deployment.
    pub(crate) fn tell_changed(&self, deployment: &Deployment, now: Timestamp) {
        self.feed.tell(
            now,
            EventKind::DeploymentChanged {
                project: deployment.spec.project.clone(),
                deployment: deployment.spec.name.clone(),
                revision: deployment.revision,
            },
        );
    }
}

/// The rollouts that stand elsewhere than before, the oldest first.
fn rollouts(
    before: Option<&Deployment>,
    after: &Deployment,
) -> Vec<(u64, RolloutState, Option<String>)> {
    let changed = after.revisions.keys().filter_map(|revision| {
        let (state, message) = standing(after, *revision)?;
        let was = before.and_then(|before| standing(before, *revision));
        let same = was.is_some_and(|(was, _)| was == state);
        (!same).then_some((*revision, state, message))
    });
    changed.collect()
}

/// Where the rollout to a revision stands, and why.
fn standing(deployment: &Deployment, revision: u64) -> Option<(RolloutState, Option<String>)> {
    let remembered = deployment.revisions.get(&revision)?;
    match &deployment.rollout {
        Some(rollout) if rollout.revision == revision => {
            let state = if rollout.paused { RolloutState::Paused } else { RolloutState::Running };
            Some((state, rollout.message.clone()))
        }
        Some(_) | None => Some((remembered.state, remembered.message.clone())),
    }
}

#[cfg(test)]
mod tests {
    use knit_rpc::api::Cause;
    use knit_rpc::id::{DeploymentId, DeploymentName};
    use knit_rpc::spec::{DeploymentSpec, InstanceSpec};
    use knit_server_core::revise;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1);

    fn spec(image: &str) -> DeploymentSpec {
        let instance = InstanceSpec { image: image.to_owned(), ..InstanceSpec::default() };
        DeploymentSpec::new(DeploymentName::parse("web").unwrap(), instance)
    }

    fn told(before: Option<&Deployment>, after: &Deployment) -> Vec<String> {
        let all = rollouts(before, after).into_iter();
        all.map(|(revision, state, message)| {
            format!("{revision} {} {}", state.as_str(), message.unwrap_or_default())
        })
        .collect()
    }

    #[test]
    fn each_rollouts_new_standing_is_told_once() {
        let first = revise::first(DeploymentId::from_bytes([1; 16]), spec("v1"), NOW);
        assert_eq!(told(None, &first), ["1 running "]);
        let second = revise::next(&first, spec("v2"), Cause::Deploy, NOW);
        assert_eq!(told(Some(&first), &second), ["1 superseded ", "2 running "]);
        let paused = revise::pause(&second).unwrap();
        assert_eq!(told(Some(&second), &paused), ["2 paused paused by a person"]);
        assert_eq!(told(Some(&paused), &paused), [""; 0]);
        let resumed = revise::resume(&paused, NOW).unwrap();
        assert_eq!(told(Some(&paused), &resumed), ["2 running "]);
    }
}
