//! What to think of an instance whose container is up.

use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::InstanceId;
use knit_rpc::spec::{Probe, Span};

use crate::desired::Wanted;
use crate::memory::Memory;
use crate::observed::{Container, HealthState, Healthcheck};
use crate::probe::{Readiness, Watched};

/// What Docker's own check is called in sentences.
const HEALTHCHECK: &str = "Docker's HEALTHCHECK";

/// Each with why, in a sentence, where there is something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not ready yet.
    Starting(Option<String>),
    Ready,
    /// It was ready and is not now.
    Unready(String),
    /// It did not become ready in time.
    Late(String),
    /// It has to be started again.
    Dead(String),
}

/// The verdict over a container that is up, at `now`.
pub fn verdict(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    memory: &Memory,
    now: Timestamp,
) -> Verdict {
    let Some(watched) = memory.probes.of(id, container) else {
        let is_asked = wanted.policy.health.ready.is_some() || container.healthcheck.is_some();
        return if is_asked { Verdict::Starting(None) } else { Verdict::Ready };
    };
    if let Some(why) = dead(wanted, container, watched, now) {
        return Verdict::Dead(format!("not alive: {why}"));
    }
    let why = not_ready(container, watched);
    match watched.readiness {
        Readiness::Ready => Verdict::Ready,
        Readiness::Unready => {
            Verdict::Unready(format!("not ready any more: {}", why.unwrap_or_default()))
        }
        Readiness::Starting if now >= deadline(wanted, container, watched) => {
            let limit = words(limit(wanted, container));
            let why = why.unwrap_or_else(|| "nobody said that it is".to_owned());
            Verdict::Late(format!("not ready within {limit}: {why}"))
        }
        Readiness::Starting => Verdict::Starting(why.map(|why| format!("not ready yet: {why}"))),
    }
}

/// When it will be given up if it is not ready then.
pub(crate) fn gives_up_at(
    id: &InstanceId,
    wanted: &Wanted,
    container: &Container,
    memory: &Memory,
) -> Option<Timestamp> {
    let watched = memory.probes.of(id, container)?;
    let starts = watched.readiness == Readiness::Starting;
    starts.then(|| deadline(wanted, container, watched))
}

fn deadline(wanted: &Wanted, container: &Container, watched: &Watched) -> Timestamp {
    // An agent that starts anew gives it all its time again.
    watched.run.started.max(watched.since).plus(limit(wanted, container))
}

/// From its start until it must be ready. Docker's own check may come late.
fn limit(wanted: &Wanted, container: &Container) -> Duration {
    let within = wanted.policy.health.start_within.duration();
    let check = container.healthcheck.as_ref().filter(|_| wanted.policy.health.ready.is_none());
    check.map_or(within, |check| within.max(check.first_within))
}

fn dead(
    wanted: &Wanted,
    container: &Container,
    watched: &Watched,
    now: Timestamp,
) -> Option<String> {
    if let Some(probe) = &watched.alive.probe {
        let counts = watched.alive.is_failing() && watched.has_booted(wanted, now);
        return counts.then(|| said(probe, watched.alive.failure.as_deref()));
    }
    let check = container.healthcheck.as_ref()?;
    (check.state == HealthState::Unhealthy).then(|| docker_said(check))
}

fn not_ready(container: &Container, watched: &Watched) -> Option<String> {
    match &watched.ready.probe {
        Some(probe) => watched.ready.failure.as_deref().map(|failure| said(probe, Some(failure))),
        None => container.healthcheck.as_ref().map(docker_said),
    }
}

fn said(probe: &Probe, failure: Option<&str>) -> String {
    format!("{}: {}", probe.kind, failure.unwrap_or("no answer"))
}

fn docker_said(check: &Healthcheck) -> String {
    let answer = if check.answer.is_empty() { "no answer yet" } else { &check.answer };
    format!("{HEALTHCHECK}: {answer}")
}

/// `60 s` or `1500 ms`.
pub(crate) fn words(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else {
        format!("{millis} ms")
    }
}

/// How long a container that is not alive has to end by itself, unless its spec says so.
pub const DEAD_GRACE: Span = Span::from_secs(1);
