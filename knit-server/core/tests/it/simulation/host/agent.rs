//! The reconciling loop: as `knit-agent` has it, without its sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_agent_core::container::{self, Identity};
use knit_agent_core::observed::Memory;
use knit_agent_core::publish::{self, PortMap, Target};
use knit_agent_core::{Action, Container, Desired, Observed, reconcile, status};
use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::message::{Generation, InstanceStatus};

use super::Host;
use super::beats::Beats;
use super::jobs::Job;
use super::reports::Reporter;
use crate::simulation::rng::Rng;

/// It looks at everything this often even when nothing seems to happen.
const TICK: Duration = Duration::from_secs(2);

/// A run of the agent: all that it forgets when it is killed.
#[derive(Debug)]
pub(in crate::simulation) struct Agent {
    pub(super) start: Timestamp,
    pub(super) memory: Memory,
    /// As read last; none before Docker was read for the first time.
    pub(super) containers: Option<Vec<Container>>,
    /// What it has published itself.
    published: PortMap,
    pub(super) jobs: Vec<Job>,
    pub(super) inventory: Option<Inventory>,
    pub(super) trouble: Option<String>,
    pub(super) beats: Beats,
    pub(super) reporter: Reporter,
    woken: bool,
    looks_at: Timestamp,
}

/// What it would tell the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inventory {
    pub(super) instances: BTreeMap<InstanceId, InstanceStatus>,
    pub(super) applied: Generation,
}

impl Agent {
    pub(in crate::simulation) fn new(now: Timestamp) -> Self {
        Self {
            start: now,
            memory: Memory::default(),
            containers: None,
            published: PortMap::new(),
            jobs: Vec::new(),
            inventory: None,
            trouble: None,
            beats: Beats::default(),
            reporter: Reporter::default(),
            woken: true,
            looks_at: now,
        }
    }

    pub(super) fn wake(&mut self) {
        self.woken = true;
    }

    /// Somebody wants the whole inventory.
    pub(in crate::simulation) fn ask_report(&mut self) {
        self.reporter.ask_all();
        self.beats.ask_facts();
    }

    pub(in crate::simulation) fn stored(&mut self, sequence: u64) {
        self.reporter.stored(sequence);
    }

    /// Looks at the node and begins what is to be done, when there is reason to.
    pub(super) fn decide(&mut self, host: &mut Host, now: Timestamp, rng: &mut Rng) {
        let woken = std::mem::take(&mut self.woken) | std::mem::take(&mut host.engine.changed);
        if !woken && now < self.looks_at {
            return;
        }
        self.looks_at = now.plus(TICK);
        match host.engine.list() {
            Ok(containers) => (self.containers, self.trouble) = (Some(containers), None),
            Err(refusal) => self.trouble = Some(refusal.message),
        }
        let desired = host.disk.as_ref().and_then(|held| Desired::of(held).ok());
        let Some(mut observed) = self.observe(host, desired.as_ref(), now) else { return };
        for (identity, container) in ours(host, &observed) {
            self.memory.saw(&identity.instance, container);
        }
        let mesh = BTreeSet::from([host.mesh_ip]);
        let actions = match &desired {
            Some(desired) => reconcile(desired, &observed, &mesh, now),
            None => {
                vec![Action::Publish(publish::wanted(None, &ours(host, &observed), &observed))]
            }
        };
        let wanted = actions.iter().find_map(Action::ports).unwrap_or(&self.published).clone();
        let superseded = publish::superseded(&self.published, &wanted);
        self.published.clone_from(&wanted);
        host.rules = wanted;
        for (identity, container) in ours(host, &observed) {
            if container.address().is_some_and(|address| superseded.contains(&address)) {
                self.memory.superseded.insert(identity.instance, now);
            }
        }
        observed.published.clone_from(&self.published);
        if let Some(desired) = desired.as_ref().filter(|_| self.trouble.is_none()) {
            self.begin(host, desired, actions, now, rng);
        }
        observed.memory.clone_from(&self.memory);
        let instances = status::inventory(&host.owner, desired.as_ref(), &observed, now);
        let known = instances.iter().map(|one| one.id.clone()).collect();
        self.memory.keep(&known);
        let settles_in = status::settles_in(&host.owner, &observed, now);
        self.looks_again_at(settles_in, !observed.unready.is_empty(), now);
        let instances = instances.into_iter().map(|one| (one.id.clone(), one)).collect();
        let applied = host.disk.as_ref().map(|held| held.generation).unwrap_or_default();
        self.inventory = Some(Inventory { instances, applied });
    }

    fn looks_again_at(&mut self, settles_in: Option<Duration>, awaits: bool, now: Timestamp) {
        if let Some(left) = settles_in {
            self.looks_at = self.looks_at.min(now.plus(left));
        }
        if awaits {
            self.looks_at = now;
        }
    }

    fn observe(&self, host: &Host, desired: Option<&Desired>, now: Timestamp) -> Option<Observed> {
        let wanted = desired.into_iter().flat_map(|desired| desired.instances.values());
        let images = wanted.map(|one| container::image(&one.spec));
        let images = images.filter(|image| host.engine.images.contains(image)).collect();
        let mut observed = Observed {
            containers: self.containers.clone()?,
            images,
            volumes: host.engine.volumes.clone(),
            published: self.published.clone(),
            memory: self.memory.clone(),
            ..Observed::default()
        };
        let asked = publish::successors(&ours(host, &observed), &observed);
        let refuses = |target: &Target| !host.engine.accepts(target.address, now);
        observed.unready = asked.into_iter().filter(refuses).collect();
        Some(observed)
    }
}

fn ours<'a>(host: &Host, observed: &'a Observed) -> Vec<(Identity, &'a Container)> {
    let containers = observed.containers.iter();
    let mut ours: Vec<_> = containers
        .filter_map(|container| Some((Identity::of(container, &host.owner)?, container)))
        .collect();
    ours.sort_by(|(_, left), (_, right)| left.id.cmp(&right.id));
    ours
}
