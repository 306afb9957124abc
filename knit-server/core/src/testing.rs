//! Builders for tests.

use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::Cause;
use knit_rpc::id::{ClusterId, DeploymentId, DeploymentName, NodeId};
use knit_rpc::message::{InstanceStatus, Phase};
use knit_rpc::spec::{
    Bytes, Cpus, DeploymentSpec, HostIp, InstanceSpec, PortSpec, Protocol, UpdateSpec, Wave,
};

use crate::liveness::Life;
use crate::plan::{Dirty, Plan, plan};
use crate::revise;
use crate::snapshot::{Instance, Node, Snapshot};

/// A moment at which everybody has just beaten.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(crate) fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

pub(crate) fn node_id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

pub(crate) fn deployment_id(n: u8) -> DeploymentId {
    DeploymentId::from_bytes([n; 16])
}

pub(crate) fn port(host_port: u16) -> PortSpec {
    PortSpec { container_port: 80, host_port, protocol: Protocol::Tcp, host_ip: HostIp::Mesh }
}

pub(crate) fn instance_spec(image: &str) -> InstanceSpec {
    InstanceSpec { image: image.to_owned(), ..InstanceSpec::default() }
}

/// A cluster of `nodes` nodes that beat at [`NOW`], named `n1`, `n2`, ….
pub(crate) fn cluster(nodes: u8) -> Snapshot {
    let mut snapshot = Snapshot::empty(ClusterId::from_bytes([9; 16]), Timestamp::from_millis(1));
    snapshot.first_beat = Some(Timestamp::from_millis(1));
    for n in 1..=nodes {
        add_node(&mut snapshot, n, &[]);
    }
    snapshot
}

pub(crate) fn add_node(snapshot: &mut Snapshot, n: u8, labels: &[(&str, &str)]) {
    let mut node = Node::new(node_id(n), format!("U{n}"));
    node.number = u32::from(n);
    node.facts.name = format!("n{n}");
    node.facts.wg_pubkey = format!("key{n}");
    node.facts.mesh_ip = Some([10, 45, 0, n].into());
    node.facts.docker = Some("20.10".to_owned());
    node.facts.labels =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    node.last_beat = Some(NOW);
    node.lives.note(Life { boot: "b".into(), agent_start: NOW }, NOW);
    snapshot.nodes.insert(node.id.clone(), node);
}

pub(crate) fn node_mut(snapshot: &mut Snapshot, n: u8) -> &mut Node {
    snapshot.nodes.get_mut(&node_id(n)).unwrap()
}

/// Says what a node has: CPUs, memory and disk in MiB.
pub(crate) fn equip(snapshot: &mut Snapshot, n: u8, cpus: u32, memory: u64, disk: u64) {
    let facts = &mut node_mut(snapshot, n).facts;
    (facts.cpus, facts.memory, facts.disk) = (cpus, memory << 20, disk << 20);
}

/// Reserves thousandths of a CPU, and memory in MiB.
pub(crate) fn reserving(image: &str, cpu_millis: u32, memory: u64) -> InstanceSpec {
    let mut spec = instance_spec(image);
    spec.resources.cpu = Some(Cpus::from_millis(cpu_millis)).filter(|_| cpu_millis > 0);
    spec.resources.memory = Some(Bytes(memory << 20)).filter(|_| memory > 0);
    spec
}

/// Changes what is wanted of deployment `n` besides its container, at the same revision.
pub(crate) fn amend(snapshot: &mut Snapshot, n: u8, change: impl FnOnce(&mut DeploymentSpec)) {
    let deployment = snapshot.deployments.get_mut(&deployment_id(n)).unwrap();
    change(&mut deployment.spec);
    deployment.spec_hash = deployment.spec.instance.hash();
    let (hash, spec) = (deployment.spec_hash.clone(), deployment.spec.instance.clone());
    snapshot.specs.insert(hash, spec);
}

