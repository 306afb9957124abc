//! Makes the node what it should be, again and again.
//!
//! ```text
//!  assignment, mesh, registration, Docker's events, finished jobs ──wake──┐
//!  every 2 s ──tick──┐                                                   │
//!                    └─> read Docker -> decide -> publish -> start jobs <─┘
//! ```
//!
//! Waking is a hint, the tick is the guarantee. Jobs run beside the loop: what takes long for one
//! instance keeps no other waiting.
//!
//! Invariant: nothing is published, stopped or reported before Docker was read for the first
//! time, so an agent that starts anew drops nothing.

mod jobs;
mod observe;
mod publish;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use knit_agent_core::container::Identity;
use knit_agent_core::network::Network;
use knit_agent_core::observed::Memory;
use knit_agent_core::publish::PortMap;
use knit_agent_core::{Action, Container, Observed, Owner, publish as ports, reconcile, status};
use knit_rpc::spec::VolumeName;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use crate::engine::{Engine, EngineInfo};
use crate::executor::{Executor, REPORTS_MAX, Report};
use crate::files::Files;
use crate::firewall::Firewall;
use crate::shared::{EngineFacts, Inventory, Shared};

const TICK: Duration = Duration::from_secs(2);
/// Docker is read in full this often even when nothing seems to happen.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Events come in bursts; one read answers them all.
const SETTLE: Duration = Duration::from_millis(20);
/// How often a container that is to take a port over is asked whether it accepts connections.
const READY_RETRY: Duration = Duration::from_millis(200);
const EVENTS_RETRY: Duration = Duration::from_secs(2);

/// The loop and what it alone knows.
pub struct Reconciler {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    firewall: Arc<dyn Firewall>,
    files: Files,
    executor: Executor,
    reports: mpsc::Receiver<Report>,
    memory: Memory,
    /// None before Docker was read for the first time.
    containers: Option<Vec<Container>>,
    read_at: Option<Instant>,
    asked_info_at: Option<Instant>,
    info: Option<EngineInfo>,
    networks: Vec<Network>,
    volumes: BTreeSet<VolumeName>,
    /// What the firewall publishes; unknown before the first time.
    published: PortMap,
    troubles: Troubles,
    /// A container is about to accept connections and take a port over.
    awaits_ready: bool,
    /// When a container may have been up for long enough to count as running.
    settles_at: Option<Instant>,
}

/// What keeps the node from running containers, by who says so.
#[derive(Debug, Default)]
struct Troubles {
    engine: Option<String>,
    network: Option<String>,
    firewall: Option<String>,
}

impl Reconciler {
    pub fn new(shared: Arc<Shared>, engine: Arc<dyn Engine>, firewall: Arc<dyn Firewall>) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS_MAX);
        let files = Files::new(&shared.config.state_dir);
        let assignment = shared.assignment.subscribe();
        let executor = Executor::new(Arc::clone(&engine), files.clone(), sender, assignment);
        Self {
            shared,
            engine,
            firewall,
            files,
            executor,
            reports,
            memory: Memory::default(),
            containers: None,
            read_at: None,
            asked_info_at: None,
            info: None,
            networks: Vec::new(),
            volumes: BTreeSet::new(),
            published: PortMap::new(),
            troubles: Troubles::default(),
            awaits_ready: false,
            settles_at: None,
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
            let mut read = true;
            let settles_at = self.settles_at.unwrap_or_else(Instant::now).into();
            tokio::select! {
                () = &mut watching => {}
                () = sleep(READY_RETRY), if self.awaits_ready => read = false,
                // Read, because one that ended in time must not count.
                () = sleep_until(settles_at), if self.settles_at.is_some() => {}
                _ = tick.tick() => read = self.read_is_due(),
                Ok(()) = assignment.changed() => {}
                Ok(()) = mesh.changed() => read = false,
                Ok(()) = registration.changed() => {}
                () = happened.notified() => sleep(SETTLE).await,
                Some(report) = self.reports.recv() => read = self.take(report),
            }
            while let Ok(report) = self.reports.try_recv() {
                read |= self.take(report);
            }
            self.step(&owner, read).await;
        }
    }

    fn read_is_due(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= READ_EVERY)
    }

    async fn step(&mut self, owner: &Owner, read: bool) {
        if read || self.containers.is_none() {
            self.read(owner).await;
        }
        let assignment = self.shared.assignment.borrow().clone();
        let desired = assignment.as_ref().map(|assignment| Arc::clone(&assignment.desired));
        let observed = self.observe(owner, desired.as_deref()).await;
        let Some(mut observed) = observed else {
            self.guard_at_least().await;
            return self.tell(None);
        };
        self.awaits_ready = !observed.unready.is_empty();
        let now = knit_runtime::clock::now();
        self.settles_at =
            status::settles_in(owner, &observed, now).map(|left| Instant::now() + left);
        for (identity, container) in ours(owner, &observed) {
            self.memory.saw(&identity.instance, container);
        }
        let mesh: BTreeSet<_> = self.shared.place().into_iter().map(|(ip, _)| ip).collect();
        let actions = match desired.as_deref() {
            Some(desired) => reconcile(desired, &observed, &mesh, now),
            None => adopt(owner, &observed),
        };
        let wanted = actions.iter().find_map(Action::ports).unwrap_or(&self.published).clone();
        let superseded = ports::superseded(&self.published, &wanted);
        let is_published = self.publish(wanted).await;
        if is_published && !superseded.is_empty() {
            for (identity, container) in ours(owner, &observed) {
                if container.address().is_some_and(|address| superseded.contains(&address)) {
                    self.memory.superseded.insert(identity.instance, now);
                }
            }
        }
        observed.published.clone_from(&self.published);
        if let Some(desired) = desired.as_deref().filter(|_| self.troubles.engine.is_none()) {
            self.carry_out(owner, desired, actions, is_published);
        }
        observed.memory.clone_from(&self.memory);
        let instances = status::inventory(owner, desired.as_deref(), &observed, now);
        let known = instances.iter().map(|one| one.id.clone()).collect();
        self.memory.keep(&known);
        let applied = assignment.map(|held| held.generation).unwrap_or_default();
        let instances = instances.into_iter().map(|one| (one.id.clone(), one)).collect();
        self.tell(Some(Inventory { instances, applied }));
    }

    /// Lets the other loops know.
    fn tell(&mut self, inventory: Option<Inventory>) {
        if let Some(inventory) = inventory {
            self.shared.inventory.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&inventory);
                if changed {
                    *known = Some(inventory);
                }
                changed
            });
        }
        let Troubles { engine, network, firewall } = &self.troubles;
        let trouble = engine.as_ref().or(network.as_ref()).or(firewall.as_ref()).cloned();
        let info = self.info.clone().filter(|_| engine.is_none());
        self.shared.engine.send_if_modified(|known| {
            let facts = EngineFacts { info, trouble };
            let changed = *known != facts;
            if changed && facts.trouble != known.trouble {
                let text = facts.trouble.as_deref();
                tracing::warn!("{}", text.unwrap_or("this node can run containers again"));
            }
            *known = facts;
            changed
        });
    }
}

/// Without an assignment what runs keeps its ports, and nothing else is done.
fn adopt(owner: &Owner, observed: &Observed) -> Vec<Action> {
    vec![Action::Publish(ports::wanted(None, &ours(owner, observed), observed))]
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
