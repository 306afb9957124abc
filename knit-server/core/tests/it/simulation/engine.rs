//! A node's Docker: containers, images, and trouble on command.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use knit_agent_core::container::{ContainerPlan, NETWORK};
use knit_agent_core::{Container, ContainerState};
use knit_rpc::Timestamp;
use knit_rpc::spec::VolumeName;

use super::image::Kind;

/// What the engine answers when it does not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) permanent: bool,
    pub(super) unreachable: bool,
}

impl Refusal {
    fn permanent(message: &str) -> Self {
        Self { message: message.to_owned(), permanent: true, unreachable: false }
    }

    pub(super) fn passing(message: &str) -> Self {
        Self { message: message.to_owned(), permanent: false, unreachable: false }
    }

    fn unreachable() -> Self {
        Self { message: "no answer".to_owned(), permanent: false, unreachable: true }
    }
}

#[derive(Debug)]
pub(super) struct Engine {
    /// Whether it answers.
    pub(super) up: bool,
    /// Something happened that an agent would be woken for.
    pub(super) changed: bool,
    pub(super) images: BTreeSet<String>,
    pub(super) volumes: BTreeSet<VolumeName>,
    containers: Vec<Container>,
    /// From when on a container, by id, accepts connections.
    accepts_from: BTreeMap<String, Timestamp>,
    /// By container id.
    image_of: BTreeMap<String, Kind>,
    subnet: u8,
    made: u32,
}

impl Engine {
    pub(super) fn new(subnet: u8) -> Self {
        Self {
            up: true,
            changed: false,
            images: BTreeSet::new(),
            volumes: BTreeSet::new(),
            containers: Vec::new(),
            accepts_from: BTreeMap::new(),
            image_of: BTreeMap::new(),
            subnet,
            made: 0,
        }
    }

    /// What there really is, whether it answers or not.
    pub(super) fn containers(&self) -> &[Container] {
        &self.containers
    }

    pub(super) fn list(&self) -> Result<Vec<Container>, Refusal> {
        self.answers()?;
        Ok(self.containers.clone())
    }

    pub(super) fn answers(&self) -> Result<(), Refusal> {
        if self.up { Ok(()) } else { Err(Refusal::unreachable()) }
    }

    pub(super) fn pull(&mut self, image: &str) -> Result<(), Refusal> {
        self.answers()?;
        if Kind::of(image) == Kind::Missing {
            return Err(Refusal::permanent("manifest unknown"));
        }
        self.images.insert(image.to_owned());
        Ok(())
    }

    pub(super) fn create(&mut self, plan: &ContainerPlan) -> Result<(), Refusal> {
        self.answers()?;
        if self.containers.iter().any(|other| other.name == plan.name) {
            return Ok(());
        }
        if !self.images.contains(&plan.image) {
            return Err(Refusal::permanent("no such image"));
        }
        self.made += 1;
        let id = format!("c{}", self.made);
        self.image_of.insert(id.clone(), Kind::of(&plan.image));
        self.containers.push(Container {
            id,
            name: plan.name.clone(),
            labels: plan.labels.clone(),
            state: ContainerState::Created,
            networks: BTreeSet::new(),
            addresses: BTreeMap::new(),
            image_id: Some(plan.image.clone()),
            started_at: None,
            finished_at: None,
            exit_code: None,
            error: String::new(),
            healthcheck: None,
        });
        self.changed = true;
        Ok(())
    }

    /// Starts a container, named by id or by name; it accepts connections after `boots_in`.
    pub(super) fn start(
        &mut self,
        name: &str,
        boots_in: Duration,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.answers()?;
        let used: BTreeSet<Ipv4Addr> =
            self.containers.iter().flat_map(|one| one.addresses.values().copied()).collect();
        let subnet = self.subnet;
        let address =
            (2..=254).map(|host| Ipv4Addr::new(10, 208, subnet, host)).find(|a| !used.contains(a));
        let kind = self.find(name).map(|found| found.id.clone());
        let kind = kind.and_then(|id| self.image_of.get(&id).copied());
        let Some(found) = self.find(name) else {
            return Err(Refusal::passing("no such container"));
        };
        if found.state.is_up() {
            return Ok(());
        }
        if kind == Some(Kind::NoExec) {
            "exec format error".clone_into(&mut found.error);
            return Err(Refusal::permanent("exec format error"));
        }
        found.state = ContainerState::Running;
        found.started_at = Some(now);
        found.networks = BTreeSet::from([NETWORK.to_owned()]);
        found.addresses = address.map(|a| (NETWORK.to_owned(), a)).into_iter().collect();
        let id = found.id.clone();
        if kind != Some(Kind::NeverReady) {
            self.accepts_from.insert(id, now.plus(boots_in));
        }
        self.changed = true;
        Ok(())
    }

    pub(super) fn stop(&mut self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        self.answers()?;
        self.end(id, 143, now);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), Refusal> {
        self.answers()?;
        self.containers.retain(|one| one.id != id);
        self.accepts_from.remove(id);
        self.image_of.remove(id);
        self.changed = true;
        Ok(())
    }

    /// Whether somebody answers at an address.
    pub(super) fn accepts(&self, address: Ipv4Addr, now: Timestamp) -> bool {
        self.containers.iter().any(|one| {
            one.state.is_up()
                && one.address() == Some(address)
                && self.accepts_from.get(&one.id).is_some_and(|from| *from <= now)
        })
    }

    /// Containers that end by themselves do.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let over = |one: &&Container| {
            let kind = self.image_of.get(&one.id);
            let life = kind.and_then(|kind| kind.life());
            let started = one.started_at.unwrap_or_default();
            one.state.is_up() && life.is_some_and(|life| now.since(started) >= life)
        };
        let over: Vec<String> =
            self.containers.iter().filter(over).map(|one| one.id.clone()).collect();
        for id in over {
            self.end(&id, 1, now);
        }
    }

    /// A container ends, whatever its image says.
    pub(super) fn kill(&mut self, id: &str, now: Timestamp) {
        self.end(id, 137, now);
    }

    /// Whether a container serves now.
    pub(super) fn serves(&self, id: &str, now: Timestamp) -> bool {
        let is_up = self.containers.iter().any(|one| one.id == id && one.state.is_up());
        is_up && self.accepts_from.get(id).is_some_and(|from| *from <= now)
    }

    /// What a container's image is like.
    pub(super) fn kind_of(&self, id: &str) -> Kind {
        self.image_of.get(id).copied().unwrap_or(Kind::Good)
    }

    /// All that runs ends, as when the host goes down.
    pub(super) fn end_all(&mut self, now: Timestamp) {
        let all: Vec<String> = self.containers.iter().map(|one| one.id.clone()).collect();
        for id in all {
            self.end(&id, 255, now);
        }
    }

    fn end(&mut self, id: &str, code: i64, now: Timestamp) {
        let Some(found) = self.find(id).filter(|found| found.state.is_up()) else { return };
        found.state = ContainerState::Exited;
        found.finished_at = Some(now);
        found.exit_code = Some(code);
        found.networks.clear();
        found.addresses.clear();
        self.accepts_from.remove(id);
        self.changed = true;
    }

    fn find(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|one| one.id == name || one.name == name)
    }
}
