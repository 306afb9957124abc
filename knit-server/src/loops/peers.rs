//! Asks peers about nodes that fell silent; their answers come with their next heartbeats.

use std::time::Duration;

use knit_link::bus::Bus;
use knit_rpc::id::NodeId;
use knit_rpc::message::{ProbeRequest, ReportIn};
use knit_rpc::subject;
use knit_runtime::clock;
use knit_server_core::liveness::probes;
use tokio_util::sync::CancellationToken;

use crate::app::{App, World};

const TICK: Duration = Duration::from_millis(250);

/// Asks until told to stop.
pub async fn run(app: &App, bus: &dyn Bus, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let Some(question) = next(app).await else { continue };
        tracing::debug!(nodes = question.targets.len(), peers = question.by.len(), "asking peers");
        let call =
            ReportIn { cluster: app.identity.cluster.clone(), held: false, probe: Some(question) };
        let Ok(payload) = serde_json::to_vec(&call) else { continue };
        if let Err(error) = bus.publish(subject::BROADCAST, payload).await {
            tracing::debug!(%error, "peers could not be asked");
        }
    }
}

/// The question that is due, noted as asked: an answer may be faster than this loop.
async fn next(app: &App) -> Option<ProbeRequest> {
    let now = clock::now();
    let mut world = app.world().await;
    let own = own_node(&world);
    let question = probes::question(&world.snapshot, own.as_ref(), now)?;
    probes::asked(&mut world.snapshot, &question, now);
    Some(question)
}

/// The node on this server's own host.
fn own_node(world: &World) -> Option<NodeId> {
    let is_own = |ip| world.mesh.own_ip.is_some() && ip == world.mesh.own_ip;
    let mut nodes = world.snapshot.nodes.values();
    nodes.find(|node| is_own(node.mesh_ip())).map(|node| node.id.clone())
}
