//! What there is on this node: read from Docker, from the host, and from the agent's own memory
//! of what it is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::spec::{Protocol, VolumeName};

use crate::action::Action;
use crate::backoff;
use crate::network::{Network, Route};
use crate::publish::{PortMap, Target};

/// Everything that a decision looks at besides what is desired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Containers that carry any of our labels; whose they are is checked, not assumed.
    pub containers: Vec<Container>,
    /// Images that are here, among those that instances want.
    pub images: BTreeSet<String>,
    /// All networks of the engine's.
    pub networks: Vec<Network>,
    /// Our volumes that are here.
    pub volumes: BTreeSet<VolumeName>,
    /// Where the host's own addresses and routes lead.
    pub routes: Vec<Route>,
    /// Instances that have a directory of files.
    pub files: BTreeSet<InstanceId>,
    /// The ports as they are published now.
    pub published: PortMap,
    /// Where nothing accepts connections yet; asked only of containers that are to take a port
    /// over from another one.
    pub unready: BTreeSet<Target>,
    /// What listens on the host's own ports.
    pub listeners: Vec<Listener>,
    /// Addresses of the host's interfaces.
    pub interfaces: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    pub memory: Memory,
}

/// A container as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub state: ContainerState,
    /// That it is on right now, with an IPv4 address or without; the host's own is one of them.
    pub networks: BTreeSet<String>,
    /// By network.
    pub addresses: BTreeMap<String, Ipv4Addr>,
    pub image_id: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: Option<i64>,
    /// Why the engine could not start it; empty when it could.
    pub error: String,
    /// What its image's own HEALTHCHECK says; none when it has none, or does not run.
    pub healthcheck: Option<Healthcheck>,
    /// Docker volumes that it may write to, by name.
    pub volumes: BTreeSet<String>,
}

/// What Docker's own HEALTHCHECK says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    pub state: HealthState,
    /// From the container's start until the first answer may be there.
    pub first_within: Duration,
    /// The last answer, shortened; empty before there is one.
    pub answer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerState {
    Created,
    Running,
    Paused,
    Exited,
    Removing,
    Dead,
}

impl ContainerState {
    /// Whether its process lives.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl Container {
    /// The address that ports lead to: on the node's own network where it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        let own = self.addresses.get(crate::container::NETWORK);
        own.or_else(|| self.addresses.values().next()).copied()
    }

    /// Whether it was taken off its network while it runs: nobody reaches it.
    pub fn is_cut_off(&self) -> bool {
        self.state == ContainerState::Running && self.networks.is_empty()
    }

    /// How much longer it has to be up until it counts as running; none when it does, or is not up.
    pub fn settles_in(&self, now: Timestamp) -> Option<Duration> {
        let started = self.started_at.filter(|_| self.state.is_up())?;
        // The clock was set back: nobody knows how long it has been up.
        if started > now {
            return None;
        }
        let left = self.settle().saturating_sub(now.since(started));
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn settle(&self) -> Duration {
        if self.finished_at.is_some() { backoff::SETTLE_AGAIN } else { backoff::SETTLE }
    }

    /// Whether it last ran long enough to count as started.
    pub fn was_stable(&self) -> bool {
        match (self.started_at, self.finished_at) {
            (Some(start), Some(end)) => end.since(start) >= backoff::STABLE_AFTER,
            _ => false,
        }
    }
}

/// A socket of the host's that listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub protocol: Protocol,
    /// None when it listens on every address.
    pub address: Option<Ipv4Addr>,
    pub port: u16,
    /// Such as `sshd (pid 812)`.
    pub process: String,
}

/// What the agent remembers of its own doing; an agent that starts anew remembers nothing, and
/// nothing but pauses and messages depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Instances that something is being done for right now, and what.
    pub busy: BTreeMap<InstanceId, Step>,
    pub faults: BTreeMap<InstanceId, Fault>,
    pub restarts: BTreeMap<InstanceId, Restarts>,
    /// With which code an instance's container ended last: the engine forgets it on a start.
    pub exits: BTreeMap<InstanceId, i64>,
    /// When another container took an instance's port over.
    pub superseded: BTreeMap<InstanceId, Timestamp>,
    pub tidying: Tidying,
}

/// How clearing away networks and volumes goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tidying {
    pub busy: bool,
    /// In a row.
    pub failures: u32,
    pub retry_at: Timestamp,
}

