//! An engine in memory that fails on command.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use knit_agent_core::container::{BRIDGE, ContainerPlan, owner_labels};
use knit_agent_core::garbage::Image;
use knit_agent_core::network::{Network, NetworkPlan};
use knit_agent_core::observed::Healthcheck;
use knit_agent_core::probe::Answer;
use knit_agent_core::volume::{LABEL_VOLUME, VolumePlan};
use knit_agent_core::{Container, ContainerState, Owner};
use knit_rpc::Timestamp;
use knit_rpc::api::PullCredentials;
use knit_rpc::message::PullProgress;
use knit_rpc::spec::{ProbeKind, VolumeName};
use tokio::sync::Notify;

use super::{Engine, EngineError, EngineInfo, STOP_GRACE};

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Info,
    List,
    Pull,
    Create,
    Start,
    Stop,
    Remove,
}

#[derive(Debug, Default)]
struct State {
    containers: BTreeMap<String, Container>,
    images: BTreeSet<String>,
    networks: BTreeMap<String, NetworkPlan>,
    volumes: BTreeMap<String, VolumePlan>,
    /// Networks that each container joins, by name.
    joins: BTreeMap<String, Vec<String>>,
    failing: BTreeMap<Call, EngineError>,
    calls: Vec<(Call, String)>,
    next: u8,
    deaf: bool,
    stubborn: bool,
    slow_pull: Option<Duration>,
    healthcheck: Option<Healthcheck>,
    /// Part of a container's name, part of a question, and what it answers; the last that fits.
    answers: Vec<(String, String, Option<Answer>)>,
    /// How often each container was asked each question.
    probed: BTreeMap<(String, String), usize>,
    /// Signals that containers were sent, by name, in order.
    signals: Vec<(String, String)>,
    /// What each container wrote, by name.
    logs: BTreeMap<String, Vec<String>>,
}

/// Clones share the containers: an agent that was killed and one that comes after it.
#[derive(Debug, Clone, Default)]
pub struct FakeEngine {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl FakeEngine {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a call fail until `None` is given.
    pub fn fail(&self, call: Call, error: Option<EngineError>) {
        let mut state = self.lock();
        match error {
            Some(error) => state.failing.insert(call, error),
            None => state.failing.remove(&call),
        };
    }

    /// Has no container accept connections, or all.
    pub fn deafen(&self, deaf: bool) {
        self.lock().deaf = deaf;
    }

    /// Has every container take its whole grace to end, or none.
    pub fn harden(&self, stubborn: bool) {
        self.lock().stubborn = stubborn;
    }

    /// Has every pull take this long, or none.
    pub fn slow_pulls(&self, slow: Option<Duration>) {
        self.lock().slow_pull = slow;
    }

    /// What containers whose name holds `name` answer to probes whose text holds `question`, or
    /// that they do not; they are well until then.
    pub fn answer(&self, name: &str, question: &str, answer: Option<Answer>) {
        self.lock().answers.push((name.to_owned(), question.to_owned(), answer));
    }

    /// How often probes whose text holds `question` were asked of containers whose name holds
    /// `name`.
    pub fn probed(&self, name: &str, question: &str) -> usize {
        let state = self.lock();
        let fitting = state
            .probed
            .iter()
            .filter(|((of, asked), _)| of.contains(name) && asked.contains(question));
        fitting.map(|(_, times)| times).sum()
    }

    /// Has a container write a line.
    pub fn write_log(&self, name: &str, line: &str) {
        let mut state = self.lock();
        if let Some(name) = find(&mut state, name).map(|found| found.name.clone()) {
            state.logs.entry(name).or_default().push(line.to_owned());
        }
    }

    /// What HEALTHCHECKs say of containers that start from now on.
    pub fn give_healthcheck(&self, healthcheck: Option<Healthcheck>) {
        self.lock().healthcheck = healthcheck;
    }

    /// What a container's own HEALTHCHECK says from now on.
    pub fn check(&self, name: &str, healthcheck: Option<Healthcheck>) {
        if let Some(container) = find(&mut self.lock(), name) {
            container.healthcheck = healthcheck;
        }
        self.changed.notify_waiters();
    }

    pub fn add_image(&self, image: &str) {
        self.lock().images.insert(image.to_owned());
    }

