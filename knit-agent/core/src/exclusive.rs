//! What two containers must not have at once: a volume that both write to, or one slot's place on
//! the host's own network.
//!
//! The server stops the old one first. This holds even where it did not: a message that was lost,
//! a rollback in the middle, an agent that was away.

use crate::container::Identity;
use crate::desired::{Desired, Wanted};
use crate::observed::{Container, ContainerState};
use crate::volume;

/// Which other container has to end before an instance may start, in a sentence. One that is
/// wanted beside it, and no older one of its slot, is let be.
pub fn waits_for<'a>(
    wanted: &Wanted,
    desired: &Desired,
    ours: impl IntoIterator<Item = &'a (Identity, &'a Container)>,
) -> Option<String> {
    let mounts = volume::of(wanted).into_iter().zip(&wanted.spec.volumes);
    let volumes: Vec<_> =
        mounts.filter(|(_, mount)| !mount.read_only).map(|(volume, _)| volume).collect();
    let on_host = wanted.spec.uses_host_network();
    if volumes.is_empty() && !on_host {
        return None;
    }
    ours.into_iter().find_map(|(other, container)| {
        if other.instance == wanted.assigned.id || !lives(container) {
            return None;
        }
        let same_slot = other.slot() == wanted.slot();
        let is_older = same_slot && other.revision < wanted.assigned.revision;
        if desired.instances.contains_key(&other.instance) && !is_older {
            return None;
        }
        let volume = volumes.iter().find(|name| other.volumes.contains(name));
        let has = match volume {
            Some(volume) => format!("the volume {volume}"),
            None if on_host && same_slot && container.networks.contains("host") => {
                "its place on the host's network".to_owned()
            }
            None => return None,
        };
        let Identity { revision, .. } = other;
        Some(format!("waits for {} at revision {revision} to end, which has {has}", other.slot()))
    })
}

fn lives(container: &Container) -> bool {
    container.state.is_up() || container.state == ContainerState::Removing
}