impl Tidying {
    /// Notes how it went.
    pub fn done(&mut self, failed: bool, now: Timestamp) {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        let pause = if failed { backoff::pause(self.failures) } else { Duration::ZERO };
        (self.busy, self.retry_at) = (false, now.plus(pause));
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        !self.busy && self.retry_at <= now
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pulling,
    Starting,
    Stopping,
}

/// Why the last attempt for an instance failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    /// Whether waiting will not mend it.
    pub permanent: bool,
    /// Whether nothing was tried at all because something is in the way: it is looked at again
    /// each time, and goes ahead as soon as the way is free.
    pub blocked: bool,
    pub attempts: u32,
    pub retry_at: Timestamp,
}

/// How often the agent has started a container again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restarts {
    pub count: u32,
    /// In a row, without a stable run between.
    pub streak: u32,
}

impl Memory {
    /// Notes a failure and when to try again.
    pub fn failed(&mut self, id: &InstanceId, message: String, permanent: bool, now: Timestamp) {
        let attempts = self.faults.get(id).map_or(0, |fault| fault.attempts).saturating_add(1);
        let pause = if permanent { backoff::PERMANENT_RETRY } else { backoff::pause(attempts) };
        let retry_at = now.plus(pause);
        let fault = Fault { message, permanent, blocked: false, attempts, retry_at };
        self.faults.insert(id.clone(), fault);
    }

    /// Notes that something is in an instance's way.
    pub fn blocked(&mut self, id: &InstanceId, message: String, now: Timestamp) {
        let fault = Fault { message, permanent: true, blocked: true, attempts: 0, retry_at: now };
        self.faults.insert(id.clone(), fault);
    }

    /// Notes that all of `actions` were done for an instance, whose container had run well before
    /// if `was_stable`. Only a start mends a fault: clearing away a container that could not be
    /// started must not make it be tried again at once.
    pub fn succeeded(&mut self, id: &InstanceId, actions: &[Action], was_stable: bool) {
        let again = actions.iter().find_map(|action| match action {
            Action::Start { again, .. } => Some(*again),
            Action::Publish(_)
            | Action::Pull { .. }
            | Action::WriteFiles { .. }
            | Action::EnsureNetwork { .. }
            | Action::EnsureVolume { .. }
            | Action::RemoveNetwork(_)
            | Action::RemoveVolume(_)
            | Action::Create { .. }
            | Action::Stop { .. }
            | Action::Remove { .. }
            | Action::RemoveFiles { .. }
            | Action::Fail { .. } => None,
        });
        if again.is_some() {
            self.faults.remove(id);
        }
        if again == Some(true) {
            self.restarted(id, was_stable);
        }
    }

    fn restarted(&mut self, id: &InstanceId, was_stable: bool) {
        let restarts = self.restarts.entry(id.clone()).or_default();
        restarts.count = restarts.count.saturating_add(1);
        restarts.streak = if was_stable { 1 } else { restarts.streak.saturating_add(1) };
    }

    /// Notes with which code an instance's container ended, if it did.
    pub fn saw(&mut self, id: &InstanceId, container: &Container) {
        if let Some(code) =
            container.exit_code.filter(|_| container.state == ContainerState::Exited)
        {
            self.exits.insert(id.clone(), code);
        }
    }

    /// Forgets instances that are neither wanted nor there.
    pub fn keep(&mut self, known: &BTreeSet<InstanceId>) {
        self.faults.retain(|id, _| known.contains(id));
        self.restarts.retain(|id, _| known.contains(id));
        self.exits.retain(|id, _| known.contains(id));
        self.superseded.retain(|id, _| known.contains(id));
    }

    /// Whether connections that an instance had when its port moved may still be under way.
    pub(crate) fn drains(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.superseded.get(id).is_some_and(|at| now.since(*at) < backoff::DRAIN)
    }

    pub(crate) fn waits(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.faults.get(id).is_some_and(|fault| fault.retry_at > now)
    }

    pub(crate) fn is_blocked_by(&self, id: &InstanceId, reason: &str) -> bool {
        self.faults.get(id).is_some_and(|fault| fault.blocked && fault.message == reason)
    }

    /// How long to wait before a container that ended is started again.
    pub(crate) fn restart_pause(&self, id: &InstanceId, was_stable: bool) -> Duration {
        let streak = self.restarts.get(id).map_or(0, |restarts| restarts.streak);
        backoff::pause(if was_stable { 0 } else { streak + 1 })
    }
}
