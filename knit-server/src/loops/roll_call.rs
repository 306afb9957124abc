//! Asks every agent to report in: at the start of the bus, when asked to, and again and again
//! while a node has to show what it holds, or beats without having said what it is.

use std::time::Duration;

use knit_link::bus::Bus;
use knit_rpc::message::ReportIn;
use knit_rpc::subject;
use knit_server_core::Node;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Agents answer jittered over 5 s.
const PATIENCE: Duration = Duration::from_secs(6);

/// Calls until told to stop.
pub async fn run(app: &App, bus: &dyn Bus, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PATIENCE);
    loop {
        let mut asked = false;
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.wake_roll_call.notified() => asked = true,
            _ = tick.tick() => {}
        }
        let (held, unknown) = {
            let world = app.world().await;
            let nodes = || world.snapshot.nodes.values();
            (nodes().any(|node| node.adopting), nodes().any(is_unknown))
        };
        if !asked && !held && !unknown {
            continue;
        }
        let call = ReportIn { cluster: app.identity.cluster.clone(), held, probe: None };
        let Ok(payload) = serde_json::to_vec(&call) else { continue };
        if let Err(error) = bus.publish(subject::BROADCAST, payload).await {
            tracing::debug!(%error, "the roll call could not be sent");
        }
    }
}

/// Whether a node beats, and what it said about itself was lost.
fn is_unknown(node: &Node) -> bool {
    node.last_beat.is_some() && node.facts.docker.is_none() && node.facts.trouble.is_none()
}
