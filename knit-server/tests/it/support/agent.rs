//! An agent by script: it answers assignments with reports, and its link is as bad as wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use knit_link::bus::Bus;
use knit_link::http::{ApiClient, HttpError};
use knit_rpc::Timestamp;
use knit_rpc::api::{RegisterRequest, RegisterResponse};
use knit_rpc::id::{ClusterId, InstanceId, NodeId};
use knit_rpc::message::{
    AssignedInstance, Generation, Heartbeat, InstanceReport, InstanceStatus, NodeAssignment,
    NodeFacts, Phase, ReportIn, ReportStored,
};
use knit_rpc::sealed_box::OpeningKey;
use knit_rpc::signed::{self, Context};
use knit_rpc::spec::VolumeName;
use knit_rpc::subject;
use knit_runtime::clock;
use nkeys::KeyPair;
use tokio::task::JoinHandle;

const BEAT: Duration = Duration::from_millis(200);

/// What an agent keeps on disk, and what its Docker runs: both outlive the agent.
#[derive(Clone)]
pub(crate) struct Disk {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    n: u8,
    seed: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cluster: Option<ClusterId>,
    server_key: String,
    held: Option<Vec<u8>>,
    generation: Generation,
    assigned: Vec<AssignedInstance>,
    running: BTreeMap<InstanceId, AssignedInstance>,
    /// Every container that ever ran, in order.
    history: Vec<InstanceId>,
    labels: BTreeMap<String, String>,
    unheard: BTreeSet<String>,
    /// Nodes that it does not reach when it is asked to.
    unreached: BTreeSet<NodeId>,
    volumes: BTreeSet<VolumeName>,
    /// Tells the sealing key after the first was lost from that.
    keys_lost: u8,
    /// How often the host was booted.
    boots: u32,
    /// Whether something about the node changed since it told of it.
    facts_changed: bool,
    /// Images that cannot be run.
    broken: BTreeSet<String>,
    specs: BTreeMap<knit_rpc::id::SpecHash, knit_rpc::spec::InstanceSpec>,
    link: Link,
    asked_at: Timestamp,
    messages: u64,
}

/// What happens to reports on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Link {
    #[default]
    Good,
    /// Every third is lost, every fourth comes twice, every fifth comes after its successor.
    Bad,
}

impl Disk {
    pub(crate) fn new(n: u8) -> Self {
        let seed = KeyPair::new_user().seed().expect("a seed");
        let node = NodeId::from_bytes([n; 16]);
        Self { node, name: format!("n{n}"), n, seed, state: Arc::default() }
    }

    pub(crate) fn key(&self) -> KeyPair {
        KeyPair::from_seed(&self.seed).expect("a key")
    }

    /// Opens what is sealed to this node.
    pub(crate) fn opening_key(&self) -> OpeningKey {
        OpeningKey::from_bytes([self.n ^ self.with(|state| state.keys_lost); 32])
    }

    /// The next registration is with another sealing key.
    pub(crate) fn lose_opening_key(&self) {
        self.with(|state| state.keys_lost = 0x80);
    }

    pub(crate) fn label(&self, key: &str, value: &str) {
        self.with(|state| state.labels.insert(key.to_owned(), value.to_owned()));
    }

    pub(crate) fn set_link(&self, link: Link) {
        self.with(|state| state.link = link);
    }

    pub(crate) fn set_unheard(&self, n: u8) {
        self.with(|state| state.unheard.insert(mesh_key(n)));
    }

    /// From now on it says that it does not reach node `n`.
    pub(crate) fn lose_sight_of(&self, n: u8) {
        self.with(|state| state.unreached.insert(NodeId::from_bytes([n; 16])));
    }

    /// The host is booted anew: its containers start again, its agent keeps its word.
    pub(crate) fn reboot(&self) {
        self.with(|state| state.boots += 1);
    }

