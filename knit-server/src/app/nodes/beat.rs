//! Heartbeats: that a node lives, what it says of itself and of its peers.

use std::collections::BTreeSet;

use knit_rpc::Timestamp;
use knit_rpc::id::NodeId;
use knit_rpc::message::{Heartbeat, NodeFacts, Usage};
use knit_rpc::spec::VolumeName;
use knit_runtime::clock;
use knit_server_core::liveness::{Life, probes};
use knit_server_core::snapshot::Volume;
use knit_server_core::{Node, Snapshot, adoption};

use super::super::{App, AppError, World, bounds};
use super::{lowest_free, note_life, notice_forgotten, put};
use crate::store;

impl App {
    /// Takes note of a heartbeat. The sender is the node that NATS let speak on the subject.
    pub async fn beat(&self, sender: &NodeId, beat: Heartbeat) -> Result<(), AppError> {
        let now = clock::now();
        let mut world = self.world().await;
        self.check_beat(&mut world, sender, &beat)?;
        if !adoption::is_believable(world.snapshot.epoch, beat.applied) {
            tracing::warn!(
                node.id = %sender,
                applied = %beat.applied,
                epoch = world.snapshot.epoch,
                "a heartbeat tells of an epoch that no server of this cluster was in: ignored"
            );
            return Ok(());
        }
        let known = world.snapshot.nodes.get(sender).cloned();
        let is_new = known.is_none();
        // A node that holds a token of ours and no row here: the server forgot it.
        let mut node = known.unwrap_or_else(|| {
            let mut node = Node::new(sender.clone(), String::new());
            node.number = lowest_free(&world.snapshot);
            node
        });
        let first = node.last_beat.is_none();
        let was = (node.lost, node.adopting, node.rebooted_at);
        let life = Life { boot: bounds::cut_word(&beat.boot), agent_start: beat.agent_start };
        note_life(self, &mut node, life, now);
        node.last_beat = Some(now);
        node.applied = beat.applied;
        node.inventory = bounds::cut_word(&beat.inventory);
        node.lost = false;
        let mut change = FactsChange::default();
        if let Some(facts) = beat.facts {
            let facts = bounds::bounded(facts, &node.facts);
            change = FactsChange::between(&node.facts, &facts);
            node.facts = facts;
        }
        let volumes = unknown_volumes(&world.snapshot, &node);
        let epoch = notice_forgotten(&world.snapshot, &mut node, beat.applied);
        let is = (node.lost, node.adopting, node.rebooted_at);
        let replan =
            is_new || was != is || change.placing || epoch.is_some() || !volumes.is_empty();
        if replan || change.stored {
            self.store_beat(&node, epoch, &volumes, now).await?;
        }
        if replan {
            world.mark_all();
        }
        let (behind, adopting) = (node.applied < node.generation, node.adopting);
        for name in volumes {
            world.projects.entry(name.project.clone()).or_insert(now);
            world.snapshot.volumes.insert(name, volume_on(sender, now));
        }
        let answered = probes::answer(&mut world.snapshot, sender, &beat.probed, now);
        world.snapshot.epoch = epoch.unwrap_or(world.snapshot.epoch);
        world.snapshot.first_beat.get_or_insert(now);
        world.snapshot.nodes.insert(sender.clone(), node);
        drop(world);
        if replan || first || answered {
            self.wake_planner.notify_one();
        }
        if behind {
            self.wake_publisher.notify_one();
        }
        if replan && adopting {
            self.wake_roll_call.notify_one();
        }
        Ok(())
    }

    fn check_beat(
        &self,
        world: &mut World,
        sender: &NodeId,
        beat: &Heartbeat,
    ) -> Result<(), AppError> {
        if beat.cluster != self.identity.cluster || beat.node != *sender {
            return Err(AppError::Refused(format!(
                "a heartbeat of node {} in cluster {} came from node {sender}",
                beat.node, beat.cluster
            )));
        }
        if let Some(last) = world.removed.get(sender).copied() {
            if beat.applied >= last {
                self.note_farewell(world, sender);
            }
            return Err(AppError::Refused(format!(
                "node {sender} was removed and has not registered again"
            )));
        }
        Ok(())
    }

    async fn store_beat(
        &self,
        node: &Node,
        epoch: Option<u64>,
        volumes: &BTreeSet<VolumeName>,
        now: Timestamp,
    ) -> Result<(), AppError> {
        let mut write = self.store.begin().await?;
        put(&mut write, node, epoch).await?;
        for name in volumes {
            store::projects::put(&mut write, &name.project, now).await?;
            store::volumes::put(&mut write, name, &volume_on(&node.id, now)).await?;
        }
        store::commit(write).await?;
        Ok(())
    }
}

/// Volumes that the node has and this server does not know of: it forgot them. Without their rows
/// their slots would start on empty ones elsewhere.
fn unknown_volumes(snapshot: &Snapshot, node: &Node) -> BTreeSet<VolumeName> {
    let there = node.facts.volumes.iter();
    there.filter(|name| !snapshot.volumes.contains_key(name)).cloned().collect()
}

fn volume_on(node: &NodeId, now: Timestamp) -> Volume {
    Volume { node: node.clone(), created_at: now, removing: false }
}

/// What of the facts is another than before.
#[derive(Debug, Clone, Copy, Default)]
struct FactsChange {
    /// Something that is written to the store. What a node uses changes all the time and is told
    /// again after a restart.
    stored: bool,
    /// Something that may change what can be placed. Not so the images that are there: they decide
    /// between nodes that are free, and keep nothing waiting. Whom a node hears is for judging.
    placing: bool,
}

impl FactsChange {
    fn between(before: &NodeFacts, after: &NodeFacts) -> Self {
        let lasting = |facts: &NodeFacts| NodeFacts { usage: Usage::default(), ..facts.clone() };
        let placing = |facts: &NodeFacts| NodeFacts {
            images: BTreeSet::new(),
            unheard: BTreeSet::new(),
            ..lasting(facts)
        };
        Self {
            stored: lasting(before) != lasting(after),
            placing: placing(before) != placing(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lasts_is_stored_and_only_what_places_is_planned() {
        let before = NodeFacts { memory: 8, ..NodeFacts::default() };
        let usage = Usage { cpu_percent: 10, ..Usage::default() };
        for (after, stored, placing) in [
            (before.clone(), false, false),
            (NodeFacts { usage, ..before.clone() }, false, false),
            (NodeFacts { images: ["a".to_owned()].into(), ..before.clone() }, true, false),
            (NodeFacts { unheard: ["key".to_owned()].into(), ..before.clone() }, true, false),
            (NodeFacts { docker: Some("20".to_owned()), ..before.clone() }, true, true),
            (NodeFacts { memory: 16, usage, ..before.clone() }, true, true),
        ] {
            let change = FactsChange::between(&before, &after);
            assert_eq!((change.stored, change.placing), (stored, placing), "{after:?}");
        }
    }
}
