//! Asks every agent to report in: at the start of the bus, when asked to, and again and again
//! while a node has to show what it holds, or beats without having said what it is or what it runs.
//!
//! Invariant: a server that starts anew comes to know since when each instance is healthy, also
//! when the bus outlived it and its first call was lost.

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
            let is_unknown = |node| is_unknown(node, world.reported.contains(&node.id));
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

/// Whether a node beats, and what it said about itself, or of what it runs, was lost.
fn is_unknown(node: &Node, has_reported: bool) -> bool {
    let facts = &node.facts;
    let (works, is_troubled) = (facts.docker.is_some(), facts.trouble.is_some());
    // Who cannot read its Docker has nothing to report.
    node.last_beat.is_some() && !is_troubled && (!works || !has_reported)
}

#[cfg(test)]
mod tests {
    use knit_rpc::Timestamp;
    use knit_rpc::id::NodeId;

    use super::*;

    #[test]
    fn who_beats_is_asked_until_it_said_what_it_is_and_what_it_runs() {
        let mut node = Node::new(NodeId::from_bytes([1; 16]), String::new());
        assert!(!is_unknown(&node, false), "it is not heard");
        node.last_beat = Some(Timestamp::from_millis(1));
        assert!(is_unknown(&node, true));
        node.facts.docker = Some("27.0".to_owned());
        assert!(is_unknown(&node, false));
        assert!(!is_unknown(&node, true));
        node.facts.trouble = Some("its Docker does not answer".to_owned());
        assert!(!is_unknown(&node, false));
    }
}
