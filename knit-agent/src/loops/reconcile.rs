//! Makes the node what it should be, again and again.
//!
//! ```text
//!  assignment, mesh, registration, finished jobs, Docker's events ──wake──┐
//!  every 2 s ──tick──┐   a pause or a time that is over ──wake──┐         │
//!                    └─> read Docker? -> decide -> start jobs -> publish -> start what stops
//!
//!  a probe is due ─> ask ─> answer ─> does it change what is thought? ──wake──┘
//! ```
//!
//! Waking is a hint, the tick is the guarantee. Jobs and questions run beside the loop: what takes
//! long for one instance keeps no other waiting. What is new in an assignment is compared with
//! what was read last: events keep that fresh.
//!
//! Invariant: nothing is published, stopped or reported before Docker was read for the first
//! time, so an agent that starts anew drops nothing. Nothing is stopped before its ports lead
//! elsewhere.

mod jobs;
mod observe;
mod publish;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use knit_agent_core::container::Identity;
use knit_agent_core::network::Network;
use knit_agent_core::nft::Rules;
use knit_agent_core::observed::Memory;
use knit_agent_core::publish::PortMap;
use knit_agent_core::{
    Action, Container, Desired, Observed, Owner, last_words, publish as ports, reconcile, status,
    timer,
};
use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::spec::VolumeName;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::engine::{Engine, EngineInfo};
use crate::executor::{Executor, REPORTS_MAX, Report};
use crate::files::Files;
use crate::files::secrets::SecretFiles;
use crate::firewall::Firewall;
use crate::registry::Registries;
use crate::shared::{Inventory, Shared};

const TICK: Duration = Duration::from_secs(2);
/// Docker is read in full this often even when nothing seems to happen.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Events come in bursts; one read answers them all.
const SETTLE: Duration = Duration::from_millis(20);
/// While more instances than this are being worked on, Docker is read at most every
/// [`READ_APART`]: it has better to do.
const READ_FREELY_MAX: usize = 8;
const READ_APART: Duration = Duration::from_millis(250);
/// How often a container that is to take a port over is asked whether it accepts connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
const EVENTS_RETRY: Duration = Duration::from_secs(2);
/// An agent that starts anew reports once those that it found up were asked, or after this long.
const UNDECIDED_MAX: Duration = Duration::from_secs(2);

/// The loop and what it alone knows.
pub struct Reconciler {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    firewall: Arc<dyn Firewall>,
    files: Files,
    executor: Executor,
    reports: mpsc::Receiver<Report>,
    memory: Memory,
    /// Instances whose jobs ended since Docker was read: what they did is not seen yet.
    finished: Vec<InstanceId>,
    /// None before Docker was read for the first time.
    containers: Option<Vec<Container>>,
    read_at: Option<Instant>,
    asked_info_at: Option<Instant>,
    info: Option<EngineInfo>,
    networks: Vec<Network>,
    volumes: BTreeSet<VolumeName>,
    /// Something was done that may have made or removed one.
    volumes_changed: bool,
    /// Images that were found here, and when.
    images: BTreeMap<String, Instant>,
    /// What the firewall publishes; none before the first time.
    published: Option<PortMap>,
    /// The rules that stood last time somebody looked, and when that was.
    asserted: Option<(Rules, Instant)>,
    troubles: Troubles,
    /// Instances whose last lines are being read.
    awaited_words: BTreeSet<InstanceId>,
    started_at: Instant,
    /// When Docker is to be read because it said that something happened.
    reads_at: Option<Instant>,
    /// When to see again whether a container accepts connections and takes a port over.
    accepts_at: Option<Instant>,
    /// When something is due although nothing happens.
    due_at: Option<Instant>,
    /// When the next probe is due.
    asks_at: Option<Instant>,
}

/// What keeps the node from running containers, by who says so.
#[derive(Debug, Default)]
struct Troubles {
    engine: Option<String>,
    network: Option<String>,
    firewall: Option<String>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Nothing,
    /// Decide anew on what is known.
    Step,
    /// Read Docker first.
    Read,
}

