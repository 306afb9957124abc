//! How long it takes from the request to the assignment at the node: `cargo bench -p knit-server`.
//!
//! A whole server in this process, its database on disk, a real nats-server beside it, and a node
//! that listens as an agent does and says at once that it works on what it was sent.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knit_link::bus::{Bus as _, NatsBus, NatsOptions};
use knit_link::http::ApiClient;
use knit_rpc::Timestamp;
use knit_rpc::api::{RegisterRequest, RegisterResponse};
use knit_rpc::id::NodeId;
use knit_rpc::message::{Generation, Heartbeat, NodeAssignment, NodeFacts};
use knit_rpc::signed::{self, Context};
use knit_rpc::spec::Format;
use knit_rpc::subject;
use knit_runtime::clock;
use knit_server::config::{Admit, Config, Options};
use nkeys::KeyPair;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const RUNS: usize = 300;
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 41, 73, 19);
const PORT: u16 = 17_400;
/// What the whole way may take, 99 times of 100.
const BOUND: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() {
    let state = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let options = Options {
        state_dir: Some(state.path().to_owned()),
        mesh_socket: Some("/nonexistent".into()),
        listen: vec![IpAddr::V4(ADDRESS)],
        admit: Some(Admit::All),
        socket: Some(state.path().join("api.sock")),
        port: Some(PORT),
        nats_port: Some(PORT + 1),
        nats_monitor_port: Some(PORT + 2),
        ..Options::default()
    };
    let config = Config::load(options).unwrap();
    let server = tokio::spawn(knit_server::server::run(config, stop.clone()));
    let api = ApiClient::on_socket(&state.path().join("api.sock")).unwrap();
    let mut node = Node::join(&api).await;
    let mut accepted = Vec::new();
    let mut assigned = Vec::new();
    for run in 0..RUNS {
        let text = format!("{{name: web, image: 'app:{run}', env: {{RUN: '{run}'}}}}");
        let begin = Instant::now();
        api.deploy(text, Format::Yaml).await.unwrap();
        accepted.push(begin.elapsed());
        node.next(&format!("app:{run}")).await;
        assigned.push(begin.elapsed());
    }
    print("request to answer", &mut accepted);
    print("request to the assignment at the node", &mut assigned);
    let p99 = assigned[RUNS * 99 / 100];
    println!("p99 is {}", if p99 <= BOUND { "within 50 ms" } else { "OVER 50 ms" });
    stop.cancel();
    server.await.unwrap().unwrap();
}

fn print(what: &str, taken: &mut [Duration]) {
    taken.sort();
    let at = |percent: usize| taken[taken.len() * percent / 100].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms", at(50), at(90), at(99));
}

/// As much of an agent as it takes to be sent assignments.
struct Node {
    id: NodeId,
    cluster: knit_rpc::id::ClusterId,
    server_key: String,
    bus: NatsBus,
    assignments: tokio::sync::mpsc::Receiver<knit_link::bus::Message>,
}

impl Node {
    async fn join(api: &ApiClient) -> Self {
        let key = KeyPair::new_user();
        let id = NodeId::from_bytes([1; 16]);
        let registered = loop {
            match register(api, &key, &id).await {
                Some(registered) => break registered,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let options = NatsOptions {
            name: "bench".to_owned(),
            url: registered.nats_url,
            local_address: None,
            inbox_prefix: Some(subject::inbox_prefix(&id)),
            nkey_seed: key.seed().unwrap(),
            jwt: watch::channel(registered.user_jwt).1,
            ca: None,
        };
        let bus = NatsBus::connect(options).await.unwrap();
        let assignments = bus.subscribe(&subject::tasks(&id)).await.unwrap();
        bus.state().wait_for(|state| *state == knit_link::bus::BusState::Connected).await.unwrap();
        let (cluster, server_key) = (registered.cluster, registered.server_key);
        let node = Self { id, cluster, server_key, bus, assignments };
        let facts = NodeFacts {
            name: "n1".to_owned(),
            docker: Some("20.10".to_owned()),
            ..NodeFacts::default()
        };
        node.beat(Generation::default(), Some(facts)).await;
        node
    }

    /// Waits for the assignment that has this image, and says that it works on it.
    async fn next(&mut self, image: &str) {
        loop {
            let message = self.assignments.recv().await.unwrap();
            let assignment: NodeAssignment =
                signed::verify(&self.server_key, Context::Assignment, &message.payload).unwrap();
            self.beat(assignment.generation, None).await;
            if assignment.specs.values().any(|spec| spec.image == image) {
                return;
            }
        }
    }

    async fn beat(&self, applied: Generation, facts: Option<NodeFacts>) {
        let beat = Heartbeat {
            cluster: self.cluster.clone(),
            node: self.id.clone(),
            boot: "b".to_owned(),
            agent_start: Timestamp::default(),
            applied,
            inventory: String::new(),
            facts,
            probed: std::collections::BTreeMap::new(),
        };
        let payload = serde_json::to_vec(&beat).unwrap();
        self.bus.publish(&subject::heartbeat(&self.id), payload).await.unwrap();
    }
}

async fn register(api: &ApiClient, key: &KeyPair, id: &NodeId) -> Option<RegisterResponse> {
    let request = RegisterRequest {
        node: id.clone(),
        nkey: key.public_key(),
        nonce: "00".repeat(16),
        at: clock::now(),
        cluster: None,
        name: "n1".to_owned(),
        wg_pubkey: STANDARD.encode([1; 32]),
        mesh_ip: [10, 45, 0, 1].into(),
        boot: "b".to_owned(),
        agent_start: Timestamp::default(),
        applied: Generation::default(),
        labels: std::collections::BTreeMap::new(),
        host_networks: Vec::new(),
        subnet: None,
        sealing_key: None,
        join: None,
        former: None,
    };
    let answer =
        api.register(signed::sign(key, Context::Register, &request).unwrap()).await.ok()?;
    signed::peek(&answer).ok()
}