    pub fn containers(&self) -> Vec<Container> {
        self.lock().containers.values().cloned().collect()
    }

    pub fn insert(&self, container: Container) {
        self.lock().containers.insert(container.id.clone(), container);
        self.changed.notify_waiters();
    }

    /// What was asked, in order, with the container's or image's name.
    pub fn calls(&self) -> Vec<(Call, String)> {
        self.lock().calls.clone()
    }

    /// Ends a container's process.
    pub fn exit(&self, name: &str, code: i64, now: Timestamp) {
        if let Some(container) = find(&mut self.lock(), name) {
            container.state = ContainerState::Exited;
            container.exit_code = Some(code);
            container.finished_at = Some(now);
            container.networks.clear();
            container.addresses.clear();
        }
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, call: Call, what: &str) -> Result<MutexGuard<'_, State>, EngineError> {
        let mut state = self.lock();
        state.calls.push((call, what.to_owned()));
        match state.failing.get(&call) {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }
}

fn find<'a>(state: &'a mut State, name: &str) -> Option<&'a mut Container> {
    state.containers.values_mut().find(|container| container.id == name || container.name == name)
}

fn missing(what: &str) -> EngineError {
    EngineError::Refused { words: format!("No such container: {what}"), permanent: false }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        drop(self.called(Call::Info, "")?);
        Ok(EngineInfo { version: "fake".to_owned(), cpus: 2, ..EngineInfo::default() })
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Container>, EngineError> {
        let state = self.called(Call::List, "")?;
        let labels = owner_labels(owner);
        let is_owned = |container: &&Container| {
            labels.iter().all(|(key, value)| container.labels.get(key) == Some(value))
        };
        Ok(state.containers.values().filter(is_owned).cloned().collect())
    }

    async fn networks(&self) -> Result<Vec<Network>, EngineError> {
        let state = self.lock();
        let shown = state.networks.values().map(|plan| Network {
            name: plan.name.clone(),
            labels: plan.labels.clone(),
            bridge: plan.bridge.clone().or(Some(BRIDGE.to_owned())),
            subnets: plan.subnet.into_iter().collect(),
            internal: plan.internal,
        });
        Ok(shown.collect())
    }

    async fn volumes(&self, owner: &Owner) -> Result<BTreeSet<VolumeName>, EngineError> {
        let state = self.lock();
        let labels = owner_labels(owner);
        let ours = state.volumes.values().filter(|volume| {
            labels.iter().all(|(key, value)| volume.labels.get(key) == Some(value))
        });
        let names = ours.filter_map(|volume| volume.labels.get(LABEL_VOLUME));
        Ok(names.filter_map(|name| VolumeName::parse(name).ok()).collect())
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        Ok(self.lock().images.contains(image).then(|| format!("sha256:{image}")))
    }

    async fn images(&self) -> Result<Vec<Image>, EngineError> {
        let state = self.lock();
        let shown = state.images.iter().map(|name| Image {
            id: format!("sha256:{name}"),
            tags: BTreeSet::from([name.clone()]),
            digests: BTreeSet::new(),
        });
        Ok(shown.collect())
    }

    async fn images_in_use(&self) -> Result<BTreeSet<String>, EngineError> {
        let state = self.lock();
        Ok(state.containers.values().filter_map(|one| one.image_id.clone()).collect())
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        self.lock().images.remove(reference);
        Ok(())
    }

    async fn pull(
        &self,
        image: &str,
        _credentials: Option<&PullCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError> {
        let slow = self.called(Call::Pull, image)?.slow_pull;
        if let Some(slow) = slow {
            progress(PullProgress { done: 50, total: 200 });
            tokio::time::sleep(slow).await;
        }
        self.lock().images.insert(image.to_owned());
        Ok(())
    }

    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<(), EngineError> {
        self.lock().networks.insert(plan.name.clone(), plan.clone());
        Ok(())
    }

    async fn ensure_volume(&self, plan: &VolumePlan) -> Result<(), EngineError> {
        self.lock().volumes.entry(plan.name.clone()).or_insert_with(|| plan.clone());
        Ok(())
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), EngineError> {
        let mut state = self.called(Call::Create, &plan.name)?;
        if find(&mut state, &plan.name).is_some() {
            return Ok(());
        }
        state.next += 1;
        let id = format!("{:064x}", state.next);
        let container = Container {
            id: id.clone(),
            name: plan.name.clone(),
            labels: plan.labels.clone(),
            state: ContainerState::Created,
            networks: BTreeSet::new(),
            addresses: BTreeMap::new(),
            image_id: Some(format!("sha256:{}", plan.image)),
            started_at: None,
            finished_at: None,
            exit_code: None,
            error: String::new(),
            healthcheck: None,
        };
        state.joins.insert(container.name.clone(), plan.networks.clone());
        state.containers.insert(id, container);
        Ok(())
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        let mut state = self.called(Call::Start, container)?;
        state.next += 1;
        let address = Ipv4Addr::new(10, 208, 0, state.next);
        let healthcheck = state.healthcheck.clone();
        let found = find(&mut state, container).ok_or_else(|| missing(container))?;
        found.state = ContainerState::Running;
        found.started_at = Some(knit_runtime::clock::now());
        found.healthcheck = healthcheck;
        let name = found.name.clone();
        let joined = state.joins.get(&name).cloned().unwrap_or_default();
        if let Some(found) = find(&mut state, container) {
            found.addresses.extend(joined.first().map(|network| (network.clone(), address)));
            found.networks.extend(joined);
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let mut state = self.lock();
        if let Some(name) = find(&mut state, container).map(|found| found.name.clone()) {
            state.signals.push((name, signal.to_owned()));
        }
        Ok(())
    }

    async fn stop(&self, container: &str, grace: Option<Duration>) -> Result<(), EngineError> {
        let stubborn = self.called(Call::Stop, container)?.stubborn;
        if stubborn {
            tokio::time::sleep(grace.unwrap_or(STOP_GRACE)).await;
        }
        let mut state = self.lock();
        if let Some(found) = find(&mut state, container) {
            found.state = ContainerState::Exited;
            found.exit_code = Some(if stubborn { 137 } else { 143 });
            found.finished_at = Some(knit_runtime::clock::now());
            found.healthcheck = None;
            found.networks.clear();
            found.addresses.clear();
        }
        Ok(())
    }

    async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let mut state = self.called(Call::Remove, container)?;
        state.containers.retain(|_, found| found.id != container && found.name != container);
        Ok(())
    }

    async fn accepts(&self, _address: SocketAddrV4) -> bool {
        !self.lock().deaf
    }

    async fn probe(
        &self,
        container: &str,
        _address: Option<Ipv4Addr>,
        kind: &ProbeKind,
        limit: Duration,
    ) -> Answer {
        let answer = {
            let mut state = self.lock();
            let name = find(&mut state, container).map(|found| found.name.clone());
            let asked = (name.unwrap_or_default(), kind.to_string());
            *state.probed.entry(asked.clone()).or_default() += 1;
            let scripted = state.answers.iter().rev().find(|(of, question, _)| {
                asked.0.contains(of.as_str()) && asked.1.contains(question.as_str())
            });
            scripted.map_or(Some(Answer::Well), |(_, _, answer)| answer.clone())
        };
        if answer.is_none() {
            tokio::time::sleep(limit).await;
        }
        answer.unwrap_or_else(|| Answer::Ill(format!("no answer within {} ms", limit.as_millis())))
    }

    async fn log_tail(&self, container: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        let mut state = self.lock();
        let name = find(&mut state, container).ok_or_else(|| missing(container))?.name.clone();
        let log = state.logs.get(&name).cloned().unwrap_or_default();
        Ok(log[log.len().saturating_sub(lines)..].to_vec())
    }

    async fn remove_network(&self, _owner: &Owner, name: &str) -> Result<(), EngineError> {
        self.lock().networks.remove(name);
        Ok(())
    }

    async fn remove_volume(&self, _owner: &Owner, name: &VolumeName) -> Result<(), EngineError> {
        self.lock().volumes.remove(&name.docker_name());
        Ok(())
    }

    fn events(&self, _owner: &Owner) -> BoxStream<'static, ()> {
        stream::unfold(Arc::clone(&self.changed), |changed| async move {
            changed.notified().await;
            Some(((), changed))
        })
        .boxed()
    }
}
