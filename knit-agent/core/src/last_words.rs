//! Whose last log lines are worth keeping.

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;

use crate::container::Identity;
use crate::desired::Desired;
use crate::health::{self, Verdict};
use crate::observed::{Container, ContainerState, Observed};
use crate::probe::Run;

/// Runs of wanted instances that ended, or are about to be ended, and whose last lines are not
/// known yet.
pub fn due(
    desired: &Desired,
    ours: &[(Identity, &Container)],
    observed: &Observed,
    now: Timestamp,
) -> Vec<(InstanceId, Run)> {
    let ended = ours.iter().filter_map(|(identity, container)| {
        let id = &identity.instance;
        let wanted = desired.instances.get(id)?;
        let run = Run::of(container);
        let is_known = observed.memory.logs.get(id).is_some_and(|log| log.run == run);
        let is_over = match container.state {
            ContainerState::Exited => true,
            ContainerState::Running => matches!(
                health::verdict(id, wanted, container, &observed.memory, now),
                Verdict::Late(_) | Verdict::Dead(_)
            ),
            ContainerState::Created
            | ContainerState::Paused
            | ContainerState::Removing
            | ContainerState::Dead => false,
        };
        (is_over && !is_known).then(|| (id.clone(), run))
    });
    ended.collect()
}
