//! How long planning takes on a large fleet: `cargo bench -p knit-server-core`.
//!
//! 500 nodes and 10 000 instances of 200 deployments: some reserve resources, some publish ports,
//! some are spread over zones, some are selected by label, some keep data.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]
#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::{Duration, Instant};

use knit_rpc::Timestamp;
use knit_rpc::api::Cause;
use knit_rpc::id::{ClusterId, DeploymentId, DeploymentName, NodeId};
use knit_rpc::message::{InstanceStatus, Phase};
use knit_rpc::spec::{
    Bytes, Cpus, DeploymentSpec, HostIp, InstanceSpec, PortSpec, Protocol, SpreadKey, UpdateSpec,
    VolumeMount, Wave,
};
use knit_server_core::liveness::Life;
use knit_server_core::{Dirty, Node, Snapshot, plan, revise};

const NODES: u32 = 500;
const DEPLOYMENTS: u32 = 200;
const REPLICAS: u32 = 50;
const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const RUNS: usize = 21;
/// How long one measurement takes, about.
const SAMPLE: Duration = Duration::from_millis(50);

fn main() {
    let cold = fleet();
    println!("{NODES} nodes, {} instances of {DEPLOYMENTS} deployments", DEPLOYMENTS * REPLICAS);
    measure("from cold, all to be placed", 200.0, &cold, &Dirty::All);

    let settled = settled(cold);
    let id = id_of(7);
    let one = Dirty::Deployments(BTreeSet::from([id.clone()]));
    let wanted = |change: fn(&mut DeploymentSpec)| {
        let mut snapshot = settled.clone();
        let mut spec = snapshot.deployments[&id].spec.clone();
        change(&mut spec);
        snapshot.specs.insert(spec.instance.hash(), spec.instance.clone());
        let next = revise::next(&snapshot.deployments[&id], spec, Cause::Deploy, NOW);
        snapshot.deployments.insert(id.clone(), next);
        snapshot
    };
    let scaled = wanted(|spec| spec.replicas += 1);
    measure("one deployment scaled by one", 2.0, &scaled, &one);
    let updated = wanted(|spec| "image:2".clone_into(&mut spec.instance.image));
    measure("a new revision of one deployment", 2.0, &updated, &one);
    let none = Dirty::Deployments(BTreeSet::new());
    measure("nothing dirty", 2.0, &settled, &none);
    measure("everything looked at, nothing to do", 200.0, &settled, &Dirty::All);
    let crowded = wanted(|spec| {
        spec.replicas = 10_000;
        spec.max_per_node = Some(1);
    });
    measure("10 000 replicas, most fit nowhere", 200.0, &crowded, &one);
    let lost = lost(&settled);
    measure("a node is lost, all looked at", 200.0, &lost, &Dirty::All);
}

/// Prints how long a plan takes, in milliseconds of CPU time, which neighbours on a busy machine
/// lengthen least, and of the clock. The first one is not counted: a server plans again and again
/// on one snapshot.
fn measure(name: &str, wanted_ms: f64, snapshot: &Snapshot, dirty: &Dirty) {
    let mut planned = plan(snapshot, dirty, NOW);
    let began = Instant::now();
    black_box(plan(black_box(snapshot), dirty, NOW));
    // The kernel counts in ticks: what is short is repeated.
    let once = began.elapsed().max(Duration::from_micros(1));
    let repeat = u32::try_from(SAMPLE.as_nanos() / once.as_nanos()).unwrap_or(1).max(1);
    let (mut times, mut clocked) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (began, used) = (Instant::now(), cpu_time());
        for _ in 0..repeat {
            planned = black_box(plan(black_box(snapshot), dirty, NOW));
        }
        let elapsed = began.elapsed();
        let spent =
            used.zip(cpu_time()).map_or(elapsed, |(before, after)| after.saturating_sub(before));
        times.push(spent / repeat);
        clocked.push(elapsed / repeat);
    }
    times.sort();
    clocked.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let median = millis(times[RUNS / 2]);
    println!(
        "{name:38} {median:8.3} ms of CPU (min {:.3}, max {:.3}; by the clock {:.3}; wanted below \
         {wanted_ms}){}  {} created, {} removed, {} unplaced",
        millis(times[0]),
        millis(times[RUNS - 1]),
        millis(clocked[RUNS / 2]),
        if median < wanted_ms { "" } else { "  TOO SLOW" },
        planned.created.len(),
        planned.removed.len(),
        planned.unplaced.values().map(Vec::len).sum::<usize>(),
    );
}

/// What this thread has spent on a CPU, where the kernel tells.
fn cpu_time() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn id_of(n: u32) -> DeploymentId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    DeploymentId::from_bytes(bytes)
}

