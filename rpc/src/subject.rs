//! NATS subjects. The node id is the last token, so that NATS permissions hold a node to its own.

use crate::id::NodeId;

/// The stream that keeps the newest assignment per node.
pub const TASKS_STREAM: &str = "KNIT_TASKS";
/// What the server asks of every agent at once; never read from the stream.
pub const BROADCAST: &str = "knit.tasks.broadcast";
/// Every node's assignments, as the stream captures them.
pub const ALL_TASKS: &str = "knit.tasks.*";
/// Every node's heartbeats, as the server listens.
pub const ALL_HEARTBEATS: &str = "knit.agent.heartbeat.*";
/// Every node's reports, as the server listens.
pub const ALL_STATUS: &str = "knit.task.status.*";

/// Where a node receives its assignment.
pub fn tasks(node: &NodeId) -> String {
    format!("knit.tasks.{node}")
}

/// Where a node says that it lives.
pub fn heartbeat(node: &NodeId) -> String {
    format!("knit.agent.heartbeat.{node}")
}

/// Where a node says what it runs.
pub fn status(node: &NodeId) -> String {
    format!("knit.task.status.{node}")
}

/// Prefix of a node's reply subjects, so that no node can read another's replies.
pub fn inbox_prefix(node: &NodeId) -> String {
    format!("_INBOX_{node}")
}

/// Where a node asks JetStream for the newest message on its own subject.
pub fn direct_get(node: &NodeId) -> String {
    format!("$JS.API.DIRECT.GET.{TASKS_STREAM}.{}", tasks(node))
}

/// The node that a subject speaks of, from its last token.
pub fn node_of(subject: &str) -> Option<NodeId> {
    NodeId::parse(subject.rsplit('.').next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_names_the_node() {
        let node = NodeId::from_bytes([7; 16]);
        for subject in [tasks(&node), heartbeat(&node), status(&node)] {
            assert_eq!(node_of(&subject), Some(node.clone()), "{subject}");
        }
        assert_eq!(node_of(BROADCAST), None);
        assert_eq!(node_of(""), None);
    }
}
