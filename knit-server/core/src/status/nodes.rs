//! Hosts as the API shows them: registered nodes and mesh peers in one list.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use knit_rpc::Timestamp;
use knit_rpc::api::{Availability, NodeState, NodeView, Reserved};
use knit_rpc::id::NodeId;
use knit_rpc::message::Usage;
use knit_rpc::spec::VolumeName;

use crate::liveness::Verdicts;
use crate::snapshot::{Instance, Node, Snapshot};

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
    sort(&mut views);
    views
}

/// A host whose agent asks to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    pub node: NodeId,
    pub nkey: String,
    pub name: String,
    pub wg_pubkey: String,
    pub mesh_ip: Ipv4Addr,
    /// When it asked last.
    pub at: Timestamp,
}

/// The list with the hosts in it that ask to join; each stands in its mesh peer's place.
pub fn with_asking<'a>(
    mut views: Vec<NodeView>,
    asking: impl Iterator<Item = &'a Asking>,
) -> Vec<NodeView> {
    for one in asking {
        let peer = views.iter().position(|view| {
            view.id.is_none() && view.wg_pubkey.as_deref() == Some(one.wg_pubkey.as_str())
        });
        let view = match peer {
            Some(index) => views.swap_remove(index),
            None => discovered(&Peer::default(), false),
        };
        views.push(NodeView {
            id: Some(one.node.clone()),
            name: one.name.clone(),
            state: NodeState::Pending,
            message: Some(format!("asks to join: `knit node approve {}` lets it in", one.name)),
            mesh_ip: Some(one.mesh_ip),
            wg_pubkey: Some(one.wg_pubkey.clone()),
            ..view
        });
    }
    sort(&mut views);
    views
}

fn sort(views: &mut [NodeView]) {
    views.sort_by(|a, b| (&a.name, &a.id, &a.wg_pubkey).cmp(&(&b.name, &b.id, &b.wg_pubkey)));
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
        reserved: snapshot.ledger(&node.id).reserved(),
        availability: node.availability,
        draining: draining(snapshot, node, &instances),
        boot: node.boot().to_owned(),
        rebooted_at: node.rebooted_at,
    }
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
