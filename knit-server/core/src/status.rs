//! What the API shows of a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use knit_rpc::Timestamp;
use knit_rpc::api::{
    Availability, Cause, DeploymentState, DeploymentView, InstanceView, NodeState, NodeView,
    Reserved, RolloutState, RolloutView, Unplaced,
};
use knit_rpc::id::DeploymentId;
use knit_rpc::message::{InstanceStatus, Phase, Usage};
use knit_rpc::spec::{Mode, VolumeName};

use crate::eligibility;
use crate::liveness::Verdicts;
use crate::preview;
use crate::snapshot::{Deployment, Instance, Node, Snapshot};

/// A mesh peer as the server's sidecar lists it, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    pub pubkey: String,
    pub hostname: String,
    pub mesh_ip: Option<Ipv4Addr>,
    pub endpoint: String,
    pub last_seen: Option<Timestamp>,
}

/// The mesh as the server's sidecar sees it; the local host is not among its peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshView {
    pub own_key: String,
    pub own_ip: Option<Ipv4Addr>,
    pub own_name: String,
    pub peers: Vec<Peer>,
}

/// One list of hosts: registered nodes, and mesh peers without an agent.
pub fn nodes(snapshot: &Snapshot, verdicts: &Verdicts, mesh: &MeshView) -> Vec<NodeView> {
    let mut views: Vec<NodeView> =
        snapshot.nodes.values().map(|node| node_view(snapshot, node, verdicts, mesh)).collect();
    let claimed: BTreeSet<&str> =
        snapshot.nodes.values().map(|node| node.facts.wg_pubkey.as_str()).collect();
    views.extend(
        mesh.peers
            .iter()
            .filter(|peer| !peer.pubkey.is_empty() && !claimed.contains(peer.pubkey.as_str()))
            .map(|peer| discovered(peer, false)),
    );
    if !mesh.own_key.is_empty() && !claimed.contains(mesh.own_key.as_str()) {
        let own = Peer {
            pubkey: mesh.own_key.clone(),
            hostname: mesh.own_name.clone(),
            mesh_ip: mesh.own_ip,
            ..Peer::default()
        };
        views.push(discovered(&own, true));
    }
    views.sort_by(|a, b| (&a.name, &a.id, &a.wg_pubkey).cmp(&(&b.name, &b.id, &b.wg_pubkey)));
    views
}

fn node_view(snapshot: &Snapshot, node: &Node, verdicts: &Verdicts, mesh: &MeshView) -> NodeView {
    let instances: Vec<&Instance> = snapshot.instances.on_node(&node.id).collect();
    let verdict = verdicts.nodes.get(&node.id);
    let facts = &node.facts;
    let key = (!facts.wg_pubkey.is_empty()).then(|| facts.wg_pubkey.clone());
    let peer = mesh.peers.iter().find(|peer| Some(&peer.pubkey) == key.as_ref());
    let adopting =
        node.adopting.then(|| "taking in what it runs and this server has forgotten".to_owned());
    NodeView {
        id: Some(node.id.clone()),
        name: node.name().to_owned(),
        state: verdict.map_or(NodeState::Joining, |verdict| verdict.state),
        message: verdict.and_then(|verdict| verdict.message.clone()).or(adopting),
        server: key.as_ref() == Some(&mesh.own_key)
            || (mesh.own_ip.is_some() && facts.mesh_ip == mesh.own_ip),
        mesh_ip: facts.mesh_ip,
        wg_pubkey: key,
        endpoint: peer.map(|peer| peer.endpoint.clone()).filter(|text| !text.is_empty()),
        mesh_last_seen: peer.and_then(|peer| peer.last_seen),
        last_heartbeat: node.last_beat,
        subnet: node.subnet,
        labels: node.labels(),
        instances: u32::try_from(instances.len()).unwrap_or(u32::MAX),
        arch: facts.arch.clone(),
        kernel: facts.kernel.clone(),
        docker: facts.docker.clone(),
        agent_version: facts.agent_version.clone(),
        cpus: facts.cpus,
        memory: facts.memory,
        disk: facts.disk,
        usage: facts.usage,
        reserved: reserved(snapshot, &instances),
        availability: node.availability,
        draining: draining(snapshot, node, &instances),
        boot: node.boot().to_owned(),
        rebooted_at: node.rebooted_at,
    }
}

