//! What people do to nodes: look at one, label it, drain it, remove it.

use knit_rpc::api::{NodePatch, NodeRemoved, NodeState, NodeView};
use knit_rpc::event::EventKind;
use knit_rpc::id::NodeId;
use knit_rpc::message::Generation;
use knit_rpc::spec::VolumeName;
use knit_runtime::clock;
use knit_server_core::access::Actor;
use knit_server_core::revocation::{self, Revocation};
use knit_server_core::{Node, assignment, status};
use tokio::sync::MutexGuard;

use super::super::{App, AppError, World, bounds};
use crate::store;

impl App {
    /// One node, by its id or its name if no other has it; or a mesh peer that is none.
    pub async fn node(&self, text: &str) -> Result<NodeView, AppError> {
        let world = self.world().await;
        let views = status::nodes(&world.snapshot, &world.verdicts, &world.mesh);
        let views = status::with_asking(views, world.asking.values());
        let wanted = match named(&world, text) {
            Ok(id) => Some(id),
            Err(AppError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let is_it = |view: &NodeView| match &wanted {
            Some(id) => view.id.as_ref() == Some(id),
            // What is no node has no other with its name among the nodes.
            None => view.name == text || view.id.as_ref().is_some_and(|id| id.as_str() == text),
        };
        views.into_iter().find(is_it).ok_or_else(|| AppError::NotFound(no_node(text)))
    }

    /// Changes a node's labels and what it is there for.
    pub async fn patch_node(&self, text: &str, patch: NodePatch) -> Result<NodeView, AppError> {
        let mut world = self.world().await;
        let id = named(&world, text)?;
        let Some(known) = world.snapshot.nodes.get(&id) else {
            return Err(AppError::NotFound(no_node(text)));
        };
        let mut node = known.clone();
        if let Some(availability) = patch.availability {
            node.availability = availability;
        }
        node.label_changes.extend(patch.labels);
        let problems = bounds::label_problems(&node.label_changes);
        if !problems.is_empty() {
            return Err(AppError::Fields { what: "labels", fields: problems });
        }
        if node != *known {
            let mut write = self.store.begin().await?;
            store::nodes::put(&mut write, &node).await?;
            store::commit(write).await?;
            self.tell_node(&world, &node, None);
            world.snapshot.nodes.insert(id, node);
            world.mark_all();
            self.wake_planner.notify_one();
        }
        drop(world);
        self.node(text).await
    }

    /// Removes a node from the cluster. Without `force` it must be silent and empty.
    ///
    /// What ran there is placed elsewhere, and its volumes are given up. Should it still live, the
    /// last thing that it is sent is an empty assignment; then it is cut off from NATS.
    pub async fn remove_node(&self, text: &str, force: bool) -> Result<NodeRemoved, AppError> {
        let world = self.world().await;
        let id = named(&world, text)?;
        let nkey = self.take_out(world, &id, force, None, Generation::default()).await?;
        Ok(self.until_cut_off(&nkey).await)
    }

    /// Removes a node whose removal this server forgot, above the farewell that it holds.
    pub(in super::super) async fn remove_again(
        &self,
        id: &NodeId,
        farewell: Generation,
    ) -> Result<(), AppError> {
        let world = self.world().await;
        self.take_out(world, id, true, None, farewell).await.map(drop)
    }

    /// Takes a node out, above what it is known to hold; with `rejected_by` it is not asked about
    /// again either. Returns its key.
    pub(super) async fn take_out(
        &self,
        mut world: MutexGuard<'_, World>,
        id: &NodeId,
        force: bool,
        rejected_by: Option<&Actor>,
        held: Generation,
    ) -> Result<String, AppError> {
        let text = id.as_str();
        let Some(node) = world.snapshot.nodes.get(id).cloned() else {
            return Err(AppError::NotFound(no_node(text)));
        };
        let volumes = volumes_on(&world, id);
        if !force && let Some(why) = objection(&world, &node, &volumes) {
            return Err(AppError::Conflict(why));
        }
        let now = clock::now();
        let newest = node.generation.max(node.published).max(node.applied).max(held);
        let last = assignment::next(newest, world.snapshot.epoch);
        let revocation = Revocation {
            node: id.clone(),
            until: revocation::second(world.revocations.get(&node.nkey), now),
            at: now,
            last,
            // Who is not heard would not say so either: it asks when it is back.
            taken: !is_heard(&world, id),
        };
        let mut write = self.store.begin().await?;
        store::nodes::remove(&mut write, id, last, now).await?;
        // One that has not registered with this server yet has none that is known.
        let key = Some(&node.nkey).filter(|nkey| !nkey.is_empty());
        if let Some(nkey) = key {
            store::revocations::put(&mut write, nkey, &revocation).await?;
        }
        if let Some(actor) = rejected_by {
            store::joining::reject(&mut write, id, &actor.name, now).await?;
        }
        for name in &volumes {
            store::volumes::remove(&mut write, name).await?;
        }
        store::commit(write).await?;
        tracing::warn!(
            node.id = %id, name = node.name(), volumes = volumes.len(), "a node was removed"
        );
        let snapshot = &mut world.snapshot;
        snapshot.nodes.remove(id);
        snapshot.instances.retain(|instance| instance.node != *id);
        snapshot.observe(id, std::collections::BTreeMap::new(), now);
        snapshot.observed.remove(id);
        snapshot.probes.remove(id);
        snapshot.volumes.retain(|name, _| !volumes.contains(name));
        world.last_reports.remove(id);
        world.removed.insert(id.clone(), last);
        if let Some(nkey) = key {
            world.revocations.insert(nkey.clone(), revocation);
        }
        if rejected_by.is_some() {
            world.rejected.insert(id.clone());
        }
        world.mark_all();
        self.tell_node(&world, &node, Some("removed"));
        drop(world);
        self.wake_planner.notify_one();
        self.wake_publisher.notify_one();
        self.wake_revoker.notify_one();
        Ok(node.nkey)
    }

    fn tell_node(&self, world: &World, node: &Node, state: Option<&str>) {
        let judged = world.verdicts.state(&node.id).map_or("joining", NodeState::as_str);
        let state = state.unwrap_or(judged).to_owned();
        let (node, name) = (node.id.clone(), node.name().to_owned());
        self.feed.tell(clock::now(), EventKind::NodeChanged { node, name, state });
    }
}

/// The node that a text names: by id, or by a name that only one has.
pub(in super::super) fn named(world: &World, text: &str) -> Result<NodeId, AppError> {
    if let Some(id) = NodeId::parse(text).ok().filter(|id| world.snapshot.nodes.contains_key(id)) {
        return Ok(id);
    }
    let nodes = world.snapshot.nodes.values();
    let found: Vec<&NodeId> =
        nodes.filter(|node| node.name() == text).map(|node| &node.id).collect();
    match found.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(AppError::NotFound(no_node(text))),
        several => {
            let ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            Err(AppError::Conflict(format!(
                "{} nodes are named {text}: say which by its id: {}",
                several.len(),
                ids.join(", ")
            )))
        }
    }
}

fn is_heard(world: &World, node: &NodeId) -> bool {
    let state = world.verdicts.state(node);
    matches!(
        state,
        Some(NodeState::Ready | NodeState::NotReady | NodeState::Stale | NodeState::Duplicate)
    )
}

fn no_node(text: &str) -> String {
    format!("there is no node {text}: `knit list nodes` shows them")
}

fn volumes_on(world: &World, node: &NodeId) -> Vec<VolumeName> {
    let volumes = world.snapshot.volumes.iter();
    volumes.filter(|(_, volume)| volume.node == *node).map(|(name, _)| name.clone()).collect()
}

/// What speaks against removing a node, in one sentence.
fn objection(world: &World, node: &Node, volumes: &[VolumeName]) -> Option<String> {
    let mut why = Vec::new();
    if world.verdicts.state(&node.id) == Some(NodeState::Ready) {
        why.push("its agent is at work: stop it first".to_owned());
    }
    let instances = world.snapshot.instances.values().filter(|i| i.node == node.id).count();
    if instances > 0 {
        let noun = if instances == 1 { "instance" } else { "instances" };
        why.push(format!("{instances} {noun} would be placed elsewhere: drain it first"));
    }
    if !volumes.is_empty() {
        let names: Vec<String> = volumes.iter().map(ToString::to_string).collect();
        why.push(format!(
            "the data of {} would be given up, and what uses it would start on empty volumes \
             elsewhere",
            names.join(", ")
        ));
    }
    (!why.is_empty())
        .then(|| format!("node {} is not removed without force: {}", node.name(), why.join("; ")))
}
