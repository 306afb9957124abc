//! Each message as JSON: a change here is a change of the wire.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::api::{RegisterRequest, RegisterResponse};
use knit_rpc::event::{Event, EventKind};
use knit_rpc::id::{ClusterId, DeploymentId, DeploymentName, InstanceId, NodeId, ProjectName};
use knit_rpc::message::{
    AssignedInstance, Generation, Heartbeat, InstanceReport, InstanceStatus, NodeAssignment,
    NodeFacts, Phase, ReportIn, ReportStored,
};
use knit_rpc::spec::{Format, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn cluster() -> ClusterId {
    ClusterId::from_bytes([0xc1; 16])
}

fn node() -> NodeId {
    NodeId::from_bytes([0x0d; 16])
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([0xde; 16])
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis)
}

/// Snapshots a message, and holds that it reads back equal and takes unknown keys.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
    insta::assert_json_snapshot!(name, message);
    let mut json = serde_json::to_value(message).expect("JSON");
    json["from_tomorrow"] = serde_json::json!({"x": 1});
    assert_eq!(&serde_json::from_value::<T>(json).expect("a message"), message);
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        cluster: cluster(),
        node: node(),
        boot: "8f14e45f".to_owned(),
        agent_start: at(0),
        applied: Generation { epoch: 3, counter: 123_456 },
        inventory: "0123456789abcdef".to_owned(),
        facts: None,
        probed: BTreeMap::new(),
    }
}

#[test]
fn heartbeats() {
    check("heartbeat", &heartbeat());
    let facts = NodeFacts {
        name: "fra-2".to_owned(),
        wg_pubkey: "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=".to_owned(),
        mesh_ip: Some([10, 45, 75, 206].into()),
        labels: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
        arch: "amd64".to_owned(),
        docker: Some("20.10.24".to_owned()),
        cpus: 2,
        memory: 4 << 30,
        ..NodeFacts::default()
    };
    check("heartbeat_with_facts", &Heartbeat { facts: Some(facts), ..heartbeat() });
}

#[test]
fn a_beat_with_nothing_new_fits_250_bytes() {
    let bytes = serde_json::to_vec(&heartbeat()).unwrap().len();
    assert!(bytes <= 250, "{bytes} bytes");
}

#[test]
fn assignments() {
    let manifest = "name: hello\nimage: hello:1\nports: [{container_port: 80, host_port: 8080}]\n";
    let spec = parse(manifest, Format::Yaml).unwrap().instance;
    let hash = spec.hash();
    let instances = (0..2)
        .map(|slot| AssignedInstance {
            id: InstanceId::derive(&deployment(), slot, 1, 0),
            project: ProjectName::default(),
            deployment: DeploymentName::parse("hello").unwrap(),
            deployment_id: deployment(),
            slot,
            revision: 1,
            spec: hash.clone(),
            policy: None,
            secrets: std::collections::BTreeMap::new(),
            held: false,
        })
        .collect();
    let assignment = NodeAssignment {
        cluster: cluster(),
        node: node(),
        generation: Generation { epoch: 1, counter: 42 },
        specs: BTreeMap::from([(hash, spec)]),
        instances,
        policies: BTreeMap::new(),
        networks: Vec::new(),
        remove_volumes: BTreeSet::new(),
        keep_images: BTreeSet::new(),
        secrets: Vec::new(),
    };
    check("assignment", &assignment);
}

#[test]
fn reports() {
    let status = InstanceStatus {
        id: InstanceId::derive(&deployment(), 0, 1, 0),
        project: ProjectName::default(),
        deployment: DeploymentName::parse("hello").unwrap(),
        deployment_id: deployment(),
        slot: 0,
        revision: 1,
        phase: Phase::Failed,
        message: Some("pull access denied for nosuch".to_owned()),
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
    let report = InstanceReport {
        cluster: cluster(),
        node: node(),
        agent_start: at(0),
        sequence: 7,
        full: true,
        applied: Generation { epoch: 1, counter: 42 },
        instances: vec![status],
        removed: vec![InstanceId::derive(&deployment(), 1, 1, 0)],
        held: None,
    };
    check("report", &report);
    check("report_stored", &ReportStored { sequence: 7 });
    check("report_in", &ReportIn { cluster: cluster(), held: false, probe: None });
}

#[test]
fn registration() {
    let request = RegisterRequest {
        node: node(),
        nkey: "UABC".to_owned(),
        nonce: "00".repeat(16),
        at: at(0),
        cluster: None,
        name: "fra-2".to_owned(),
        wg_pubkey: "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=".to_owned(),
        mesh_ip: [10, 45, 75, 206].into(),
        boot: "8f14e45f".to_owned(),
        agent_start: at(0),
        applied: Generation::default(),
        labels: BTreeMap::new(),
        host_networks: vec!["192.168.1.0/24".parse().unwrap()],
        subnet: None,
        sealing_key: None,
        join: None,
        former: None,
    };
    check("register_request", &request);
    let mut response = serde_json::to_value(RegisterResponse {
        cluster: cluster(),
        node: node(),
        nonce: "00".repeat(16),
        server_key: "NABC".to_owned(),
        nats_url: "nats://10.45.75.206:7422".to_owned(),
        nats_ca: None,
        user_jwt: "eyJ…".to_owned(),
        expires: at(86_400_000),
        subnet: "10.208.1.0/24".parse().unwrap(),
        adopt: false,
    })
    .unwrap();
    response["from_tomorrow"] = 1.into();
    let response: RegisterResponse = serde_json::from_value(response).unwrap();
    check("register_response", &response);
}

#[test]
fn events() {
    let event = Event {
        sequence: 9,
        at: at(5),
        kind: EventKind::InstanceChanged {
            project: ProjectName::default(),
            deployment: DeploymentName::parse("hello").unwrap(),
            slot: 1,
            instance: InstanceId::derive(&deployment(), 1, 1, 0),
            node: node(),
            phase: Phase::Running.to_string(),
            message: None,
        },
    };
    check("event", &event);
    let rollout = EventKind::RolloutChanged {
        project: ProjectName::default(),
        deployment: DeploymentName::parse("hello").unwrap(),
        revision: 2,
        state: "rolled-back".to_owned(),
        message: Some("hello.0 crashed".to_owned()),
    };
    check("event_rollout", &Event { kind: rollout, ..event.clone() });
    let reboot = EventKind::NodeRebooted { node: node(), name: "host-1".to_owned() };
    check("event_reboot", &Event { kind: reboot, ..event });
}

#[test]
fn generations_order_by_epoch_first() {
    let generation = |epoch, counter| Generation { epoch, counter };
    assert!(generation(2, 0) > generation(1, 99));
    assert!(generation(1, 2) > generation(1, 1));
}
