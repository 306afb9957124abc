//! Which instance is asked what, when, and what the answers mean.
//!
//! ```text
//!             one success                    `failures` failures in a row
//!  Starting ───────────────> Ready ──────────────────────────────> Unready
//!     │                        ▲                                     │
//!     │ start_within           └──────────── one success ────────────┘
//!     ▼
//!  given up                 `alive`: `failures` failures in a row, whatever `ready` says: dead
//! ```
//!
//! Without a ready probe of its own an instance is ready once it runs, or once Docker's
//! HEALTHCHECK says so. The `alive` probe starts once the instance is ready; without a ready probe
//! at once, but then nothing counts before its first success or the end of `start_within`: who
//! boots is not dead.
//!
//! Invariant: never two questions of one probe at the same time. What is known of one run of a
//! container says nothing about the next. An instance that serves when the agent starts is ready
//! until an answer says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::spec::Probe;

use crate::container::Identity;
use crate::desired::{Desired, Wanted};
use crate::observed::{Container, ContainerState, HealthState};
use crate::publish::PortMap;

/// Questions under way at once, at most.
pub const OPEN_MAX: usize = 64;
/// Between two questions of `ready` while an instance starts, at most.
pub const STARTING_INTERVAL: Duration = Duration::from_millis(250);

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Ready,
    Alive,
}

/// From one start of a container to its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    pub container: String,
    pub started: Timestamp,
}

impl Run {
    pub fn of(container: &Container) -> Self {
        let started = container.started_at.unwrap_or_default();
        Self { container: container.id.clone(), started }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// It was not ready yet in this run.
    Starting,
    Ready,
    /// It was ready and is not now.
    Unready,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Well,
    /// Why not, in a few words.
    Ill(String),
    /// It could not be asked, which says nothing about the instance.
    Unasked,
}

/// A question to be asked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub instance: InstanceId,
    pub run: Run,
    pub purpose: Purpose,
    pub probe: Probe,
}

/// What is known of each instance's present run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probes {
    watched: BTreeMap<InstanceId, Watched>,
    /// Whether anything was ever followed: what is up before that was not started by this agent.
    began: bool,
}

/// What is known of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) run: Run,
    /// When the agent began to follow it, or last saw it paused.
    pub(crate) since: Timestamp,
    pub(crate) readiness: Readiness,
    pub(crate) ready: Asked,
    pub(crate) alive: Asked,
    /// Whether it ran before this agent did and nothing is known of it yet.
    found: bool,
    paused: bool,
}

/// How the questions of one probe went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) probe: Option<Probe>,
    at: Option<Timestamp>,
    is_open: bool,
    /// In a row.
    failures: u32,
    /// Whether it ever succeeded in this run.
    succeeded: bool,
    /// The last failure, in words.
    pub(crate) failure: Option<String>,
}

impl Asked {
    /// A probe that changed is a new one, of which nothing is known.
    fn follow(&mut self, probe: Option<&Probe>) {
        if self.probe.as_ref() != probe {
            let is_open = self.is_open;
            *self = Self { probe: probe.cloned(), is_open, ..Self::default() };
        }
    }

    fn take(&mut self, answer: Answer) {
        self.is_open = false;
        match answer {
            Answer::Well => (self.failures, self.succeeded, self.failure) = (0, true, None),
            Answer::Ill(words) => {
                self.failures = self.failures.saturating_add(1);
                self.failure = Some(words);
            }
            Answer::Unasked => {}
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| self.failures >= probe.failures.max(1))
    }

    /// When the next question is due; none while one is open.
    fn due(&self, interval: Duration, now: Timestamp) -> Option<Timestamp> {
        // The clock was set back: nobody knows when the last one was.
        let last = self.at.filter(|at| *at <= now);
        (!self.is_open).then(|| last.map_or(now, |at| at.plus(interval)))
    }
}

impl Watched {
    /// When each of its questions is due.
    fn due(&self, now: Timestamp) -> impl Iterator<Item = (Purpose, &Probe, Timestamp)> {
        let starts = self.readiness == Readiness::Starting;
        let ready = self.ready.probe.as_ref().and_then(|probe| {
            let interval = probe.interval.duration();
            let interval = if starts { interval.min(STARTING_INTERVAL) } else { interval };
            Some((Purpose::Ready, probe, self.ready.due(interval, now)?))
        });
        let waits = starts && self.ready.probe.is_some();
        let alive = self.alive.probe.as_ref().filter(|_| !waits).and_then(|probe| {
            Some((Purpose::Alive, probe, self.alive.due(probe.interval.duration(), now)?))
        });
        ready.into_iter().chain(alive).filter(|_| !self.paused)
    }

    fn asked(&mut self, purpose: Purpose) -> &mut Asked {
        match purpose {
            Purpose::Ready => &mut self.ready,
            Purpose::Alive => &mut self.alive,
        }
    }

    /// Whether a failing `alive` counts at `now`.
    pub(crate) fn has_booted(&self, wanted: &Wanted, now: Timestamp) -> bool {
        let within = wanted.policy.health.start_within.duration();
        self.ready.probe.is_some() || self.alive.succeeded || now >= self.run.started.plus(within)
    }
}

