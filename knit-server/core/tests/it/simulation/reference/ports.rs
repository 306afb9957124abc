//! Published ports lead to what serves.

use std::collections::BTreeMap;

use knit_agent_core::publish::HostPort;
use knit_rpc::id::NodeId;

use super::Live;
use crate::simulation::faults::Faults;
use crate::simulation::world::{SECOND, World};

/// How long a rule may lead to a container that ended by itself.
const DANGLES_MAX: u64 = 3 * SECOND;
/// How long a container that serves may be without the port that nobody else has.
const UNPUBLISHED_MAX: u64 = 4 * SECOND;
/// How long after a fault nothing is said of ports that lead nowhere.
const CALM_AFTER: u64 = 40 * SECOND;

/// What each port led to when somebody looked last.
#[derive(Debug, Default)]
pub(super) struct Ports {
    /// The container that served there.
    led: BTreeMap<(NodeId, HostPort), String>,
    dangles: BTreeMap<(NodeId, HostPort), u64>,
    waits: BTreeMap<String, u64>,
}

impl Ports {
    pub(super) fn check(
        &mut self,
        world: &World,
        faults: &Faults,
        all: &[Live],
    ) -> Result<(), String> {
        let before = std::mem::take(&mut self.led);
        let dangled = std::mem::take(&mut self.dangles);
        for (id, host) in &world.hosts {
            for (key, target) in &host.rules {
                let here = all.iter().filter(|one| one.node == *id);
                let holder = here.clone().find(|one| one.address == Some(target.address));
                let entry = (id.clone(), *key);
                let former = before.get(&entry);
                let former = here.clone().find(|one| Some(&one.container) == former);
                match holder {
                    Some(holder) if holder.serves => {
                        self.led.insert(entry, holder.container.clone());
                    }
                    _ if former.is_some_and(|one| one.serves && one.wanted) => {
                        let former = former.map(|one| one.words(world)).unwrap_or_default();
                        let now = holder.map(|one| one.words(world));
                        return Err(format!(
                            "port {} was taken from {former}, which serves, and leads to {now:?}",
                            key.port
                        ));
                    }
                    Some(_) => {}
                    None => {
                        let since = dangled.get(&entry).copied().unwrap_or(world.tick);
                        let works = host.agent.is_some() && host.engine.up;
                        let calm = faults.are_past_on(id, world, CALM_AFTER);
                        if works && calm && world.tick - since > DANGLES_MAX {
                            let name = &host.name;
                            return Err(format!("port {} of {name} leads nowhere", key.port));
                        }
                        self.dangles.insert(entry, since);
                    }
                }
            }
        }
        self.check_published(world, faults, all)
    }

    /// What serves and is wanted has its port, unless an instance of another slot, or a newer one
    /// of its own, does.
    fn check_published(
        &mut self,
        world: &World,
        faults: &Faults,
        all: &[Live],
    ) -> Result<(), String> {
        let waited = std::mem::take(&mut self.waits);
        for one in all.iter().filter(|one| one.serves && one.wanted && !one.held) {
            let host = &world.hosts[&one.node];
            let works = host.agent.is_some() && host.engine.up;
            if !works || !faults.are_past_on(&one.node, world, CALM_AFTER) {
                continue;
            }
            let ports = &one.identity.ports;
            let is_had = |port: u16| host.rules.keys().any(|key| key.port == port);
            if ports.iter().all(|port| is_had(port.host_port)) {
                continue;
            }
            let name = format!("{}/{}", host.name, one.container);
            let since = waited.get(&name).copied().unwrap_or(world.tick);
            if world.tick - since > UNPUBLISHED_MAX {
                return Err(format!("{} serves, and its port leads nowhere", one.words(world)));
            }
            self.waits.insert(name, since);
        }
        Ok(())
    }
}
