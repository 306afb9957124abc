//! Looks at what changed, decides, stores, wakes the publisher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::NodeState;
use knit_rpc::event::EventKind;
use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::message::Generation;
use knit_runtime::clock;
use knit_server_core::liveness::{self, Verdicts};
use knit_server_core::plan::plan_with;
use knit_server_core::{Node, Plan, assignment, status};
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppError, World};
use crate::store;

/// Rollouts wait for moments to pass, so the clock alone is a reason to look.
const TICK: Duration = Duration::from_millis(250);

/// Plans until told to stop.
pub async fn run(app: &App, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut alive = knit_runtime::notify::Alive::new();
    loop {
        // Who cannot plan is not helped by a new start; who hangs is.
        alive.say();
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.wake_planner.notified() => {}
            _ = tick.tick() => {}
        }
        if let Err(error) = step(app).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "planning failed; trying again in a moment");
        }
    }
}

/// Plans once.
pub async fn step(app: &App) -> Result<(), AppError> {
    let now = clock::now();
    let mut world = app.world().await;
    world.snapshot.note_bus(app.hears(), now);
    judge(app, &mut world, now).await?;
    app.forget_volumes(&mut world, now).await?;
    let plan = plan_with(&world.snapshot, &world.verdicts, world.dirty(), now);
    if !plan.is_empty() {
        carry_out(app, &mut world, &plan, now).await?;
    }
    let changed = world.planned(&plan.unplaced, plan.unsettled);
    tell_unplaced(app, &world, &changed, now);
    purge(app, &mut world).await?;
    app.planned(now);
    Ok(())
}

/// Judges the nodes; a changed judgement is told, and lost ones are remembered as lost.
async fn judge(app: &App, world: &mut World, now: Timestamp) -> Result<(), AppError> {
    let verdicts = liveness::judge(&world.snapshot, now);
    if verdicts.frozen.is_some() && world.verdicts.frozen.is_none() {
        tracing::error!("{}", verdicts.frozen.as_deref().unwrap_or_default());
    }
    let changed: Vec<NodeId> = verdicts
        .nodes
        .iter()
        .filter(|(id, verdict)| world.verdicts.state(id) != Some(verdict.state))
        .map(|(id, _)| id.clone())
        .collect();
    if changed.is_empty() {
        world.verdicts = verdicts;
        return Ok(());
    }
    let newly_lost: Vec<Node> = changed
        .iter()
        .filter(|id| verdicts.state(id) == Some(NodeState::Lost))
        .filter_map(|id| world.snapshot.nodes.get(id))
        .filter(|node| !node.lost)
        .map(|node| Node { lost: true, ..node.clone() })
        .collect();
    if !newly_lost.is_empty() {
        let mut write = app.store.begin().await?;
        for node in &newly_lost {
            store::nodes::put(&mut write, node).await?;
        }
        store::commit(write).await?;
        for node in newly_lost {
            world.snapshot.nodes.insert(node.id.clone(), node);
        }
    }
    for id in changed {
        tell_node(app, world, &verdicts, id, now);
    }
    world.verdicts = verdicts;
    world.mark_all();
    Ok(())
}

fn tell_node(app: &App, world: &World, verdicts: &Verdicts, id: NodeId, now: Timestamp) {
    let (Some(node), Some(verdict)) = (world.snapshot.nodes.get(&id), verdicts.nodes.get(&id))
    else {
        return;
    };
    let state = verdict.state.as_str();
    let why = verdict.message.as_deref().unwrap_or_default();
    tracing::info!(node.id = %id, name = node.name(), state, why, "a node's state changed");
    let name = node.name().to_owned();
    app.feed.tell(now, EventKind::NodeChanged { node: id, name, state: state.to_owned() });
}

/// Stores the plan, then has the snapshot carry it.
async fn carry_out(
    app: &App,
    world: &mut World,
    plan: &Plan,
    now: Timestamp,
) -> Result<(), AppError> {
    store_plan(app, world, plan).await?;
    for (id, after) in &plan.deployments {
        app.tell_deployment(world.snapshot.deployments.get(id), after, now);
        world.put(after.clone());
    }
    plan.apply(&mut world.snapshot);
    for id in plan.generations.keys() {
        if let Some(node) = world.snapshot.nodes.get_mut(id) {
            node.published = published(node, node.generation);
        }
    }
    tracing::info!(
        created = plan.created.len(),
        removed = plan.removed.len(),
        deployments = plan.deployments.len(),
        nodes = plan.generations.len(),
        "planned"
    );
    app.wake_publisher.notify_one();
    Ok(())
}

async fn store_plan(app: &App, world: &World, plan: &Plan) -> Result<(), AppError> {
    let mut write = app.store.begin().await?;
    for deployment in plan.deployments.values() {
        store::deployments::put(&mut write, deployment).await?;
    }
    for id in &plan.removed {
        store::deployments::remove_instance(&mut write, id).await?;
    }
    for instance in &plan.created {
        store::deployments::put_instance(&mut write, instance).await?;
    }
    for (name, volume) in &plan.volumes {
        store::volumes::put(&mut write, name, volume).await?;
    }
    for (id, generation) in &plan.generations {
        if let Some(node) = world.snapshot.nodes.get(id) {
            let published = published(node, *generation);
            let node = Node { generation: *generation, published, ..node.clone() };
            store::nodes::put(&mut write, &node).await?;
        }
    }
    store::commit(write).await?;
    Ok(())
}

/// What is decided counts as sent in the same write, so that sending it waits for no other: what a
/// generation holds does not change any more. Not so while a node is taken in: then what was sent
/// is what tells whether something was forgotten.
fn published(node: &Node, generation: Generation) -> Generation {
    if node.adopting { node.published } else { generation }
}

/// Tells who watches that a deployment's slots got or lost their place.
fn tell_unplaced(app: &App, world: &World, changed: &BTreeSet<DeploymentId>, now: Timestamp) {
    for id in changed {
        let deployment = world.snapshot.deployments.get(id);
        if let Some(deployment) = deployment.filter(|deployment| deployment.removed_at.is_none()) {
            app.tell_changed(deployment, now);
        }
    }
}

/// Forgets removed deployments of which nothing is left.
async fn purge(app: &App, world: &mut World) -> Result<(), AppError> {
    let gone: BTreeMap<DeploymentId, Timestamp> = world
        .snapshot
        .deployments
        .values()
        .filter_map(|deployment| Some((deployment.id.clone(), deployment.removed_at?)))
        .filter(|(id, _)| !status::is_left(&world.snapshot, &world.verdicts, id))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let now = clock::now();
    let mut removed = world.snapshot.removed.clone();
    removed.extend(gone.clone());
    let outlived = assignment::outlived(&removed, now);
    let mut write = app.store.begin().await?;
    for (id, removed_at) in &gone {
        store::deployments::purge(&mut write, id, *removed_at).await?;
    }
    for id in &outlived {
        store::deployments::forget_removed(&mut write, id).await?;
    }
    store::commit(write).await?;
    removed.retain(|id, _| !outlived.contains(id));
    world.snapshot.removed = removed;
    for id in gone.into_keys() {
        if let Some(deployment) = world.snapshot.deployments.remove(&id) {
            let (project, deployment) = (deployment.spec.project, deployment.spec.name);
            app.feed.tell(now, EventKind::DeploymentRemoved { project, deployment });
        }
    }
    world.forget_specs();
    Ok(())
}
