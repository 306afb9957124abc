//! An agent in this process.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use knit_agent::agent::{Agent, Parts, StartError};
use knit_agent::config::{Config, Server as ServerConfig};
use knit_agent::engine::Engine;
use knit_agent::firewall::Firewall;
use knit_agent::mesh::MeshAddress;
use knit_agent::session::BusSource;
use knit_rpc::id::{DeploymentId, InstanceId, ProjectName};
use knit_rpc::message::AssignedInstance;
use knit_rpc::spec::{InstanceSpec, NodePolicy};

use super::server::Server;

pub(crate) fn config(state_dir: &Path, server: &Server) -> Config {
    Config {
        policy: NodePolicy { host_network: true, ..NodePolicy::default() },
        nats_ca: None,
        state_dir: state_dir.to_owned(),
        secrets_dir: state_dir.join("secrets"),
        mesh_socket: None,
        server: ServerConfig::Url(server.url()),
        docker_socket: String::new(),
        name: "host-a".to_owned(),
        labels: [("role".to_owned(), "web".to_owned())].into(),
        garbage: knit_agent_core::garbage::Marks::default(),
        credentials: Some(state_dir.join("credentials")),
    }
}

pub(crate) fn loopback() -> MeshAddress {
    MeshAddress { ip: Ipv4Addr::LOCALHOST, interface: "lo".to_owned(), pubkey: "key".to_owned() }
}

pub(crate) fn start(
    state_dir: &Path,
    server: &Server,
    engine: &(impl Engine + Clone),
    firewall: &(impl Firewall + Clone),
) -> Result<Agent, StartError> {
    start_at(loopback(), state_dir, server, engine, firewall)
}

pub(crate) fn start_at(
    mesh: MeshAddress,
    state_dir: &Path,
    server: &Server,
    engine: &(impl Engine + Clone),
    firewall: &(impl Firewall + Clone),
) -> Result<Agent, StartError> {
    let parts = Parts {
        engine: Arc::new(engine.clone()),
        firewall: Arc::new(firewall.clone()),
        bus: BusSource::Given(Arc::new(server.bus.client())),
        mesh: Some(mesh),
    };
    Agent::start(config(state_dir, server), parts)
}

/// Slot 0 of a deployment at a revision, with a spec as users write it.
pub(crate) fn instance(
    deployment: &str,
    revision: u64,
    spec: serde_json::Value,
) -> (AssignedInstance, InstanceSpec) {
    let spec: InstanceSpec = serde_json::from_value(spec).unwrap();
    let mut bytes = [0; 16];
    bytes[..deployment.len()].copy_from_slice(deployment.as_bytes());
    let deployment_id = DeploymentId::from_bytes(bytes);
    let assigned = AssignedInstance {
        id: InstanceId::derive(&deployment_id, 0, revision, 0),
        project: ProjectName::default(),
        deployment: deployment.parse().unwrap(),
        deployment_id,
        slot: 0,
        revision,
        spec: spec.hash(),
        policy: None,
        secrets: std::collections::BTreeMap::new(),
        held: false,
    };
    (assigned, spec)
}
