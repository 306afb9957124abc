//! What the agent remembers of its own doing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::message::{LOG_LINE_CHARS_MAX, LOG_LINES_MAX, PullProgress};

use crate::action::{Action, GivenUp};
use crate::backoff;
use crate::observed::{Container, ContainerState};
use crate::probe::{Probes, Run};

/// An agent that starts anew remembers nothing, and nothing but pauses and messages depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Instances that something is being done for right now, and what.
    pub busy: BTreeMap<InstanceId, Step>,
    pub faults: BTreeMap<InstanceId, Fault>,
    pub restarts: BTreeMap<InstanceId, Restarts>,
    /// With which code an instance's container ended last: the engine forgets it on a start.
    pub exits: BTreeMap<InstanceId, i64>,
    /// Until when an instance whose port another one took over goes on with the connections that
    /// it has.
    pub superseded: BTreeMap<InstanceId, Timestamp>,
    /// How far an instance's image is pulled.
    pub pulls: BTreeMap<InstanceId, PullProgress>,
    /// What an instance wrote last in a run that ended or was given up.
    pub logs: BTreeMap<InstanceId, Log>,
    /// The run of an instance that was given up last, and why.
    pub given_up: BTreeMap<InstanceId, (Run, String)>,
    /// What instances answered.
    pub probes: Probes,
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

/// The end of what was written in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub run: Run,
    pub lines: Arc<[String]>,
}

impl Log {
    /// Cut to what a report may carry.
    pub fn of(run: Run, lines: &[String]) -> Self {
        let newest = &lines[lines.len().saturating_sub(LOG_LINES_MAX)..];
        let cut = |line: &String| line.chars().take(LOG_LINE_CHARS_MAX).collect();
        Self { run, lines: newest.iter().map(cut).collect() }
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
    /// Whether it was to go: what was wrong with its start keeps no instance from going.
    pub leaving: bool,
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
        let (blocked, leaving) = (false, false);
        let fault = Fault { message, permanent, blocked, leaving, attempts, retry_at };
        self.faults.insert(id.clone(), fault);
    }

    /// Notes that an instance could not be stopped or cleared away, and when to try again.
    pub fn failed_to_go(
        &mut self,
        id: &InstanceId,
        message: String,
        permanent: bool,
        now: Timestamp,
    ) {
        self.failed(id, message, permanent, now);
        if let Some(fault) = self.faults.get_mut(id) {
            fault.leaving = true;
        }
    }

    /// Notes that something is in an instance's way.
    pub fn blocked(&mut self, id: &InstanceId, message: String, now: Timestamp) {
        let (permanent, blocked, leaving) = (true, true, false);
        let fault = Fault { message, permanent, blocked, leaving, attempts: 0, retry_at: now };
        self.faults.insert(id.clone(), fault);
    }

    /// Notes that all of `actions` were done for an instance, whose container had run well before
    /// if `was_stable`. Only a start mends a fault: clearing away a container that could not be
    /// started must not make it be tried again at once.
    pub fn succeeded(&mut self, id: &InstanceId, actions: &[Action], was_stable: bool) {
        for action in actions {
            if let Action::Start { again, .. } = action {
                self.faults.remove(id);
                if *again {
                    self.restarted(id, was_stable);
                }
            }
        }
    }

    /// Notes that a run is about to be ended, and why.
    pub fn gives_up(
        &mut self,
        id: &InstanceId,
        run: Run,
        why: GivenUp,
        reason: &str,
        now: Timestamp,
    ) {
        self.given_up.insert(id.clone(), (run, reason.to_owned()));
        if why == GivenUp::Late {
            self.failed(id, reason.to_owned(), true, now);
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
        self.pulls.retain(|id, _| known.contains(id));
        self.logs.retain(|id, _| known.contains(id));
        self.given_up.retain(|id, _| known.contains(id));
    }

    /// Whether connections that an instance had when its port moved may still be under way.
    pub(crate) fn drains(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.superseded.get(id).is_some_and(|until| now < *until)
    }

    /// How often an instance has ended in a row, if its container ended just now.
    pub(crate) fn ends(&self, id: &InstanceId, container: &Container) -> u32 {
        let streak = self.restarts.get(id).map_or(0, |restarts| restarts.streak);
        if container.state.is_up() {
            streak
        } else if container.was_stable() {
            1
        } else {
            streak.saturating_add(1)
        }
    }

    pub(crate) fn waits(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.faults.get(id).is_some_and(|fault| fault.retry_at > now)
    }

    /// The same for one that is to go.
    pub(crate) fn waits_to_go(&self, id: &InstanceId, now: Timestamp) -> bool {
        self.faults.get(id).is_some_and(|fault| fault.leaving && fault.retry_at > now)
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
