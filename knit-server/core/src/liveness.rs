//! Who lives, by heartbeats and by what the peers hear.
//!
//! ```text
//!   joining ──beat──> ready ──3 missed beats──> stale ──12 s──> lost
//!                       ^                         ├─ peers were asked: none reaches it, ──> lost
//!                       │                         │  or no live peer hears it         at once
//!                       └────────── beat ─────────┴─ a live peer reaches it ──> unreachable
//! ```
//!
//! Invariant: only `Lost` gives a node's instances away. A cut path, a duplicate and a frozen
//! fleet kill nothing.
//!
//! Invariant: what was lost stays lost until it is heard: nothing that vanishes later, and nothing
//! that peers say later, calls back what is being placed elsewhere.
//!
//! Invariant: silence counts only while this server can hear. While its own bus is down every
//! state stays what it was when the bus went down; afterwards silence begins anew.

mod lives;
pub mod probes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::NodeState;
use knit_rpc::id::NodeId;

pub use self::lives::{Life, Lives};
use self::probes::Said;
use crate::snapshot::{Deafness, Node, Snapshot};

/// How often a node beats.
pub const BEAT: Duration = Duration::from_secs(2);
/// Silence after which a node is stale: three missed beats.
pub const STALE_AFTER: Duration = Duration::from_secs(6);
/// Silence after which a node is lost when no peer can be asked.
pub const LOST_AFTER: Duration = Duration::from_secs(12);
/// How long a server listens after its first heartbeat before it judges nodes that it has not
/// heard in this life.
pub const JUDGE_AFTER: Duration = Duration::from_secs(5);
/// How long an identity stays a duplicate after it was last seen to alternate.
pub const DUPLICATE_FOR: Duration = Duration::from_secs(30);
/// Nodes that must vanish at once before the server suspects its own network.
pub const FREEZE_NODES_MIN: usize = 3;
/// Silence that counts as vanishing when others vanish too: beats come 2 s apart.
const VANISHING_AFTER: Duration = Duration::from_millis(3_500);
/// Last beats that lie this close together count as one event.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What is said of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub state: NodeState,
    /// Why it is not ready, in a sentence.
    pub message: Option<String>,
}

impl Verdict {
    fn new(state: NodeState, message: impl Into<String>) -> Self {
        Self { state, message: Some(message.into()) }
    }
}

/// What is said of all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdicts {
    pub nodes: BTreeMap<NodeId, Verdict>,
    /// Why the server gives nothing away now, in a sentence.
    pub frozen: Option<String>,
}

impl Verdicts {
    pub fn state(&self, node: &NodeId) -> Option<NodeState> {
        self.nodes.get(node).map(|verdict| verdict.state)
    }

    /// Whether what ran on the node is taken to be gone.
    pub fn is_gone(&self, node: &NodeId) -> bool {
        self.state(node).is_none_or(|state| state == NodeState::Lost)
    }
}

/// Judges every node at `now`.
pub fn judge(snapshot: &Snapshot, now: Timestamp) -> Verdicts {
    match snapshot.deafness {
        Some(Deafness { from, until: None }) => deaf(judge_hearing(snapshot, now.min(from))),
        Some(_) | None => judge_hearing(snapshot, now),
    }
}

/// Says why the states do not change. A node in a trouble of its own goes on naming that.
fn deaf(mut verdicts: Verdicts) -> Verdicts {
    for verdict in verdicts.nodes.values_mut() {
        if !matches!(verdict.state, NodeState::NotReady | NodeState::Duplicate) {
            verdict.message = Some("the server's own NATS connection is down".to_owned());
        }
    }
    verdicts
}

fn judge_hearing(snapshot: &Snapshot, now: Timestamp) -> Verdicts {
    let frozen = vanished_at_once(snapshot, now);
    let duplicates = duplicate_keys(snapshot, now);
    let nodes = snapshot
        .nodes
        .values()
        .map(|node| (node.id.clone(), judge_one(snapshot, node, &frozen, &duplicates, now)))
        .collect();
    let frozen = (!frozen.is_empty()).then(|| {
        format!(
            "{} of {} nodes fell silent at once, so this server's own network is suspected: \
             nothing is moved until they are heard again",
            frozen.len(),
            snapshot.nodes.len()
        )
    });
    Verdicts { nodes, frozen }
}

fn judge_one(
    snapshot: &Snapshot,
    node: &Node,
    frozen: &BTreeSet<&NodeId>,
    duplicates: &BTreeMap<&str, Vec<&Node>>,
    now: Timestamp,
) -> Verdict {
    if node.lives.alternates(now) {
        return Verdict::new(
            NodeState::Duplicate,
            "two hosts claim this node id (a cloned disk?): stop one and remove its agent's state \
             directory",
        );
    }
    let silence = silence(snapshot, node, now);
    let seconds = silence.as_secs();
    if node.lost {
        return match node.last_beat {
            Some(_) => Verdict::new(NodeState::Lost, format!("no heartbeat for {seconds} s")),
            None => Verdict::new(NodeState::Lost, "not heard since it was lost"),
        };
    }
    if node.last_beat.is_some() && silence < STALE_AFTER {
        return judge_beating(node, duplicates);
    }
    let heard = heard_by_peers(snapshot, node, now);
    let gone = matches!(heard, Heard::Gone { .. }) && silence >= STALE_AFTER;
    if node.last_beat.is_none() && (!judging(snapshot, now) || (silence < LOST_AFTER && !gone)) {
        return Verdict::new(NodeState::Joining, "not heard since this server started");
    }
    if frozen.contains(&node.id) {
        return Verdict::new(
            NodeState::Unreachable,
            format!("silent for {seconds} s together with many others: nothing is moved"),
        );
    }
    judge_silent(heard, silence)
}

