//! Sends each node its assignment, signed, until the node says that it works on it; and a node that
//! was removed an empty one, once in each life of the server.
//!
//! Invariant: nothing is sent to a node that was not heard in this life of the server, that is
//! being taken in, or that two hosts claim.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use knit_link::bus::Bus;
use knit_rpc::api::NodeState;
use knit_rpc::id::NodeId;
use knit_rpc::message::Generation;
use knit_rpc::signed::{self, Context};
use knit_rpc::subject;
use knit_server_core::Node;
use knit_server_core::assignment::{self, SentAssignment};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppError, World};
use crate::store;

const TICK: Duration = Duration::from_secs(1);
/// How long a node may take to say that it works on what was sent, before it is sent again.
const AGAIN_AFTER: Duration = Duration::from_secs(4);

/// Assignments that are under way at once, at most.
const SENT_AT_ONCE_MAX: usize = 16;

/// What was sent to a node last, and when.
type Sent = BTreeMap<NodeId, (Generation, Instant)>;

/// Publishes until told to stop.
pub async fn run(app: &App, bus: &dyn Bus, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    let mut sent = Sent::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.wake_publisher.notified() => {}
            _ = tick.tick() => {}
        }
        if let Err(error) = step(app, bus, &mut sent).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "an assignment could not be sent; trying again in a second");
        }
    }
}

async fn step(app: &App, bus: &dyn Bus, sent: &mut Sent) -> Result<(), AppError> {
    let (waiting, removed) = {
        let world = app.world().await;
        let now = Instant::now();
        let nodes = world.snapshot.nodes.values();
        let waiting: Vec<NodeId> = nodes
            .filter(|node| is_due(&world, node, sent.get(&node.id), now))
            .map(|node| node.id.clone())
            .collect();
        let untold = |(id, last): &(&NodeId, &Generation)| {
            sent.get(*id).is_none_or(|(generation, _)| generation < *last)
        };
        let removed: Vec<(NodeId, Generation)> =
            world.removed.iter().filter(untold).map(|(id, last)| (id.clone(), *last)).collect();
        (waiting, removed)
    };
    let mut outcomes = stream::iter(waiting)
        .map(|node| async move {
            let written = write_out(app, &node).await?;
            send(bus, node, written).await
        })
        .buffer_unordered(SENT_AT_ONCE_MAX)
        .collect::<Vec<_>>()
        .await;
    for (node, last) in removed {
        let written = (last, app.farewell(&node, last).await?);
        outcomes.push(send(bus, node, Some(written)).await);
    }
    let mut outcome = Ok(());
    for one in outcomes {
        match one {
            Ok(Some((node, generation))) => {
                sent.insert(node, (generation, Instant::now()));
            }
            Ok(None) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

/// Sends what was written out; returns what was sent to whom.
async fn send(
    bus: &dyn Bus,
    node: NodeId,
    written: Option<(Generation, Vec<u8>)>,
) -> Result<Option<(NodeId, Generation)>, AppError> {
    let Some((generation, payload)) = written else { return Ok(None) };
    let bytes = payload.len();
    bus.put(&subject::tasks(&node), payload)
        .await
        .map_err(|error| AppError::Internal(Box::new(error)))?;
    tracing::debug!(node.id = %node, %generation, bytes, "assignment sent");
    Ok(Some((node, generation)))
}

fn is_due(world: &World, node: &Node, sent: Option<&(Generation, Instant)>, now: Instant) -> bool {
    let duplicate = world.verdicts.state(&node.id) == Some(NodeState::Duplicate);
    if node.adopting || duplicate || node.last_beat.is_none() || node.applied >= node.generation {
        return false;
    }
    sent.is_none_or(|(generation, at)| {
        *generation < node.generation || now.duration_since(*at) >= AGAIN_AFTER
    })
}

/// Writes a node's assignment out. That it is about to be sent is stored before it is: a server
/// that dies in between must not take its own word for somebody else's.
async fn write_out(app: &App, id: &NodeId) -> Result<Option<(Generation, Vec<u8>)>, AppError> {
    let mut world = app.world().await;
    let Some(node) = world.snapshot.nodes.get(id).filter(|node| !node.adopting) else {
        return Ok(None);
    };
    let generation = node.generation;
    if node.published < generation {
        let node = Node { published: generation, ..node.clone() };
        let mut write = app.store.begin().await?;
        store::nodes::put(&mut write, &node).await?;
        store::commit(write).await?;
        world.snapshot.nodes.insert(id.clone(), node);
    }
    let mut sent = assignment::of_node(&world.snapshot, id, generation);
    let node = world.snapshot.nodes.get(id).cloned();
    drop(world);
    if let Some(node) = node {
        app.seal_secrets(&mut sent.assignment, &node).await?;
    }
    Ok(Some((generation, sign(app, &sent)?)))
}

fn sign(app: &App, sent: &SentAssignment) -> Result<Vec<u8>, AppError> {
    signed::sign(&app.identity.server, Context::Assignment, sent)
        .map_err(|error| AppError::Internal(Box::new(error)))
}