/// Everybody beats at this moment.
pub(crate) fn beat_all(snapshot: &mut Snapshot, at: Timestamp) {
    for node in snapshot.nodes.values_mut() {
        node.last_beat = Some(at);
    }
}

/// Wants deployment `n`, named `d{n}`; a known one gets a new revision, and all its slots change
/// at once.
pub(crate) fn deploy(snapshot: &mut Snapshot, n: u8, replicas: u32, spec: InstanceSpec) {
    deploy_on(snapshot, n, replicas, spec, &[]);
}

pub(crate) fn deploy_on(
    snapshot: &mut Snapshot,
    n: u8,
    replicas: u32,
    spec: InstanceSpec,
    selector: &[(&str, &str)],
) {
    let update = UpdateSpec { wave: Wave::Percent(100), ..UpdateSpec::default() };
    let node_selector =
        selector.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = DeploymentSpec { replicas, node_selector, update, ..named(n, spec) };
    deploy_spec(snapshot, n, spec, NOW);
}

/// A deployment's spec with the name that [`deploy_spec`] wants.
pub(crate) fn named(n: u8, spec: InstanceSpec) -> DeploymentSpec {
    DeploymentSpec::new(DeploymentName::parse(format!("d{n}")).unwrap(), spec)
}

/// Wants deployment `n` exactly so.
pub(crate) fn deploy_spec(snapshot: &mut Snapshot, n: u8, spec: DeploymentSpec, now: Timestamp) {
    let id = deployment_id(n);
    snapshot.specs.insert(spec.instance.hash(), spec.instance.clone());
    let deployment = match snapshot.deployments.get(&id) {
        Some(known) => revise::next(known, spec, Cause::Deploy, now),
        None => revise::first(id.clone(), spec, now),
    };
    snapshot.deployments.insert(id, deployment);
}

/// Whether a plan leaves every instance where it is.
pub(crate) fn moves_nothing(plan: &Plan) -> bool {
    plan.created.is_empty() && plan.removed.is_empty()
}

/// Plans and applies.
pub(crate) fn settle(snapshot: &mut Snapshot, now: Timestamp) -> Plan {
    let plan = plan(snapshot, &Dirty::All, now);
    plan.apply(snapshot);
    plan
}

/// Has a node report an instance; what runs has done so for long.
pub(crate) fn report(snapshot: &mut Snapshot, instance: &Instance, phase: Phase) {
    let deployment = &snapshot.deployments[&instance.deployment];
    let status = InstanceStatus {
        id: instance.id.clone(),
        project: deployment.spec.project.clone(),
        deployment: deployment.spec.name.clone(),
        deployment_id: instance.deployment.clone(),
        slot: instance.slot,
        revision: instance.revision,
        phase,
        message: None,
        container: None,
        address: None,
        ports: Vec::new(),
        image_id: None,
        started_at: None,
        exit_code: None,
        restarts: 0,
        pull: None,
        log: Vec::new(),
    };
    let mut of_node = snapshot.observed.get(&instance.node).cloned().unwrap_or_default();
    of_node.insert(instance.id.clone(), status);
    snapshot.observe(&instance.node, of_node, Timestamp::from_millis(1));
}

/// Every node reports what it was assigned as running, and nothing else.
pub(crate) fn run_all(snapshot: &mut Snapshot) {
    snapshot.observed.clear();
    snapshot.healthy_since.clear();
    for instance in snapshot.instances.clone().values() {
        report(snapshot, instance, Phase::Running);
    }
}

/// `slot@node` of every instance, in order.
pub(crate) fn placed(snapshot: &Snapshot) -> Vec<String> {
    let mut found: Vec<String> = snapshot
        .instances
        .values()
        .map(|i| {
            let deployment = &snapshot.deployments[&i.deployment].spec.name;
            let node = snapshot.nodes[&i.node].name();
            format!("{deployment}.{} r{} a{} on {node}", i.slot, i.revision, i.attempt)
        })
        .collect();
    found.sort();
    found
}
