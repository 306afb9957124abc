//! What travels between the server and the nodes: late, twice, out of order, or not at all.

use std::collections::BTreeMap;

use knit_rpc::id::NodeId;
use knit_rpc::message::{Heartbeat, InstanceReport, NodeAssignment};

use super::rng::Rng;

#[derive(Debug, Clone)]
pub(super) enum Message {
    /// To the server.
    Beat(Box<Heartbeat>),
    Report(Box<InstanceReport>),
    /// To a node.
    Assignment(Box<NodeAssignment>),
    Stored(u64),
    ReportIn,
    /// Whether it reaches these.
    Probe(Vec<NodeId>),
}

/// How badly messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weather {
    /// Ticks, at most.
    pub(super) delay: u64,
    pub(super) lost_percent: u64,
    pub(super) doubled_percent: u64,
}

impl Weather {
    pub(super) const FAIR: Self = Self { delay: 1, lost_percent: 0, doubled_percent: 0 };
    pub(super) const FOUL: Self = Self { delay: 12, lost_percent: 15, doubled_percent: 15 };
}

#[derive(Debug)]
pub(super) struct Wire {
    pub(super) weather: Weather,
    /// The newest assignment of each node, as the stream keeps it.
    pub(super) kept: BTreeMap<NodeId, NodeAssignment>,
    /// By the tick at which it arrives, and the order in which it was sent.
    flying: BTreeMap<(u64, u64), (NodeId, Message)>,
    sent: u64,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self { weather: Weather::FAIR, kept: BTreeMap::new(), flying: BTreeMap::new(), sent: 0 }
    }

    /// Sends a message from or to a node at `tick`.
    pub(super) fn send(&mut self, node: &NodeId, message: &Message, tick: u64, rng: &mut Rng) {
        if rng.chance(self.weather.lost_percent) {
            return;
        }
        let copies = 1 + u64::from(rng.chance(self.weather.doubled_percent));
        for _ in 0..copies {
            self.sent += 1;
            let arrives = tick + rng.below(self.weather.delay + 1);
            self.flying.insert((arrives, self.sent), (node.clone(), message.clone()));
        }
    }

    /// What arrives at `tick`.
    pub(super) fn arrived(&mut self, tick: u64) -> Vec<(NodeId, Message)> {
        let later = self.flying.split_off(&(tick + 1, 0));
        std::mem::replace(&mut self.flying, later).into_values().collect()
    }
}