fn reserved(snapshot: &Snapshot, instances: &[&Instance]) -> Reserved {
    let specs = instances.iter().filter_map(|instance| snapshot.specs.get(&instance.spec));
    specs.fold(Reserved::default(), |sum, spec| Reserved {
        cpu_millis: sum.cpu_millis + spec.resources.cpu.map_or(0, |cpu| cpu.as_millis().into()),
        memory: sum.memory + spec.resources.memory.map_or(0, |memory| memory.0),
        disk: sum.disk + spec.resources.disk.map_or(0, |disk| disk.0),
    })
}

/// What a drain still waits for, each with what keeps it.
fn draining(snapshot: &Snapshot, node: &Node, instances: &[&Instance]) -> Vec<String> {
    if node.availability != Availability::Draining {
        return Vec::new();
    }
    let sentence = |instance: &&Instance| {
        let deployment = snapshot.deployments.get(&instance.deployment)?;
        let name = format!("{}.{}", deployment.spec.name, instance.slot);
        let pinned = deployment.spec.instance.volumes.iter().find(|mount| {
            let volume = VolumeName::of(&deployment.spec.project, mount, instance.slot);
            snapshot.volumes.get(&volume).is_some_and(|volume| volume.node == node.id)
        });
        if let Some(mount) = pinned {
            return Some(format!("{name} stays with its volume {}", mount.name));
        }
        let mut others = snapshot.instances.of_slot(&instance.deployment, instance.slot);
        let replacement = others.find(|other| other.node != node.id);
        Some(match replacement {
            Some(other) => {
                let place = snapshot.nodes.get(&other.node).map_or("another node", Node::name);
                format!("{name} moves to {place}: {}", snapshot.phase_of(other))
            }
            None => format!("{name} has no other place yet"),
        })
    };
    instances.iter().filter_map(sentence).collect()
}

fn discovered(peer: &Peer, server: bool) -> NodeView {
    let name = if peer.hostname.is_empty() {
        peer.pubkey.chars().take(8).collect()
    } else {
        peer.hostname.clone()
    };
    NodeView {
        id: None,
        name,
        state: NodeState::Discovered,
        message: Some("in the mesh, but no agent has registered from it".to_owned()),
        server,
        mesh_ip: peer.mesh_ip,
        wg_pubkey: Some(peer.pubkey.clone()),
        endpoint: Some(peer.endpoint.clone()).filter(|text| !text.is_empty()),
        mesh_last_seen: peer.last_seen,
        last_heartbeat: None,
        subnet: None,
        labels: BTreeMap::new(),
        instances: 0,
        arch: String::new(),
        kernel: String::new(),
        docker: None,
        agent_version: String::new(),
        cpus: 0,
        memory: 0,
        disk: 0,
        usage: Usage::default(),
        reserved: Reserved::default(),
        availability: Availability::default(),
        draining: Vec::new(),
        boot: String::new(),
        rebooted_at: None,
    }
}

/// All instances: those decided, and those that nodes still report.
pub fn instances(snapshot: &Snapshot) -> Vec<InstanceView> {
    let decided = snapshot.instances.values().filter_map(|instance| {
        let deployment = snapshot.deployments.get(&instance.deployment)?;
        Some(decided_view(snapshot, deployment, instance))
    });
    let mut views: Vec<InstanceView> = decided.chain(leftovers(snapshot, |_| true)).collect();
    sort(&mut views);
    views
}