fn fleet() -> Snapshot {
    let mut snapshot = Snapshot::empty(ClusterId::from_bytes([9; 16]), Timestamp::from_millis(1));
    snapshot.first_beat = Some(Timestamp::from_millis(1));
    for n in 0..NODES {
        let node = node(n);
        snapshot.nodes.insert(node.id.clone(), node);
    }
    for n in 0..DEPLOYMENTS {
        let spec = spec(n);
        snapshot.specs.insert(spec.instance.hash(), spec.instance.clone());
        let deployment = revise::first(id_of(n), spec, NOW);
        snapshot.deployments.insert(id_of(n), deployment);
    }
    snapshot
}

fn node(n: u32) -> Node {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&n.wrapping_mul(0x85eb_ca6b).to_be_bytes());
    let mut node = Node::new(NodeId::from_bytes(bytes), format!("U{n}"));
    node.number = n;
    node.facts.name = format!("node-{n}");
    node.facts.wg_pubkey = format!("key{n:040}");
    node.facts.mesh_ip = Some(std::net::Ipv4Addr::from(0x0a2d_0000 + n));
    node.facts.docker = Some("27.1.1".to_owned());
    "amd64".clone_into(&mut node.facts.arch);
    (node.facts.cpus, node.facts.memory, node.facts.disk) = (16, 64 << 30, 1 << 40);
    node.facts.labels = BTreeMap::from([
        ("zone".to_owned(), format!("z{}", n % 5)),
        ("role".to_owned(), if n.is_multiple_of(4) { "db" } else { "web" }.to_owned()),
    ]);
    node.facts.images = (0..20).map(|i| format!("registry.example/app-{}:1", n + i)).collect();
    node.last_beat = Some(NOW);
    node.lives.note(Life { boot: "b".into(), agent_start: NOW }, NOW);
    node
}

fn spec(n: u32) -> DeploymentSpec {
    let mut instance = InstanceSpec {
        image: format!("registry.example/app-{n}:1"),
        env: (0..10).map(|i| (format!("KEY_{i}"), format!("value {i} of {n}"))).collect(),
        ..InstanceSpec::default()
    };
    instance.resources.cpu = Some(Cpus::from_millis(100 + n % 3 * 100));
    instance.resources.memory = Some(Bytes(u64::from(128 + n % 5 * 64) << 20));
    if n.is_multiple_of(3) {
        instance.ports = vec![PortSpec {
            container_port: 80,
            host_port: u16::try_from(8000 + n).unwrap(),
            protocol: Protocol::Tcp,
            host_ip: HostIp::Mesh,
        }];
    }
    if n % 10 == 9 {
        let (name, path) = (format!("data-{n}"), "/data".to_owned());
        instance.volumes = vec![VolumeMount { name, path, read_only: false, shared: false }];
    }
    let mut spec =
        DeploymentSpec::new(DeploymentName::parse(format!("app-{n}")).unwrap(), instance);
    spec.replicas = REPLICAS;
    spec.update = UpdateSpec { wave: Wave::Percent(25), ..UpdateSpec::default() };
    if n % 4 == 1 {
        spec.node_selector = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
    }
    if n % 5 == 2 {
        spec.spread = vec![SpreadKey::Label("zone".to_owned()), SpreadKey::Node];
    }
    spec
}

/// Everything placed, running for long, and every rollout at its end.
fn settled(mut snapshot: Snapshot) -> Snapshot {
    loop {
        let planned = plan(&snapshot, &Dirty::All, NOW);
        planned.apply(&mut snapshot);
        let nodes: Vec<NodeId> = snapshot.nodes.keys().cloned().collect();
        for node in nodes {
            let statuses = snapshot.instances.on_node(&node).map(|instance| {
                let deployment = &snapshot.deployments[&instance.deployment].spec;
                let status = InstanceStatus {
                    id: instance.id.clone(),
                    project: deployment.project.clone(),
                    deployment: deployment.name.clone(),
                    deployment_id: instance.deployment.clone(),
                    slot: instance.slot,
                    revision: instance.revision,
                    phase: Phase::Running,
                    message: None,
                    container: Some("c".repeat(64)),
                    address: None,
                    ports: Vec::new(),
                    image_id: None,
                    started_at: Some(NOW),
                    exit_code: None,
                    restarts: 0,
                    pull: None,
                    log: Vec::new(),
                };
                (status.id.clone(), status)
            });
            let statuses = statuses.collect();
            snapshot.observe(&node, statuses, Timestamp::from_millis(1));
        }
        let at_rest = planned.created.is_empty() && planned.deployments.is_empty();
        if at_rest {
            return snapshot;
        }
    }
}

/// One node was lost, and nobody hears it.
fn lost(settled: &Snapshot) -> Snapshot {
    let mut snapshot = settled.clone();
    let victim = snapshot.nodes.values().find(|node| node.number == 42).unwrap().id.clone();
    let key = snapshot.nodes[&victim].facts.wg_pubkey.clone();
    for node in snapshot.nodes.values_mut() {
        if node.id == victim {
            node.last_beat = Some(Timestamp::from_millis(900_000));
        } else {
            node.facts.unheard.insert(key.clone());
        }
    }
    snapshot
}
