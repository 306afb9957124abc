//! A host: its Docker, its rules for published ports, its disk, and the agent on it.
//!
//! The agent decides with the real `knit-agent-core`; what stands here is the thin loop around it.

mod agent;
mod beats;
mod jobs;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use knit_agent_core::container::Identity;
use knit_agent_core::publish::PortMap;
use knit_agent_core::{Container, Owner};
use knit_rpc::Timestamp;
use knit_rpc::id::{ClusterId, NodeId};
use knit_rpc::message::NodeAssignment;

pub(super) use self::agent::Agent;
use super::engine::Engine;
use super::rng::Rng;
use super::wire::Message;

/// Chance in percent that one call to the engine goes wrong, while engines are in trouble.
const ERRORS_PERCENT: u64 = 30;

#[derive(Debug)]
pub(super) struct Host {
    pub(super) owner: Owner,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) mesh_ip: Ipv4Addr,
    pub(super) engine: Engine,
    /// What the kernel's rules publish: they outlive the agent.
    pub(super) rules: PortMap,
    /// The assignment on its disk.
    pub(super) disk: Option<NodeAssignment>,
    pub(super) boots: u32,
    /// None while no agent runs.
    pub(super) agent: Option<Agent>,
    /// Calls to its engine go wrong at times.
    pub(super) flaky: bool,
    /// Keys of the peers that it does not hear.
    pub(super) unheard: BTreeSet<String>,
    /// Whether the machine runs.
    pub(super) powered: bool,
    /// What it did and should not have done.
    pub(super) wrongs: Vec<String>,
    /// Containers that were started since somebody looked.
    pub(super) started: Vec<String>,
}

impl Host {
    pub(super) fn new(number: u8, cluster: ClusterId, now: Timestamp) -> Self {
        let owner = Owner { cluster, node: NodeId::from_bytes([number; 16]) };
        let zone = if number.is_multiple_of(2) { "b" } else { "a" };
        Self {
            owner,
            name: format!("n{number}"),
            labels: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
            mesh_ip: Ipv4Addr::new(10, 45, 0, number),
            engine: Engine::new(number),
            rules: PortMap::new(),
            disk: None,
            boots: 1,
            agent: Some(Agent::new(now)),
            flaky: false,
            unheard: BTreeSet::new(),
            powered: true,
            wrongs: Vec::new(),
            started: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> &NodeId {
        &self.owner.node
    }

    pub(super) fn key(&self) -> String {
        format!("key-{}", self.name)
    }

    /// Our containers.
    pub(super) fn ours(&self) -> Vec<(Identity, &Container)> {
        let containers = self.engine.containers().iter();
        containers.filter_map(|one| Some((Identity::of(one, &self.owner)?, one))).collect()
    }

    /// A quarter of a second of its life; returns what it says to the server.
    pub(super) fn tick(&mut self, connected: bool, now: Timestamp, rng: &mut Rng) -> Vec<Message> {
        self.engine.tick(now);
        let Some(mut agent) = self.agent.take() else { return Vec::new() };
        agent.work(self, now, rng);
        agent.ask(self, now);
        agent.decide(self, now, rng);
        let said = agent.speak(self, connected, now, rng);
        self.agent = Some(agent);
        said
    }

    /// Takes an assignment in.
    pub(super) fn assign(&mut self, assignment: NodeAssignment) {
        let known = self.disk.as_ref().map(|held| held.generation);
        let Some(agent) = &mut self.agent else { return };
        if known.is_some_and(|known| known >= assignment.generation) {
            return;
        }
        self.disk = Some(assignment);
        agent.wake(agent::Wake::Step);
    }

    fn engine_fails(&self, rng: &mut Rng) -> bool {
        self.flaky && rng.chance(ERRORS_PERCENT)
    }
}