fn judge_silent(heard: Heard, silence: Duration) -> Verdict {
    let seconds = silence.as_secs();
    match heard {
        Heard::Gone { asked: Some(1) } => Verdict::new(
            NodeState::Lost,
            format!("no heartbeat for {seconds} s, and the peer that was asked does not reach it"),
        ),
        Heard::Gone { asked: Some(peers) } => Verdict::new(
            NodeState::Lost,
            format!(
                "no heartbeat for {seconds} s, and none of the {peers} peers that were asked \
                 reaches it"
            ),
        ),
        Heard::Gone { asked: None } => Verdict::new(
            NodeState::Lost,
            format!("no heartbeat for {seconds} s, and no peer hears it"),
        ),
        Heard::Yes if silence >= LOST_AFTER => Verdict::new(
            NodeState::Unreachable,
            format!(
                "no heartbeat for {seconds} s, but its peers hear it: the path to this server is \
                 cut, or its agent is down"
            ),
        ),
        Heard::Unknown if silence >= LOST_AFTER => {
            Verdict::new(NodeState::Lost, format!("no heartbeat for {seconds} s"))
        }
        Heard::Yes | Heard::Unknown => {
            Verdict::new(NodeState::Stale, format!("no heartbeat for {seconds} s"))
        }
    }
}

fn judge_beating(node: &Node, duplicates: &BTreeMap<&str, Vec<&Node>>) -> Verdict {
    let claimants = duplicates.get(node.facts.wg_pubkey.as_str()).map_or(&[][..], Vec::as_slice);
    if let Some(other) = claimants.iter().find(|other| other.id != node.id) {
        return Verdict::new(
            NodeState::Duplicate,
            format!("node {} ({}) claims the same WireGuard key", other.name(), other.id),
        );
    }
    if let Some(trouble) = &node.facts.trouble {
        return Verdict::new(NodeState::NotReady, trouble.clone());
    }
    if node.facts.docker.is_none() {
        return Verdict::new(NodeState::NotReady, "its Docker has not answered yet");
    }
    Verdict { state: NodeState::Ready, message: None }
}

/// Whether peers hear a node that this server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Yes,
    /// None does; so many were asked, or each said so by itself.
    Gone {
        asked: Option<usize>,
    },
    /// There is no peer to ask.
    Unknown,
}

/// Peers that were asked a moment ago go before what peers said by themselves.
fn heard_by_peers(snapshot: &Snapshot, node: &Node, now: Timestamp) -> Heard {
    match probes::verdict(snapshot, node, now) {
        Some(Said::Reached) => return Heard::Yes,
        Some(Said::Gone { by }) => return Heard::Gone { asked: Some(by) },
        None => {}
    }
    let mut peers = snapshot
        .nodes
        .values()
        .filter(|peer| peer.id != node.id && beats(peer, now) && !peer.facts.wg_pubkey.is_empty())
        .peekable();
    if peers.peek().is_none() || node.facts.wg_pubkey.is_empty() {
        return Heard::Unknown;
    }
    if peers.any(|peer| !peer.facts.unheard.contains(&node.facts.wg_pubkey)) {
        Heard::Yes
    } else {
        Heard::Gone { asked: None }
    }
}

/// The nodes that fell silent together, when they are enough to suspect the server's own network.
fn vanished_at_once(snapshot: &Snapshot, now: Timestamp) -> BTreeSet<&NodeId> {
    let last = |node: &Node| silent_from(snapshot, node);
    let known: Vec<&Node> = snapshot.nodes.values().filter(|node| !node.lost).collect();
    let silent: Vec<&Node> = known
        .iter()
        .copied()
        .filter(|node| silence(snapshot, node, now) >= VANISHING_AFTER)
        .collect();
    let mut frozen = BTreeSet::new();
    for first in &silent {
        let from = last(first);
        let together: Vec<&Node> = silent
            .iter()
            .copied()
            .filter(|node| last(node) >= from && last(node).since(from) < AT_ONCE)
            .collect();
        let alive_before = known.iter().filter(|node| last(node) >= from).count();
        if together.len() >= FREEZE_NODES_MIN && together.len() * 3 > alive_before {
            frozen.extend(
                together
                    .into_iter()
                    .filter(|node| silence(snapshot, node, now) >= STALE_AFTER)
                    .map(|node| &node.id),
            );
        }
    }
    frozen
}

fn duplicate_keys(snapshot: &Snapshot, now: Timestamp) -> BTreeMap<&str, Vec<&Node>> {
    let mut claims: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    for node in snapshot.nodes.values() {
        if beats(node, now) && !node.facts.wg_pubkey.is_empty() {
            claims.entry(&node.facts.wg_pubkey).or_default().push(node);
        }
    }
    claims.retain(|_, nodes| nodes.len() > 1);
    claims
}

fn beats(node: &Node, now: Timestamp) -> bool {
    node.last_beat.is_some_and(|at| now.since(at) < STALE_AFTER)
}

fn silence(snapshot: &Snapshot, node: &Node, now: Timestamp) -> Duration {
    now.since(silent_from(snapshot, node))
}

/// When the node's silence began: with its last beat, or when this server could hear again.
fn silent_from(snapshot: &Snapshot, node: &Node) -> Timestamp {
    let last = node.last_beat.unwrap_or(snapshot.started);
    hearing_since(snapshot).map_or(last, |since| since.max(last))
}

/// When this server's last deafness ended.
fn hearing_since(snapshot: &Snapshot) -> Option<Timestamp> {
    snapshot.deafness.and_then(|deafness| deafness.until)
}

fn judging(snapshot: &Snapshot, now: Timestamp) -> bool {
    snapshot.first_beat.is_some_and(|at| now.since(at) >= JUDGE_AFTER)
}

#[cfg(test)]
mod tests;