impl Reconciler {
    pub fn new(shared: Arc<Shared>, engine: Arc<dyn Engine>, firewall: Arc<dyn Firewall>) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let opening = Arc::clone(&shared.identity.opening);
        let secrets = SecretFiles::new(&shared.config.secrets_dir, opening);
        let files = Files::new(&shared.config.state_dir, secrets);
        let assignment = shared.assignment.subscribe();
        let images = shared.images.clone();
        let policy = shared.config.policy.clone();
        let executor = Executor::new(
            Arc::clone(&engine),
            files.clone(),
            images,
            policy,
            Registries::new(Arc::clone(&shared)),
            sender,
            assignment,
        );
        Self {
            shared,
            engine,
            firewall,
            files,
            executor,
            reports,
            memory: Memory::default(),
            finished: Vec::new(),
            containers: None,
            read_at: None,
            asked_info_at: None,
            info: None,
            networks: Vec::new(),
            volumes: BTreeSet::new(),
            volumes_changed: false,
            images: BTreeMap::new(),
            published: None,
            asserted: None,
            troubles: Troubles::default(),
            awaited_words: BTreeSet::new(),
            started_at: Instant::now(),
            reads_at: None,
            accepts_at: None,
            due_at: None,
            asks_at: None,
        }
    }

    pub async fn run(mut self) {
        let mut registration = self.shared.registration.subscribe();
        let Ok(owner) = registration.wait_for(Option::is_some).await.map(|known| {
            known.as_ref().map(|registration| Owner {
                cluster: registration.cluster.clone(),
                node: self.shared.identity.node.clone(),
            })
        }) else {
            return;
        };
        let Some(owner) = owner else { return };
        let mut assignment = self.shared.assignment.subscribe();
        let mut mesh = self.shared.mesh.subscribe();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let happened = Arc::new(Notify::new());
        let watching = watch_events(Arc::clone(&self.engine), owner.clone(), Arc::clone(&happened));
        tokio::pin!(watching);
        loop {
            let mut wake = tokio::select! {
                () = &mut watching => Wake::Nothing,
                () = until(self.reads_at) => Wake::Read,
                () = until(self.accepts_at) => Wake::Step,
                // Read, because one that ended in time must not count.
                () = until(self.due_at) => Wake::Read,
                () = until(self.asks_at) => Wake::Nothing,
                _ = tick.tick() => if self.read_is_due() { Wake::Read } else { Wake::Step },
                Ok(()) = assignment.changed() => Wake::Step,
                Ok(()) = mesh.changed() => Wake::Step,
                Ok(()) = registration.changed() => Wake::Read,
                () = happened.notified() => {
                    self.reads_at.get_or_insert_with(|| Instant::now() + SETTLE);
                    Wake::Nothing
                }
                Some(report) = self.reports.recv() => self.take(report),
            };
            while let Ok(report) = self.reports.try_recv() {
                wake = wake.max(self.take(report));
            }
            let pause = self.read_pause();
            if wake == Wake::Read && !pause.is_zero() {
                self.reads_at = Some(Instant::now() + pause);
            } else if wake != Wake::Nothing {
                self.step(&owner, wake == Wake::Read).await;
            }
            self.ask();
        }
    }

    fn read_is_due(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= READ_EVERY)
    }

    /// How long Docker is to be left alone.
    fn read_pause(&self) -> Duration {
        let is_busy = self.memory.busy.len() > READ_FREELY_MAX;
        let last = self.read_at.filter(|_| is_busy);
        last.map(|at| READ_APART.saturating_sub(at.elapsed())).unwrap_or_default()
    }

    async fn step(&mut self, owner: &Owner, read: bool) {
        if read || self.containers.is_none() {
            self.reads_at = None;
            self.read(owner).await;
            for instance in std::mem::take(&mut self.finished) {
                self.memory.busy.remove(&instance);
            }
        }
        let assignment = self.shared.assignment.borrow().clone();
        let desired = assignment.as_ref().map(|assignment| Arc::clone(&assignment.desired));
        let observed = self.observe(owner, desired.as_deref()).await;
        let Some(mut observed) = observed else {
            self.guard_at_least().await;
            return self.tell(None);
        };
        self.accepts_at = (!observed.deaf.is_empty()).then(|| Instant::now() + ACCEPT_RETRY);
        let now = knit_runtime::clock::now();
        for (identity, container) in ours(owner, &observed) {
            self.memory.saw(&identity.instance, container);
        }
        if let Some(desired) = desired.as_deref() {
            self.decide(owner, desired, &observed, now).await;
        } else {
            // What runs keeps its ports, and nothing else is done.
            let wanted = ports::wanted(None, &ours(owner, &observed), &observed, now);
            self.publish(wanted).await;
        }
        observed.published = self.published.clone().unwrap_or_default();
        observed.memory.clone_from(&self.memory);
        let instances = status::inventory(owner, desired.as_deref(), &observed, now);
        let known = instances.iter().map(|one| one.id.clone()).collect();
        self.memory.keep(&known);
        self.due_at = desired.as_deref().and_then(|desired| {
            let next = timer::next(desired, &ours(owner, &observed), &observed, now)?;
            Some(Instant::now() + next.since(now))
        });
        let applied = assignment.map(|held| held.generation).unwrap_or_default();
        let instances = self.with_last_words(instances);
        let undecided =
            self.memory.probes.is_undecided() && self.started_at.elapsed() < UNDECIDED_MAX;
        self.tell((!undecided).then_some(Inventory { instances, applied }));
    }

    /// Starts what is to be done, and publishes. What makes containers waits for no rules; what
    /// stops them waits until their ports lead elsewhere.
    async fn decide(
        &mut self,
        owner: &Owner,
        desired: &Desired,
        observed: &Observed,
        now: Timestamp,
    ) {
        let mesh: BTreeSet<_> = self.shared.place().into_iter().map(|(ip, _)| ip).collect();
        let mut actions = reconcile(desired, observed, &mesh, now);
        let wanted = actions.iter().find_map(Action::ports).unwrap_or(&observed.published).clone();
        if self.troubles.engine.is_some() {
            actions.clear();
        }
        let ours = ours(owner, observed);
        let superseded = ports::superseded(desired, &ours, &observed.published, &wanted);
        self.gather_last_words(last_words::due(desired, &ours, observed, now));
        let (tidying, actions): (Vec<_>, Vec<_>) = actions.into_iter().partition(Action::tidies);
        self.tidy(owner, tidying);
        let (stopping, making): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.jobs(actions).into_iter().partition(|(_, job)| job.iter().any(Action::stops));
        self.carry_out(owner, desired, making);
        if self.publish(wanted).await {
            for (identity, container) in &ours {
                let drain = container.address().and_then(|address| superseded.get(&address));
                if let Some(drain) = drain {
                    self.memory.superseded.insert(identity.instance.clone(), now.plus(*drain));
                }
            }
            self.carry_out(owner, desired, stopping);
        }
    }
}

/// Our containers, in an order that does not depend on how they were listed.
fn ours<'a>(owner: &Owner, observed: &'a Observed) -> Vec<(Identity, &'a Container)> {
    let containers = observed.containers.iter();
    let mut ours: Vec<_> = containers
        .filter_map(|container| Some((Identity::of(container, owner)?, container)))
        .collect();
    ours.sort_by(|(_, left), (_, right)| left.id.cmp(&right.id));
    ours
}

/// Wakes the loop when Docker says that something happened; for ever.
async fn watch_events(engine: Arc<dyn Engine>, owner: Owner, happened: Arc<Notify>) {
    loop {
        let mut events = engine.events(&owner);
        while events.next().await.is_some() {
            happened.notify_one();
        }
        sleep(EVENTS_RETRY).await;
        // Docker may be back with everything changed.
        happened.notify_one();
    }
}

/// Returns at a moment; never without one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