    /// Volumes that are there.
    pub(crate) fn volumes(&self) -> Vec<String> {
        self.with(|state| state.volumes.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn break_image(&self, image: &str) {
        self.with(|state| state.broken.insert(image.to_owned()));
    }

    /// Images of what runs.
    pub(crate) fn images(&self) -> Vec<String> {
        self.with(|state| {
            state.running.values().map(|i| state.specs[&i.spec].image.clone()).collect()
        })
    }

    /// The signed assignment that it holds, as it came.
    pub(crate) fn held_bytes(&self) -> Vec<u8> {
        self.with(|state| state.held.clone()).unwrap_or_default()
    }

    /// What that says.
    pub(crate) fn held(&self) -> Option<NodeAssignment> {
        let bytes = self.held_bytes();
        let server_key = self.with(|state| state.server_key.clone());
        signed::verify(&server_key, Context::Assignment, &bytes).ok()
    }

    /// Ids of what runs.
    pub(crate) fn running(&self) -> Vec<InstanceId> {
        self.with(|state| state.running.keys().cloned().collect())
    }

    /// How many containers were ever started.
    pub(crate) fn started(&self) -> usize {
        self.with(|state| state.history.len())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.with(|state| state.generation)
    }

    /// Says from now on that it works on this.
    pub(crate) fn claim(&self, applied: Generation) {
        self.with(|state| state.generation = applied);
    }

    /// A heartbeat without facts.
    pub(crate) fn heartbeat(&self) -> Heartbeat {
        self.with(|state| Heartbeat {
            cluster: state.cluster.clone().expect("registered"),
            node: self.node.clone(),
            boot: boot(state.boots),
            agent_start: Timestamp::default(),
            applied: state.generation,
            inventory: String::new(),
            probed: BTreeMap::new(),
            facts: None,
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().expect("nobody panicked"))
    }

    pub(crate) fn request(&self) -> RegisterRequest {
        let sealing_key = self.opening_key().sealing_key();
        let mut state = self.state.lock().expect("nobody panicked");
        // Two requests within a millisecond are told apart, so that no test depends on its pace.
        state.asked_at = clock::now().max(state.asked_at.plus(Duration::from_millis(1)));
        RegisterRequest {
            node: self.node.clone(),
            nkey: self.key().public_key(),
            nonce: "00".repeat(16),
            at: state.asked_at,
            cluster: state.cluster.clone(),
            name: self.name.clone(),
            wg_pubkey: mesh_key(self.n),
            mesh_ip: [10, 45, 0, self.n].into(),
            boot: boot(state.boots),
            agent_start: clock::now(),
            applied: state.generation,
            labels: state.labels.clone(),
            host_networks: Vec::new(),
            subnet: None,
            sealing_key: Some(sealing_key),
            join: None,
            former: None,
        }
    }

    pub(crate) async fn register(&self, api: &ApiClient) -> Result<RegisterResponse, HttpError> {
        let signed = signed::sign(&self.key(), Context::Register, &self.request()).expect("signed");
        let answer = api.register(signed).await?;
        let claim: RegisterResponse = signed::peek(&answer).expect("an answer");
        let response: RegisterResponse =
            signed::verify(&claim.server_key, Context::Registered, &answer).expect("its signature");
        self.with(|state| {
            state.cluster = Some(response.cluster.clone());
            state.server_key.clone_from(&response.server_key);
        });
        Ok(response)
    }
}

/// The WireGuard key of host `n`.
fn mesh_key(n: u8) -> String {
    base64::engine::general_purpose::STANDARD.encode([n; 32])
}

fn boot(count: u32) -> String {
    format!("boot-{count}")
}

/// A running agent; dropping it is its sudden death.
pub(crate) struct Agent {
    pub(crate) disk: Disk,
    task: JoinHandle<()>,
}

impl Agent {
    /// Registers and begins to work.
    pub(crate) async fn join(disk: &Disk, api: &ApiClient, bus: Arc<dyn Bus>) -> Self {
        let adopt = disk.register(api).await.expect("registered").adopt;
        Self::resume(disk, bus, adopt)
    }

    /// Works on with the token it has.
    pub(crate) fn resume(disk: &Disk, bus: Arc<dyn Bus>, adopt: bool) -> Self {
        let worker = Worker {
            disk: disk.clone(),
            bus,
            start: clock::now(),
            sequence: 0,
            reported: BTreeMap::new(),
            full: true,
            held_asked: adopt,
        };
        Self { disk: disk.clone(), task: tokio::spawn(worker.run()) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    disk: Disk,
    bus: Arc<dyn Bus>,
    start: Timestamp,
    sequence: u64,
    reported: BTreeMap<InstanceId, InstanceStatus>,
    full: bool,
    held_asked: bool,
}

impl Worker {
    async fn run(mut self) {
        let tasks = subject::tasks(&self.disk.node);
        let mut assignments = self.bus.subscribe(&tasks).await.expect("a subscription");
        let mut broadcasts = self.bus.subscribe(subject::BROADCAST).await.expect("a subscription");
        if let Ok(Some(stored)) = self.bus.last(&tasks).await {
            self.take(&stored);
        }
        let mut beat = tokio::time::interval(BEAT);
        self.disk.with(|state| state.facts_changed = true);
        loop {
            tokio::select! {
                _ = beat.tick() => self.beat(BTreeMap::new()).await,
                Some(message) = assignments.recv() => self.take(&message.payload),
                Some(message) = broadcasts.recv() => {
                    let asked: ReportIn = serde_json::from_slice(&message.payload).expect("json");
                    self.asked(asked).await;
                }
            }
            self.report().await;
        }
    }

    async fn asked(&mut self, asked: ReportIn) {
        let Some(probe) = asked.probe else {
            self.held_asked |= asked.held;
            self.full = true;
            self.disk.with(|state| state.facts_changed = true);
            return;
        };
        if probe.by.contains(&self.disk.node) {
            let probed = self.disk.with(|state| {
                let targets = probe.targets.into_keys();
                targets.map(|node| (node.clone(), !state.unreached.contains(&node))).collect()
            });
            self.beat(probed).await;
        }
    }

    fn take(&self, message: &[u8]) {
        self.disk.with(|state| {
            let assignment: NodeAssignment =
                signed::verify(&state.server_key, Context::Assignment, message).expect("signed");
            assert_eq!(Some(&assignment.cluster), state.cluster.as_ref());
            if assignment.generation <= state.generation {
                return;
            }
            state.held = Some(message.to_vec());
            state.generation = assignment.generation;
            state.specs.extend(assignment.specs);
            state.assigned = assignment.instances;
            let wanted: BTreeMap<InstanceId, AssignedInstance> =
                state.assigned.iter().map(|i| (i.id.clone(), i.clone())).collect();
            state.running.retain(|id, _| wanted.contains_key(id));
            state.facts_changed |= !assignment.remove_volumes.is_empty();
            state.volumes.retain(|name| !assignment.remove_volumes.contains(name));
            for (id, instance) in wanted {
                let spec = &state.specs[&instance.spec];
                for mount in &spec.volumes {
                    let name = VolumeName::of(&instance.project, mount, instance.slot);
                    state.facts_changed |= state.volumes.insert(name);
                }
                let broken = state.broken.contains(&spec.image);
                if !broken && state.running.insert(id.clone(), instance).is_none() {
                    state.history.push(id);
                }
            }
        });
    }

    async fn beat(&self, probed: BTreeMap<NodeId, bool>) {
        let facts = self.disk.with(|state| std::mem::take(&mut state.facts_changed));
        let beat = self.disk.with(|state| Heartbeat {
            cluster: state.cluster.clone().expect("registered"),
            node: self.disk.node.clone(),
            boot: boot(state.boots),
            agent_start: self.start,
            applied: state.generation,
            inventory: String::new(),
            probed,
            facts: facts.then(|| NodeFacts {
                name: self.disk.name.clone(),
                wg_pubkey: mesh_key(self.disk.n),
                mesh_ip: Some([10, 45, 0, self.disk.n].into()),
                labels: state.labels.clone(),
                docker: Some("20.10".into()),
                unheard: state.unheard.clone(),
                volumes: state.volumes.clone(),
                ..NodeFacts::default()
            }),
        });
        let payload = serde_json::to_vec(&beat).expect("json");
        drop(self.bus.publish(&subject::heartbeat(&self.disk.node), payload).await);
    }

    fn inventory(&self) -> BTreeMap<InstanceId, InstanceStatus> {
        self.disk.with(|state| {
            let all = state.running.values().chain(&state.assigned);
            all.map(|instance| {
                let runs = state.running.contains_key(&instance.id);
                let status = InstanceStatus {
                    id: instance.id.clone(),
                    project: instance.project.clone(),
                    deployment: instance.deployment.clone(),
                    deployment_id: instance.deployment_id.clone(),
                    slot: instance.slot,
                    revision: instance.revision,
                    phase: if runs { Phase::Running } else { Phase::Failed },
                    message: (!runs).then(|| "No such image: broken".to_owned()),
                    container: None,
                    address: None,
                    ports: state.specs[&instance.spec].ports.clone(),
                    image_id: None,
                    started_at: None,
                    exit_code: None,
                    restarts: 0,
                    pull: None,
                    log: Vec::new(),
                };
                (instance.id.clone(), status)
            })
            .collect()
        })
    }

    /// Reports what changed, until it was stored.
    async fn report(&mut self) {
        let inventory = self.inventory();
        let changed: Vec<InstanceStatus> = inventory
            .values()
            .filter(|status| self.full || self.reported.get(&status.id) != Some(status))
            .cloned()
            .collect();
        let removed: Vec<InstanceId> =
            self.reported.keys().filter(|id| !inventory.contains_key(id)).cloned().collect();
        if !self.full && changed.is_empty() && removed.is_empty() {
            return;
        }
        self.sequence += 1;
        let held = if self.full && self.held_asked {
            self.disk.with(|state| state.held.clone())
        } else {
            None
        };
        let report = InstanceReport {
            cluster: self.disk.with(|state| state.cluster.clone()).expect("registered"),
            node: self.disk.node.clone(),
            agent_start: self.start,
            sequence: self.sequence,
            full: self.full,
            applied: self.disk.generation(),
            instances: changed,
            removed: if self.full { Vec::new() } else { removed },
            held: held.map(|bytes| String::from_utf8(bytes).expect("text")),
        };
        if self.send(&report).await {
            self.reported = inventory;
            self.held_asked &= report.held.is_none();
            self.full = false;
        }
    }

    /// Sends a report over the link as it is; true once it was stored.
    async fn send(&self, report: &InstanceReport) -> bool {
        let subject = subject::status(&self.disk.node);
        let payload = serde_json::to_vec(report).expect("json");
        let (link, count) = self.disk.with(|state| {
            state.messages += 1;
            (state.link, state.messages)
        });
        if link == Link::Bad && count.is_multiple_of(3) {
            return false;
        }
        if link == Link::Bad && count.is_multiple_of(5) {
            // Comes late, after whatever is said next; nobody waits for its answer.
            let bus = Arc::clone(&self.bus);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                drop(bus.publish(&subject, payload).await);
            });
            return false;
        }
        if link == Link::Bad && count.is_multiple_of(4) {
            drop(self.bus.publish(&subject, payload.clone()).await);
        }
        let answer = self.bus.request(&subject, payload, Duration::from_secs(2)).await;
        answer.is_ok_and(|answer| {
            let stored: ReportStored = serde_json::from_slice(&answer).expect("an answer");
            stored.sequence == report.sequence
        })
    }
}