impl Probes {
    /// Takes in what runs: forgets runs that ended, begins with those that started, and takes
    /// policies that changed. `holders` is what ports lead to now.
    pub fn follow(
        &mut self,
        desired: &Desired,
        running: &[(Identity, &Container)],
        published: &PortMap,
        now: Timestamp,
    ) {
        let holders: BTreeSet<Ipv4Addr> = published.values().map(|one| one.address).collect();
        let mut watched = BTreeMap::new();
        for (identity, container) in running.iter().filter(|(_, one)| one.state.is_up()) {
            let id = &identity.instance;
            let Some(wanted) = desired.instances.get(id) else { continue };
            if watched.contains_key(id) || identity.spec != wanted.assigned.spec {
                continue;
            }
            let run = Run::of(container);
            let known = self.watched.remove(id).filter(|known| known.run == run);
            let serves = container.address().is_some_and(|address| holders.contains(&address));
            let found = !self.began;
            let mut one = known.unwrap_or_else(|| Watched {
                run,
                since: now,
                // Later on, a new run may have got the address of one that a rule still leads to.
                readiness: if found && serves { Readiness::Ready } else { Readiness::Starting },
                ready: Asked::default(),
                alive: Asked::default(),
                found,
                paused: false,
            });
            one.paused = container.state == ContainerState::Paused;
            if one.paused {
                one.since = now;
            }
            let health = &wanted.policy.health;
            one.ready.follow(health.ready.as_ref());
            one.alive.follow(health.alive.as_ref());
            if health.ready.is_none() {
                one.readiness = without_probe(one.readiness, container);
            }
            watched.insert(id.clone(), one);
        }
        self.watched = watched;
        self.began = true;
    }

    /// The questions that are due at `now`; they are under way from now on.
    pub fn ask(&mut self, now: Timestamp) -> Vec<Question> {
        let mut room = OPEN_MAX.saturating_sub(self.open());
        let mut questions = Vec::new();
        for (id, one) in &mut self.watched {
            let due: Vec<(Purpose, Probe)> = one
                .due(now)
                .filter(|(_, _, at)| *at <= now)
                .map(|(purpose, probe, _)| (purpose, probe.clone()))
                .take(room)
                .collect();
            room -= due.len();
            for (purpose, probe) in due {
                let asked = one.asked(purpose);
                (asked.at, asked.is_open) = (Some(now), true);
                let (instance, run) = (id.clone(), one.run.clone());
                questions.push(Question { instance, run, purpose, probe });
            }
        }
        questions
    }

    /// When the next question is due; none while there is no room for one, because an answer
    /// makes room.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let all = self.watched.values().flat_map(|one| one.due(now)).map(|(_, _, at)| at);
        if self.open() < OPEN_MAX { all.min() } else { None }
    }

    /// Takes an answer; true when it changes what is thought of the instance.
    pub fn answered(&mut self, question: &Question, answer: Answer) -> bool {
        let known = self.watched.get_mut(&question.instance);
        let Some(one) = known.filter(|one| one.run == question.run) else { return false };
        let asked = one.asked(question.purpose);
        if asked.probe.as_ref() != Some(&question.probe) || answer == Answer::Unasked {
            asked.is_open = false;
            return false;
        }
        let was = (asked.failure.is_some(), asked.is_failing(), asked.succeeded);
        let is_well = answer == Answer::Well;
        asked.take(answer);
        let changed = (asked.failure.is_some(), asked.is_failing(), asked.succeeded) != was;
        let before = (one.readiness, one.found);
        one.found = false;
        if question.purpose == Purpose::Ready {
            one.readiness = match one.readiness {
                _ if is_well => Readiness::Ready,
                Readiness::Ready if one.ready.is_failing() => Readiness::Unready,
                same @ (Readiness::Starting | Readiness::Ready | Readiness::Unready) => same,
            };
        }
        changed || (one.readiness, one.found) != before
    }

    /// Whether an instance that ran before this agent did has not given its first answer: what is
    /// reported of it now might be wrong.
    pub fn is_undecided(&self) -> bool {
        self.watched.values().any(|one| {
            one.found && one.readiness == Readiness::Starting && one.ready.probe.is_some()
        })
    }

    /// What is known of a container; nothing of one that is not followed.
    pub(crate) fn of(&self, id: &InstanceId, container: &Container) -> Option<&Watched> {
        self.watched.get(id).filter(|one| one.run.container == container.id)
    }

    fn open(&self) -> usize {
        let asked = self.watched.values().flat_map(|one| [&one.ready, &one.alive]);
        asked.filter(|asked| asked.is_open).count()
    }
}

/// How ready an instance is that has no ready probe of its own.
fn without_probe(before: Readiness, container: &Container) -> Readiness {
    match container.healthcheck.as_ref().map(|check| check.state) {
        None | Some(HealthState::Healthy) => Readiness::Ready,
        Some(HealthState::Unhealthy) if before == Readiness::Ready => Readiness::Unready,
        Some(HealthState::Starting | HealthState::Unhealthy) => before,
    }
}

#[cfg(test)]
mod tests;
