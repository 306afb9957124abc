//! Values as the server would send them, for the tests of what is shown.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::api::{
    Availability, Cause, DeploymentState, DeploymentView, InstanceView, NodeState, NodeView,
    Reserved, RevisionView, RolloutState, RolloutView,
};
use knit_rpc::id::{InstanceId, NodeId, ProjectName};
use knit_rpc::message::{Phase, Usage};
use knit_rpc::spec::{DeploymentSpec, Format, parse};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(super) fn spec() -> DeploymentSpec {
    parse("{name: web, image: 'web:1'}", Format::Yaml).expect("a manifest")
}

pub(super) fn deployment() -> DeploymentView {
    DeploymentView {
        project: ProjectName::default(),
        name: spec().name,
        revision: 2,
        replicas: 1,
        running: 0,
        state: DeploymentState::Deploying,
        image: "web:1".to_owned(),
        created_at: NOW,
        updated_at: NOW,
        spec: spec(),
        instances: Vec::new(),
        unplaced: Vec::new(),
        stable_revision: Some(1),
        rollout: None,
    }
}

/// To revision 2, from revision 1.
pub(super) fn rollout(state: RolloutState) -> RolloutView {
    RolloutView {
        revision: 2,
        from: Some(1),
        cause: Cause::Deploy,
        state,
        message: None,
        log: Vec::new(),
        admitted: 1,
        healthy: 0,
        slots: 1,
        notes: Vec::new(),
        started_at: NOW,
        ended_at: None,
    }
}

pub(super) fn revision(revision: u64, state: RolloutState) -> RevisionView {
    RevisionView {
        revision,
        cause: Cause::Deploy,
        state,
        message: None,
        log: Vec::new(),
        image: "web:1".to_owned(),
        replicas: 1,
        stable: false,
        changed: Vec::new(),
        spec: spec(),
        created_at: NOW,
        ended_at: None,
    }
}

/// Of the newest revision, on `fra-1`.
pub(super) fn instance(slot: u32, phase: Phase) -> InstanceView {
    InstanceView {
        id: InstanceId::parse(format!("{slot:016x}")).expect("an id"),
        project: ProjectName::default(),
        deployment: spec().name,
        slot,
        revision: 2,
        node: NodeId::parse("a".repeat(32)).expect("an id"),
        node_name: "fra-1".to_owned(),
        mesh_ip: None,
        phase,
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
        because: None,
    }
}

pub(super) fn node(name: &str) -> NodeView {
    NodeView {
        id: Some(NodeId::parse("a".repeat(32)).expect("an id")),
        name: name.to_owned(),
        state: NodeState::Ready,
        message: None,
        server: false,
        mesh_ip: None,
        wg_pubkey: None,
        endpoint: None,
        mesh_last_seen: None,
        last_heartbeat: Some(NOW),
        subnet: None,
        labels: BTreeMap::new(),
        instances: 0,
        arch: "amd64".to_owned(),
        kernel: "6.1.0".to_owned(),
        docker: Some("27.1.1".to_owned()),
        agent_version: "0.1.0".to_owned(),
        cpus: 4,
        memory: 0,
        disk: 0,
        usage: Usage::default(),
        reserved: Reserved::default(),
        availability: Availability::Active,
        draining: Vec::new(),
        boot: String::new(),
        rebooted_at: None,
    }
}
