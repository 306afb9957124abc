//! The reconciling loop: as `knit-agent` has it, without its sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_agent_core::container::{self, Identity};
use knit_agent_core::memory::Memory;
use knit_agent_core::probe::{Answer, Question};
use knit_agent_core::publish::{self, PortMap, Target};
use knit_agent_core::{Action, Container, Desired, Observed, reconcile, status, timer};
use knit_rpc::Timestamp;
use knit_rpc::id::{InstanceId, NodeId};
use knit_rpc::message::{Generation, InstanceStatus};

use super::Host;
use super::beats::Beats;
use super::jobs::Job;
use super::reports::Reporter;
use crate::simulation::rng::Rng;

/// It looks at everything this often even when nothing seems to happen.
const TICK: Duration = Duration::from_secs(2);
/// An agent that starts anew reports once those that it found up were asked, or after this long.
const UNDECIDED_MAX: Duration = Duration::from_secs(2);

/// A run of the agent: all that it forgets when it is killed.
#[derive(Debug)]
pub(in crate::simulation) struct Agent {
    pub(in crate::simulation) start: Timestamp,
    pub(super) memory: Memory,
    /// As read last; none before Docker was read for the first time.
    pub(super) containers: Option<Vec<Container>>,
    /// What is published, once it has looked.
    published: Option<PortMap>,
    /// Questions under way.
    asked: Vec<Question>,
    pub(super) jobs: Vec<Job>,
    pub(super) inventory: Option<Inventory>,
    pub(super) trouble: Option<String>,
    pub(super) beats: Beats,
    pub(super) reporter: Reporter,
    wake: Wake,
    looks_at: Timestamp,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    #[default]
    Nothing,
    /// Decide anew on what is known.
    Step,
    /// Read Docker first.
    Read,
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
            published: None,
            asked: Vec::new(),
            jobs: Vec::new(),
            inventory: None,
            trouble: None,
            beats: Beats::default(),
            reporter: Reporter::default(),
            wake: Wake::Read,
            looks_at: now,
        }
    }

    pub(super) fn wake(&mut self, wake: Wake) {
        self.wake = self.wake.max(wake);
    }

    /// Somebody wants the whole inventory.
    pub(in crate::simulation) fn ask_report(&mut self) {
        self.reporter.ask_all();
        self.beats.ask_facts();
    }

    pub(in crate::simulation) fn probed(&mut self, answers: BTreeMap<NodeId, bool>) {
        self.beats.probed(answers);
    }

    pub(in crate::simulation) fn stored(&mut self, sequence: u64) {
        self.reporter.stored(sequence);
    }

    /// Looks at the node and begins what is to be done, when there is reason to.
    pub(super) fn decide(&mut self, host: &mut Host, now: Timestamp, rng: &mut Rng) {
        let happened = std::mem::take(&mut host.engine.changed);
        let (woken, due) = (std::mem::take(&mut self.wake), now >= self.looks_at);
        if woken == Wake::Nothing && !happened && !due {
            return;
        }
        self.looks_at = now.plus(TICK);
        if happened || due || woken == Wake::Read || self.containers.is_none() {
            self.read(host);
        }
        let published = self.published.get_or_insert_with(|| host.rules.clone()).clone();
        let desired = host.disk.as_ref().and_then(|held| Desired::of(held).ok());
        let observed = self.observe(host, desired.as_ref(), published, now);
        let Some(mut observed) = observed else { return };
        for (identity, container) in ours(host, &observed) {
            self.memory.saw(&identity.instance, container);
        }
        if let Some(desired) = &desired {
            self.do_what_is_due(host, desired, &observed, now, rng);
        } else {
            self.publish(host, publish::wanted(None, &ours(host, &observed), &observed, now));
        }
        observed.published = host.rules.clone();
        observed.memory.clone_from(&self.memory);
        let instances = status::inventory(&host.owner, desired.as_ref(), &observed, now);
        let known = instances.iter().map(|one| one.id.clone()).collect();
        self.memory.keep(&known);
        let next = desired
            .as_ref()
            .and_then(|desired| timer::next(desired, &ours(host, &observed), &observed, now));
        self.looks_at = self.looks_at.min(next.unwrap_or(self.looks_at));
        if !observed.deaf.is_empty() {
            self.looks_at = now;
        }
        let is_undecided =
            self.memory.probes.is_undecided() && now.since(self.start) < UNDECIDED_MAX;
        if !is_undecided {
            let instances = instances.into_iter().map(|one| (one.id.clone(), one)).collect();
            let applied = host.disk.as_ref().map(|held| held.generation).unwrap_or_default();
            self.inventory = Some(Inventory { instances, applied });
        }
    }

    fn read(&mut self, host: &Host) {
        match host.engine.list() {
            Ok(containers) => (self.containers, self.trouble) = (Some(containers), None),
            Err(refusal) => self.trouble = Some(refusal.message),
        }
    }

    fn do_what_is_due(
        &mut self,
        host: &mut Host,
        desired: &Desired,
        observed: &Observed,
        now: Timestamp,
        rng: &mut Rng,
    ) {
        let mesh = BTreeSet::from([host.mesh_ip]);
        let mut actions = reconcile(desired, observed, &mesh, now);
        let wanted = actions.iter().find_map(Action::ports).unwrap_or(&observed.published).clone();
        if self.trouble.is_some() {
            actions.clear();
        }
        let ours = ours(host, observed);
        let superseded = publish::superseded(desired, &ours, &observed.published, &wanted);
        for (identity, container) in &ours {
            let drain = container.address().and_then(|address| superseded.get(&address));
            if let Some(drain) = drain {
                self.memory.superseded.insert(identity.instance.clone(), now.plus(*drain));
            }
        }
        self.publish(host, wanted);
        self.begin(host, desired, actions, now, rng);
    }

    fn publish(&mut self, host: &mut Host, wanted: PortMap) {
        host.rules.clone_from(&wanted);
        self.published = Some(wanted);
    }

    fn observe(
        &mut self,
        host: &Host,
        desired: Option<&Desired>,
        published: PortMap,
        now: Timestamp,
    ) -> Option<Observed> {
        let wanted = desired.into_iter().flat_map(|desired| desired.instances.values());
        let images = wanted.map(|one| container::image(&one.spec));
        let mut observed = Observed {
            containers: self.containers.clone()?,
            images: images.filter(|image| host.engine.images.contains(image)).collect(),
            volumes: host.engine.volumes.clone(),
            published,
            ..Observed::default()
        };
        let ours = ours(host, &observed);
        if let Some(desired) = desired {
            self.memory.probes.follow(desired, &ours, &observed.published, now);
        }
        let asked = publish::successors(desired, &ours, &observed);
        let refuses = |target: &Target| !host.engine.accepts(target.address, now);
        observed.deaf = asked.into_iter().filter(refuses).collect();
        observed.memory.clone_from(&self.memory);
        Some(observed)
    }

    /// Asks the questions that are due, and takes the answers of those that were asked before.
    pub(super) fn ask(&mut self, host: &Host, now: Timestamp) {
        for question in std::mem::take(&mut self.asked) {
            let container = self.containers.iter().flatten();
            let mut container = container.filter(|one| one.id == question.run.container);
            let address = container.next().and_then(Container::address);
            let answer = match address {
                Some(address) if host.engine.accepts(address, now) => Answer::Well,
                Some(_) => Answer::Ill("connection refused".to_owned()),
                None => Answer::Unasked,
            };
            if self.memory.probes.answered(&question, answer) {
                self.wake = self.wake.max(Wake::Step);
            }
        }
        self.asked = self.memory.probes.ask(now);
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
