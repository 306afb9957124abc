//! Everything together, a quarter of a second at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::{ClusterId, NodeId};
use knit_server_core::liveness::Life;

use super::host::{Agent, Host};
use super::rng::Rng;
use super::server::Server;
use super::wire::{Message, Wire};

pub(super) const TICK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) tick: u64,
    pub(super) now: Timestamp,
    pub(super) server: Server,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    pub(super) paths: BTreeMap<NodeId, Path>,
    pub(super) wire: Wire,
}

/// The way between a host and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Path {
    pub(super) cut: bool,
    /// Whether the agent's bus is connected.
    connected: bool,
    /// From which tick on its bus tries to connect.
    connects_at: u64,
    registered: bool,
}

impl World {
    pub(super) fn new(seed: u64, hosts: u8) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let cluster = ClusterId::from_bytes([9; 16]);
        let all = (1..=hosts).map(|number| Host::new(number, cluster.clone(), now));
        let hosts: BTreeMap<NodeId, Host> = all.map(|host| (host.id().clone(), host)).collect();
        let paths = hosts.keys().map(|id| (id.clone(), Path::default())).collect();
        Self {
            rng: Rng::new(seed),
            tick: 0,
            now,
            server: Server::new(cluster, now),
            hosts,
            paths,
            wire: Wire::new(),
        }
    }

    pub(super) fn tick(&mut self) {
        self.tick += 1;
        self.now = self.now.plus(TICK);
        for (node, message) in self.wire.arrived(self.tick) {
            self.deliver(&node, message);
        }
        self.connect();
        for (id, host) in &mut self.hosts {
            let connected = self.paths[id].connected;
            for said in host.tick(connected, self.now, &mut self.rng) {
                self.wire.send(id, &said, self.tick, &mut self.rng);
            }
        }
        if self.server.up {
            self.server.think(self.now);
            for assignment in self.server.publish(self.now) {
                let node = assignment.node.clone();
                self.wire.kept.insert(node.clone(), assignment.clone());
                let message = Message::Assignment(Box::new(assignment));
                self.wire.send(&node, &message, self.tick, &mut self.rng);
            }
        }
    }

    /// The server starts anew, and asks everybody to report.
    pub(super) fn restart_server(&mut self) {
        self.server.restart(self.now);
        for path in self.paths.values_mut() {
            path.connects_at = self.tick + self.rng.between(2, 12);
        }
        for id in self.hosts.keys() {
            self.wire.send(id, &Message::ReportIn, self.tick, &mut self.rng);
        }
    }

    /// A host goes down and is back at once, its containers ended.
    pub(super) fn reboot(&mut self, node: &NodeId) {
        let (Some(host), Some(path)) = (self.hosts.get_mut(node), self.paths.get_mut(node)) else {
            return;
        };
        host.engine.end_all(self.now);
        host.rules.clear();
        host.boots += 1;
        host.agent = Some(Agent::new(self.now));
        path.connects_at = self.tick + 2;
    }

    fn deliver(&mut self, node: &NodeId, message: Message) {
        if self.paths[node].cut || !self.server.up {
            return;
        }
        match message {
            Message::Beat(beat) => self.server.beat(*beat, self.now),
            Message::Report(report) => {
                let sequence = report.sequence;
                if self.server.report(*report, self.now) {
                    self.wire.send(node, &Message::Stored(sequence), self.tick, &mut self.rng);
                }
            }
            Message::Assignment(assignment) => {
                if let Some(host) = self.hosts.get_mut(node) {
                    host.assign(*assignment);
                }
            }
            Message::Stored(sequence) => {
                if let Some(agent) = self.agent(node) {
                    agent.stored(sequence);
                }
            }
            Message::ReportIn => {
                if let Some(agent) = self.agent(node) {
                    agent.ask_report();
                }
            }
        }
    }

    fn agent(&mut self, node: &NodeId) -> Option<&mut Agent> {
        self.hosts.get_mut(node)?.agent.as_mut()
    }

    /// Agents that can reach the server connect, and read what was kept for them.
    fn connect(&mut self) {
        for (id, host) in &mut self.hosts {
            let Some(path) = self.paths.get_mut(id) else { continue };
            let reaches = self.server.up
                && !path.cut
                && host.agent.is_some()
                && self.tick >= path.connects_at;
            if path.connected || !reaches {
                path.connected &= reaches;
                continue;
            }
            path.connected = true;
            if !path.registered {
                path.registered = true;
                let life = Life { boot: format!("boot{}", host.boots), agent_start: self.now };
                self.server.register(id, life, self.now);
            }
            if let Some(kept) = self.wire.kept.get(id) {
                host.assign(kept.clone());
            }
        }
    }
}