/// One deployment with its instances.
pub fn deployment(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    unplaced: &[Unplaced],
) -> DeploymentView {
    let mine: Vec<&Instance> = snapshot.instances.of_deployment(&deployment.id).collect();
    let mut views: Vec<InstanceView> =
        mine.iter().map(|instance| decided_view(snapshot, deployment, instance)).collect();
    views.extend(leftovers(snapshot, |status| status.deployment_id == deployment.id));
    sort(&mut views);
    let unplaced = if deployment.removed_at.is_some() { Vec::new() } else { unplaced.to_vec() };
    let running = mine
        .iter()
        .filter(|i| is_newest(deployment, i) && snapshot.phase_of(i) == Phase::Running)
        .filter(|i| !verdicts.is_gone(&i.node))
        .map(|i| i.slot)
        .collect::<BTreeSet<u32>>();
    let slots = slots(snapshot, verdicts, deployment);
    let running = u32::try_from(running.len()).unwrap_or(u32::MAX);
    DeploymentView {
        project: deployment.spec.project.clone(),
        name: deployment.spec.name.clone(),
        revision: deployment.revision,
        replicas: slots,
        running,
        state: state(snapshot, verdicts, deployment, &mine, (running, slots), &unplaced),
        image: deployment.spec.instance.image.clone(),
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
        spec: deployment.spec.clone(),
        instances: views,
        unplaced,
        stable_revision: deployment.stable,
        rollout: rollout(snapshot, verdicts, deployment),
    }
}

/// How many slots a deployment should have now.
fn slots(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &Deployment) -> u32 {
    let spec = &deployment.spec;
    match spec.mode {
        _ if deployment.stopped => 0,
        Mode::Replicated => spec.replicas,
        Mode::EveryNode => {
            let nodes = eligibility::every_node(snapshot, verdicts, spec);
            u32::try_from(nodes.len()).unwrap_or(u32::MAX)
        }
    }
}

/// The newest rollout, under way or ended; none of a deployment whose revisions nobody remembers.
pub fn rollout(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
) -> Option<RolloutView> {
    // A revision that brought the stable one back by itself speaks for the one that was given up.
    let newest = deployment.revisions.get(&deployment.revision)?;
    let slots = slots(snapshot, verdicts, deployment);
    let walk = deployment.rollout.as_ref();
    let healthy: BTreeSet<u32> = snapshot
        .instances
        .of_deployment(&deployment.id)
        .filter(|i| is_newest(deployment, i) && snapshot.phase_of(i) == Phase::Running)
        .map(|i| i.slot)
        .collect();
    let healthy = u32::try_from(healthy.len()).unwrap_or(u32::MAX);
    let given_up = match newest.cause {
        Cause::Rollback { of, automatic: true, .. } => deployment.revisions.get(&of),
        Cause::Rollback { .. } | Cause::Deploy | Cause::Scale | Cause::Restart => None,
    };
    let state = match (walk, newest.state, given_up) {
        (Some(walk), _, _) if walk.paused => RolloutState::Paused,
        (Some(_), _, _) => RolloutState::Running,
        (None, RolloutState::Succeeded, Some(_)) => RolloutState::RolledBack,
        (None, state, _) => state,
    };
    let own_message = walk.map_or(&newest.message, |walk| &walk.message);
    let message = own_message.as_ref().or(given_up.and_then(|old| old.message.as_ref()));
    let own_log = walk.map_or(&newest.log, |walk| &walk.log);
    let log = given_up.filter(|_| own_log.is_empty()).map_or(own_log, |old| &old.log);
    Some(RolloutView {
        revision: deployment.revision,
        from: walk.and_then(|walk| walk.from),
        cause: newest.cause.clone(),
        state,
        message: message.cloned(),
        log: log.clone(),
        admitted: walk.map_or(slots, |walk| walk.admitted.min(slots)),
        healthy,
        slots,
        notes: preview::notes(snapshot, &deployment.spec),
        started_at: newest.created_at,
        ended_at: newest.ended_at,
    })
}

/// Whether anything of a removed deployment is left on a node that can be heard.
pub fn is_left(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &DeploymentId) -> bool {
    snapshot.instances.values().any(|instance| instance.deployment == *deployment)
        || older_left(snapshot, verdicts, deployment)
}

