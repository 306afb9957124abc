//! Everything together, a quarter of a second at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::{ClusterId, NodeId};
use knit_server_core::liveness::Life;

use super::host::{Agent, Host};
use super::rng::Rng;
use super::server::Server;
use super::wire::{Message, Wire};

pub(super) const TICK: Duration = Duration::from_millis(250);
/// Ticks of a second.
pub(super) const SECOND: u64 = 4;
/// Lines of what happened that are kept.
const TOLD_MAX: usize = 120;
/// Ticks after which a peer that is gone is noticed by its silence.
const UNHEARD_AFTER: u64 = 16 * SECOND;
/// Ticks between two roll calls.
const ROLL_CALL: u64 = 6 * SECOND;

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) tick: u64,
    pub(super) now: Timestamp,
    pub(super) server: Server,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    pub(super) paths: BTreeMap<NodeId, Path>,
    pub(super) wire: Wire,
    /// What happened last.
    pub(super) told: VecDeque<String>,
}

/// The ways between a host and the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Path {
    /// No message passes between it and the server.
    pub(super) cut: bool,
    /// Its peers do not reach it.
    pub(super) off_mesh: bool,
    /// Whether the agent's bus is connected.
    pub(super) connected: bool,
    /// From which tick on its bus tries to connect.
    pub(super) connects_at: u64,
    /// Since which tick no peer reaches it.
    silent_since: Option<u64>,
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
            told: VecDeque::new(),
        }
    }

    /// Remembers what happened.
    pub(super) fn tell(&mut self, what: &str) {
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(format!("{:>4}.{:02} {what}", self.tick / 4, self.tick % 4 * 25));
    }

    pub(super) fn tick(&mut self) -> Result<(), String> {
        self.tick += 1;
        self.now = self.now.plus(TICK);
        for (node, message) in self.wire.arrived(self.tick) {
            self.deliver(&node, message);
        }
        self.connect();
        self.listen();
        for (id, host) in &mut self.hosts {
            let connected = self.paths[id].connected;
            for said in host.tick(connected, self.now, &mut self.rng) {
                self.wire.send(id, &said, self.tick, &mut self.rng);
            }
        }
        if self.server.up { self.serve() } else { Ok(()) }
    }

    fn serve(&mut self) -> Result<(), String> {
        let check = self.rng.chance(20);
        self.server.think(check, self.now)?;
        self.tell_plan();
        for assignment in self.server.publish(self.now) {
            let node = assignment.node.clone();
            self.wire.kept.insert(node.clone(), assignment.clone());
            self.send(&node, &Message::Assignment(Box::new(assignment)));
        }
        if let Some(question) = self.server.question(self.now) {
            let targets: Vec<NodeId> = question.targets.into_keys().collect();
            for node in question.by {
                self.send(&node, &Message::Probe(targets.clone()));
            }
        }
        if self.tick.is_multiple_of(ROLL_CALL) {
            for node in self.server.unreported() {
                self.send(&node, &Message::ReportIn);
            }
        }
        Ok(())
    }

    fn tell_plan(&mut self) {
        let plan = std::mem::take(&mut self.server.plan);
        for one in &plan.created {
            let text = self.server.words_for(one);
            self.tell(&format!("plan: + {text}: {}", one.because));
        }
        for id in &plan.removed {
            self.tell(&format!("plan: - {id}"));
        }
        for one in plan.deployments.values() {
            let rollout = one
                .rollout
                .as_ref()
                .map(|rollout| format!("admitted {} paused {}", rollout.admitted, rollout.paused));
            let last = one.revisions.get(&one.revision);
            let state = last.map(|last| (last.state, last.message.clone()));
            let name = &one.spec.name;
            self.tell(&format!("plan: {name} r{} {rollout:?} {state:?}", one.revision));
        }
        self.server.plan = plan;
    }

    fn send(&mut self, node: &NodeId, message: &Message) {
        self.wire.send(node, message, self.tick, &mut self.rng);
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

    fn deliver(&mut self, node: &NodeId, message: Message) {
        if self.paths[node].cut || !self.server.up {
            return;
        }
        match message {
            Message::Beat(beat) => self.server.beat(*beat, self.now),
            Message::Report(report) => {
                let sequence = report.sequence;
                if self.server.report(*report, self.now) {
                    self.send(node, &Message::Stored(sequence));
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
            Message::Probe(targets) => {
                let is_on = !self.paths[node].off_mesh;
                let reaches = |id: &NodeId| {
                    is_on
                        && self.hosts.get(id).is_some_and(|one| one.powered)
                        && self.paths.get(id).is_some_and(|path| !path.off_mesh)
                };
                let answers = targets.into_iter().map(|id| (id.clone(), reaches(&id))).collect();
                if let Some(agent) = self.agent(node) {
                    agent.probed(answers);
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
            let start = host.agent.as_ref().map(|agent| agent.start);
            let reaches = self.server.up && !path.cut && self.tick >= path.connects_at;
            let Some(agent_start) = start.filter(|_| reaches) else {
                path.connected = false;
                continue;
            };
            if std::mem::replace(&mut path.connected, true) {
                continue;
            }
            let life = Life { boot: format!("boot{}", host.boots), agent_start };
            self.server.register(id, life, self.now);
            if let Some(kept) = self.wire.kept.get(id) {
                host.assign(kept.clone());
            }
        }
    }

    /// Sidecars notice which peers fell silent.
    fn listen(&mut self) {
        for (id, path) in &mut self.paths {
            let is_silent = path.off_mesh || !self.hosts[id].powered;
            path.silent_since = is_silent.then(|| path.silent_since.unwrap_or(self.tick));
        }
        let gone =
            |path: &Path| path.silent_since.is_some_and(|since| self.tick - since >= UNHEARD_AFTER);
        let keys: BTreeMap<&NodeId, String> =
            self.hosts.iter().map(|(id, host)| (id, host.key())).collect();
        let gone: Vec<(NodeId, String)> = self
            .paths
            .iter()
            .filter(|(_, path)| gone(path))
            .map(|(id, _)| (id.clone(), keys[id].clone()))
            .collect();
        for (id, host) in &mut self.hosts {
            let others = gone.iter().filter(|(other, _)| other != id);
            host.unheard = others.map(|(_, key)| key.clone()).collect();
        }
    }
}
