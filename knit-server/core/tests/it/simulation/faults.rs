//! What goes wrong, and when it is well again.

use std::collections::BTreeMap;

use knit_rpc::id::NodeId;

use super::host::Agent;
use super::wire::Weather;
use super::world::{SECOND, World};

/// What ends a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mending {
    Power(NodeId),
    Way(NodeId),
    Agent(NodeId),
    /// Whether all containers end when the engine comes back.
    Engine(NodeId, bool),
    Steady(NodeId),
    Server,
    Weather,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pending: Vec<(u64, Mending)>,
    /// The tick at which something last went wrong, or was well again.
    pub(super) last: u64,
    /// The same by node, for what its engine or its power did.
    pub(super) last_of: BTreeMap<NodeId, u64>,
}

impl Faults {
    /// Whether nothing has gone wrong for so many ticks.
    pub(super) fn are_past(&self, world: &World, ticks: u64) -> bool {
        self.pending.is_empty() && (self.last == 0 || world.tick - self.last > ticks)
    }

    /// The same of one host.
    pub(super) fn are_past_on(&self, node: &NodeId, world: &World, ticks: u64) -> bool {
        self.last_of.get(node).is_none_or(|last| world.tick - last > ticks)
    }

    /// Something may go wrong.
    pub(super) fn tempt(&mut self, world: &mut World) {
        let ids: Vec<NodeId> = world.hosts.keys().cloned().collect();
        let Some(node) = world.rng.pick(&ids).cloned() else { return };
        let (fault, lasts) = (world.rng.below(100), world.rng.between(1, 30) * SECOND);
        let name = world.hosts[&node].name.clone();
        match fault {
            0..16 => self.power_off(world, &node, lasts),
            16..28 => self.cut(world, &node, lasts, false),
            28..38 => self.cut(world, &node, lasts, true),
            38..52 => self.kill_agent(world, &node, lasts.min(5 * SECOND)),
            52..62 => self.stop_engine(world, &node, lasts),
            62..72 => self.unsettle(world, &node, lasts),
            72..82 => self.stop_server(world, lasts.min(15 * SECOND)),
            82..90 => {
                world.tell("fault: foul weather");
                world.wire.weather = Weather::FOUL;
                self.began(world, None, Mending::Weather, lasts);
            }
            _ => {
                let host = world.hosts.get_mut(&node);
                let one = host.as_ref().and_then(|host| host.engine.containers().first());
                let (Some(id), Some(host)) = (one.map(|one| one.id.clone()), host) else { return };
                host.engine.kill(&id, world.now);
                world.tell(&format!("fault: {id} on {name} ends"));
                self.note(world, Some(&node));
            }
        }
    }

    fn power_off(&mut self, world: &mut World, node: &NodeId, lasts: u64) {
        let now = world.now;
        let Some(host) = world.hosts.get_mut(node).filter(|host| host.powered) else { return };
        host.engine.end_all(now);
        host.rules.clear();
        (host.powered, host.agent) = (false, None);
        let name = host.name.clone();
        world.tell(&format!("fault: {name} has no power"));
        self.began(world, Some(node), Mending::Power(node.clone()), lasts);
    }

    fn cut(&mut self, world: &mut World, node: &NodeId, lasts: u64, off_mesh: bool) {
        let Some(path) = world.paths.get_mut(node).filter(|path| !path.cut) else { return };
        (path.cut, path.off_mesh) = (true, off_mesh);
        let name = &world.hosts[node].name;
        world.tell(&format!("fault: {name} is cut off, from its peers too: {off_mesh}"));
        self.began(world, Some(node), Mending::Way(node.clone()), lasts);
    }

    fn kill_agent(&mut self, world: &mut World, node: &NodeId, lasts: u64) {
        let Some(host) = world.hosts.get_mut(node).filter(|host| host.agent.is_some()) else {
            return;
        };
        host.agent = None;
        let name = host.name.clone();
        world.tell(&format!("fault: the agent of {name} is killed"));
        self.began(world, Some(node), Mending::Agent(node.clone()), lasts);
    }

    fn stop_engine(&mut self, world: &mut World, node: &NodeId, lasts: u64) {
        let ends = world.rng.chance(50);
        let Some(host) = world.hosts.get_mut(node).filter(|host| host.engine.up) else { return };
        host.engine.up = false;
        let name = host.name.clone();
        world.tell(&format!("fault: the engine of {name} is down"));
        self.began(world, Some(node), Mending::Engine(node.clone(), ends), lasts);
    }

    fn unsettle(&mut self, world: &mut World, node: &NodeId, lasts: u64) {
        let Some(host) = world.hosts.get_mut(node).filter(|host| !host.flaky) else { return };
        host.flaky = true;
        let name = host.name.clone();
        world.tell(&format!("fault: the engine of {name} stumbles"));
        self.began(world, Some(node), Mending::Steady(node.clone()), lasts);
    }

    fn stop_server(&mut self, world: &mut World, lasts: u64) {
        if world.server.up {
            world.server.up = false;
            world.tell("fault: the server is down");
            self.began(world, None, Mending::Server, lasts);
        }
    }

    fn began(&mut self, world: &World, node: Option<&NodeId>, mending: Mending, lasts: u64) {
        self.note(world, node);
        if !self.pending.iter().any(|(_, other)| *other == mending) {
            self.pending.push((world.tick + lasts, mending));
        }
    }

    fn note(&mut self, world: &World, node: Option<&NodeId>) {
        self.last = world.tick;
        if let Some(node) = node {
            self.last_of.insert(node.clone(), world.tick);
        }
    }

    /// What is due to be well again is; with `all`, everything.
    pub(super) fn mend(&mut self, world: &mut World, all: bool) {
        let tick = world.tick;
        let (due, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|(at, _)| all || *at <= tick);
        self.pending = rest;
        let due: Vec<(u64, Mending)> = due;
        for (_, mending) in due {
            self.make_well(world, &mending);
        }
    }

    fn make_well(&mut self, world: &mut World, mending: &Mending) {
        world.tell(&format!("mended: {mending:?}"));
        let (now, tick) = (world.now, world.tick);
        match mending {
            Mending::Server => {
                world.server.up = true;
                world.restart_server();
            }
            Mending::Weather => world.wire.weather = Weather::FAIR,
            Mending::Way(node) => {
                if let Some(path) = world.paths.get_mut(node) {
                    (path.cut, path.off_mesh) = (false, false);
                    path.connects_at = tick + 2;
                }
            }
            Mending::Steady(node) => {
                if let Some(host) = world.hosts.get_mut(node) {
                    host.flaky = false;
                }
            }
            Mending::Engine(node, ends) => {
                if let Some(host) = world.hosts.get_mut(node) {
                    (host.engine.up, host.engine.changed) = (true, true);
                    if *ends {
                        host.engine.end_all(now);
                    }
                }
            }
            Mending::Power(node) => {
                if let Some(host) = world.hosts.get_mut(node) {
                    (host.powered, host.agent) = (true, Some(Agent::new(now)));
                    host.boots += 1;
                }
            }
            Mending::Agent(node) => {
                if let Some(host) = world.hosts.get_mut(node).filter(|host| host.powered) {
                    host.agent.get_or_insert_with(|| Agent::new(now));
                }
            }
        }
        let node = match mending {
            Mending::Power(node)
            | Mending::Way(node)
            | Mending::Agent(node)
            | Mending::Engine(node, _)
            | Mending::Steady(node) => Some(node),
            Mending::Server | Mending::Weather => None,
        };
        self.note(world, node);
    }
}