fn state(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    deployment: &Deployment,
    mine: &[&Instance],
    (running, slots): (u32, u32),
    unplaced: &[Unplaced],
) -> DeploymentState {
    if deployment.removed_at.is_some() {
        return DeploymentState::Removing;
    }
    if deployment.stopped {
        let left = !mine.is_empty() || older_left(snapshot, verdicts, &deployment.id);
        return if left { DeploymentState::Removing } else { DeploymentState::Stopped };
    }
    let rollout = deployment.rollout.as_ref();
    if rollout.is_some_and(|rollout| rollout.paused) {
        return DeploymentState::Paused;
    }
    let failed = mine.iter().any(|instance| {
        is_newest(deployment, instance)
            && matches!(snapshot.phase_of(instance), Phase::Failed | Phase::CrashLoop)
            && !verdicts.is_gone(&instance.node)
    });
    if failed {
        return DeploymentState::Failed;
    }
    if !unplaced.is_empty() {
        return DeploymentState::Unplaced;
    }
    let extra = mine.len() > slots as usize || older_left(snapshot, verdicts, &deployment.id);
    if running >= slots && !extra {
        return DeploymentState::Running;
    }
    let began = mine
        .iter()
        .any(|instance| matches!(snapshot.phase_of(instance), Phase::Unready | Phase::Restarting));
    if rollout.is_none() && began { DeploymentState::Degraded } else { DeploymentState::Deploying }
}

fn is_newest(deployment: &Deployment, instance: &Instance) -> bool {
    instance.spec == deployment.spec_hash
        && instance.revision >= deployment.restart_floor
        && !instance.retry
}

/// Whether a node that can be heard still has instances that were given up.
fn older_left(snapshot: &Snapshot, verdicts: &Verdicts, deployment: &DeploymentId) -> bool {
    snapshot.observed.of_deployment(deployment).any(|(node, status)| {
        !verdicts.is_gone(node) && !snapshot.instances.contains_key(&status.id)
    })
}

fn decided_view(snapshot: &Snapshot, deployment: &Deployment, instance: &Instance) -> InstanceView {
    let status = snapshot.observed_of(instance);
    let node = snapshot.nodes.get(&instance.node);
    let mut view = InstanceView {
        id: instance.id.clone(),
        project: deployment.spec.project.clone(),
        deployment: deployment.spec.name.clone(),
        slot: instance.slot,
        revision: instance.revision,
        node: instance.node.clone(),
        node_name: node.map_or_else(|| instance.node.to_string(), |node| node.name().to_owned()),
        mesh_ip: node.and_then(Node::mesh_ip),
        phase: Phase::Pending,
        wanted: true,
        message: None,
        container: None,
        address: None,
        ports: Vec::new(),
        started_at: None,
        exit_code: None,
        restarts: 0,
        pull: None,
        log: Vec::new(),
        because: Some(instance.because.clone()).filter(|text| !text.is_empty()),
    };
    if let Some(status) = status {
        observe(&mut view, status);
    }
    view
}

fn leftovers<'a>(
    snapshot: &'a Snapshot,
    filter: impl Fn(&InstanceStatus) -> bool + 'a,
) -> impl Iterator<Item = InstanceView> + 'a {
    snapshot.observed.iter().flat_map(move |(node_id, statuses)| {
        let node = snapshot.nodes.get(node_id);
        let mut views = Vec::new();
        for status in statuses.values() {
            if snapshot.instances.contains_key(&status.id) || !filter(status) {
                continue;
            }
            let mut view = InstanceView {
                id: status.id.clone(),
                project: status.project.clone(),
                deployment: status.deployment.clone(),
                slot: status.slot,
                revision: status.revision,
                node: node_id.clone(),
                node_name: node.map_or_else(|| node_id.to_string(), |node| node.name().to_owned()),
                mesh_ip: node.and_then(Node::mesh_ip),
                phase: status.phase,
                wanted: false,
                message: None,
                container: None,
                address: None,
                ports: Vec::new(),
                started_at: None,
                exit_code: None,
                restarts: 0,
                pull: None,
                log: Vec::new(),
                because: None,
            };
            observe(&mut view, status);
            views.push(view);
        }
        views
    })
}

fn observe(view: &mut InstanceView, status: &InstanceStatus) {
    view.phase = status.phase;
    view.message.clone_from(&status.message);
    view.container.clone_from(&status.container);
    view.address = status.address;
    view.ports.clone_from(&status.ports);
    view.started_at = status.started_at;
    view.exit_code = status.exit_code;
    view.restarts = status.restarts;
    view.pull = status.pull;
    view.log.clone_from(&status.log);
}

fn sort(views: &mut [InstanceView]) {
    views.sort_by(|a, b| {
        (&a.project, &a.deployment, a.slot, a.revision, &a.id).cmp(&(
            &b.project,
            &b.deployment,
            b.slot,
            b.revision,
            &b.id,
        ))
    });
}
