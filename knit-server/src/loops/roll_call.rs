//! Asks every agent to report in: at the start of the bus, when asked to, and again and again
//! while a node has to show what it holds.

use std::time::Duration;

use knit_link::bus::Bus;
use knit_rpc::message::ReportIn;
use knit_rpc::subject;
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
        let held = app.world().await.snapshot.nodes.values().any(|node| node.adopting);
        if !asked && !held {
            continue;
        }
        let call = ReportIn { cluster: app.identity.cluster.clone(), held };
        let Ok(payload) = serde_json::to_vec(&call) else { continue };
        if let Err(error) = bus.publish(subject::BROADCAST, payload).await {
            tracing::debug!(%error, "the roll call could not be sent");
        }
    }
}
