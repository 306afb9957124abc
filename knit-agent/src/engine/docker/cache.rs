//! What is known of each container, so that a read inspects only those that changed.
//!
//! ```text
//! one list of summaries ──> same summary, no event, not touched by us ──> as known
//!                      └──> else ──> inspect ──> known
//! ```
//!
//! Invariant: nothing is taken from here unless Docker's events are being listened to, and nothing
//! that was not inspected within the last [`FULL_EVERY`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use knit_agent_core::Container;

/// Everything is inspected this often, whatever Docker says or does not say.
const FULL_EVERY: Duration = Duration::from_mins(1);

/// Clones share what is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<String, (Summary, Container)>,
    /// Ids and names of containers that something happened to.
    touched: BTreeSet<String>,
    full_at: Option<Instant>,
    listeners: usize,
}

/// What a list shows of a container and what does not change by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    state: Option<ContainerSummaryStateEnum>,
    /// Such as `(healthy)` or `(0)`: Docker's words without the time.
    status: String,
    created: Option<i64>,
    /// Endpoint and address by network; another endpoint means another start.
    networks: BTreeMap<String, (Option<String>, Option<String>)>,
}

/// Docker's events are listened to for as long as this lives.
#[derive(Debug)]
pub(super) struct Listening(Cache);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.lock().listeners -= 1;
    }
}

impl Cache {
    /// What happened before is not known: everything is inspected once more.
    pub(super) fn listen(&self) -> Listening {
        let mut state = self.lock();
        state.listeners += 1;
        state.full_at = None;
        Listening(self.clone())
    }

    /// Something happened to a container, by id or by name.
    pub(super) fn touch(&self, container: &str) {
        self.lock().touched.insert(container.to_owned());
    }

    /// Sorts a list into containers as they are known, and ids to be inspected.
    pub(super) fn sort(
        &self,
        listed: Vec<ContainerSummary>,
    ) -> (Vec<Container>, Vec<(String, Summary)>) {
        let mut state = self.lock();
        let touched = std::mem::take(&mut state.touched);
        let fresh = state.full_at.is_some_and(|at| at.elapsed() < FULL_EVERY);
        if state.listeners == 0 || !fresh {
            state.known.clear();
            state.full_at = Some(Instant::now());
        }
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let mut there = BTreeSet::new();
        for listed in listed {
            let names = listed.names.iter().flatten().map(|name| name.trim_start_matches('/'));
            let is_touched = names.chain(listed.id.as_deref()).any(|name| touched.contains(name));
            let summary = Summary::of(&listed);
            let Some(id) = listed.id else { continue };
            match state.known.get(&id).filter(|(before, _)| !is_touched && *before == summary) {
                Some((_, container)) => known.push(container.clone()),
                None => unknown.push((id.clone(), summary)),
            }
            there.insert(id);
        }
        state.known.retain(|id, _| there.contains(id));
        for (id, _) in &unknown {
            state.known.remove(id);
        }
        (known, unknown)
    }

    /// Keeps what an inspection showed.
    pub(super) fn keep(&self, summary: Summary, container: &Container) {
        self.lock().known.insert(container.id.clone(), (summary, container.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Summary {
    fn of(listed: &ContainerSummary) -> Self {
        let networks = listed.network_settings.as_ref().and_then(|all| all.networks.as_ref());
        let endpoint = |(name, one): (&String, &bollard::models::EndpointSettings)| {
            (name.clone(), (one.endpoint_id.clone(), one.ip_address.clone()))
        };
        Self {
            state: listed.state,
            status: without_time(listed.status.as_deref().unwrap_or_default()),
            created: listed.created,
            networks: networks.into_iter().flatten().map(endpoint).collect(),
        }
    }
}

/// `Up 3 minutes (healthy)` says `(healthy)`, `Exited (1) 2 hours ago` says `(1)`.
fn without_time(status: &str) -> String {
    let start = status.find('(').unwrap_or(status.len());
    let end = status.rfind(')').map_or(start, |end| end + 1);
    status.get(start..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use knit_agent_core::ContainerState;

    use super::*;

    fn listed(id: &str, status: &str) -> ContainerSummary {
        ContainerSummary {
            id: Some(id.to_owned()),
            names: Some(vec![format!("/name-{id}")]),
            state: Some(ContainerSummaryStateEnum::RUNNING),
            status: Some(status.to_owned()),
            ..ContainerSummary::default()
        }
    }

    fn container(id: &str) -> Container {
        Container {
            id: id.to_owned(),
            name: format!("name-{id}"),
            labels: BTreeMap::new(),
            state: ContainerState::Running,
            networks: BTreeSet::new(),
            addresses: BTreeMap::new(),
            image_id: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            error: String::new(),
            healthcheck: None,
        }
    }

    /// Reads a list and inspects what is to be inspected; the ids of that.
    fn read(cache: &Cache, listed: &[ContainerSummary]) -> Vec<String> {
        let (known, unknown) = cache.sort(listed.to_vec());
        assert_eq!(known.len() + unknown.len(), listed.len(), "each is one or the other");
        for (id, summary) in &unknown {
            cache.keep(summary.clone(), &container(id));
        }
        unknown.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn only_what_changed_is_inspected() {
        let cache = Cache::default();
        let listening = cache.listen();
        let both = |a: &str, b: &str| vec![listed("a", a), listed("b", b)];
        assert_eq!(read(&cache, &both("Up 1 second", "Up 1 second (healthy)")), ["a", "b"]);
        assert!(read(&cache, &both("Up 2 minutes", "Up 2 minutes (healthy)")).is_empty());
        assert_eq!(read(&cache, &both("Up 2 minutes", "Up 2 minutes (unhealthy)")), ["b"]);
        cache.touch("name-a");
        assert_eq!(read(&cache, &both("Up 3 minutes", "Up 3 minutes (unhealthy)")), ["a"]);
        cache.touch("b");
        cache.touch("somebody-elses");
        assert_eq!(read(&cache, &both("Up 3 minutes", "Up 3 minutes (unhealthy)")), ["b"]);

        assert!(read(&cache, &[listed("a", "Up 3 minutes")]).is_empty());
        assert_eq!(read(&cache, &both("Up 3 minutes", "Up 3 minutes (unhealthy)")), ["b"]);
        drop(listening);
        assert_eq!(read(&cache, &both("Up 3 minutes", "Up 3 minutes (unhealthy)")).len(), 2);
    }

    #[test]
    fn what_could_not_be_inspected_is_tried_again() {
        let cache = Cache::default();
        let _listening = cache.listen();
        assert_eq!(cache.sort(vec![listed("a", "Up")]).1.len(), 1);
        assert_eq!(cache.sort(vec![listed("a", "Up")]).1.len(), 1);
    }

    #[test]
    fn times_do_not_count() {
        for (status, expected) in [
            ("Up 3 minutes", ""),
            ("Up 3 minutes (healthy)", "(healthy)"),
            ("Exited (137) 2 hours ago", "(137)"),
            ("Up About an hour (health: starting)", "(health: starting)"),
            (")odd(", ""),
        ] {
            assert_eq!(without_time(status), expected, "{status}");
        }
    }
}
