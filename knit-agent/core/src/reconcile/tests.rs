//! Tables and properties of the comparison.

use std::sync::Arc;

use knit_rpc::id::{ClusterId, DeploymentId, NodeId};
use knit_rpc::message::AssignedInstance;
use knit_rpc::spec::{InstanceSpec, NodePolicy, PortSpec, RunPolicy};

use super::*;
use crate::desired::Owner;
use crate::observed::Listener;

mod healing;
mod model;
mod policy;
mod properties;
mod secrets;
mod stores;
mod tables;
mod walk;

pub(crate) fn owner() -> Owner {
    Owner { cluster: ClusterId::from_bytes([1; 16]), node: NodeId::from_bytes([2; 16]) }
}

pub(crate) fn spec(image: &str, registry: Option<&str>) -> InstanceSpec {
    let json = serde_json::json!({ "image": image, "registry": registry });
    serde_json::from_value(json).unwrap()
}

pub(crate) fn port(host_port: u16) -> PortSpec {
    let json = serde_json::json!({ "container_port": 80, "host_port": host_port });
    serde_json::from_value(json).unwrap()
}

pub(crate) fn wanted(deployment: &str, slot: u32, revision: u64, spec: InstanceSpec) -> Wanted {
    let mut bytes = [0; 16];
    bytes[..deployment.len().min(16)]
        .copy_from_slice(&deployment.as_bytes()[..deployment.len().min(16)]);
    let deployment_id = DeploymentId::from_bytes(bytes);
    let assigned = AssignedInstance {
        id: InstanceId::derive(&deployment_id, slot, revision, 0),
        project: knit_rpc::id::ProjectName::default(),
        deployment: deployment.parse().unwrap(),
        deployment_id,
        slot,
        revision,
        spec: spec.hash(),
        policy: None,
        secrets: BTreeMap::new(),
        held: false,
    };
    Wanted {
        assigned,
        spec: Arc::new(spec),
        policy: Arc::new(RunPolicy::default()),
        secrets: Arc::default(),
    }
}

pub(crate) fn desired(wanted: impl IntoIterator<Item = Wanted>) -> Desired {
    let instances = wanted.into_iter().map(|one| (one.assigned.id.clone(), one)).collect();
    Desired {
        owner: owner(),
        instances,
        networks: BTreeMap::new(),
        remove_volumes: BTreeSet::new(),
        keep_images: BTreeSet::new(),
    }
}

/// The container as the engine shows it once the plan was carried out.
pub(crate) fn container(wanted: &Wanted, state: ContainerState, host: u8) -> Container {
    let plan = container::plan(&owner(), wanted, std::path::Path::new("/f"));
    let up = state.is_up();
    Container {
        id: format!("id-{}", plan.name),
        name: plan.name,
        labels: plan.labels,
        state,
        networks: if up { plan.networks.into_iter().collect() } else { BTreeSet::new() },
        addresses: up
            .then(|| (container::NETWORK.to_owned(), Ipv4Addr::new(10, 208, 0, host)))
            .into_iter()
            .collect(),
        image_id: Some("sha256:1".to_owned()),
        started_at: (state != ContainerState::Created).then(|| Timestamp::from_millis(1_000)),
        finished_at: (state == ContainerState::Exited).then(|| Timestamp::from_millis(2_000)),
        exit_code: (state == ContainerState::Exited).then_some(1),
        error: String::new(),
        healthcheck: None,
    }
}

pub(crate) fn listener(port: u16) -> Listener {
    Listener {
        protocol: knit_rpc::spec::Protocol::Tcp,
        address: None,
        port,
        process: "nginx (pid 812)".to_owned(),
    }
}

/// A node whose owner gives its network away.
pub(crate) fn with_its_network() -> Observed {
    let policy = NodePolicy { host_network: true, ..NodePolicy::default() };
    Observed { policy, ..Observed::default() }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

fn names(actions: &[Action]) -> Vec<&'static str> {
    let name = |action: &Action| match action {
        Action::Publish(_) => "publish",
        Action::Pull { .. } => "pull",
        Action::WriteFiles { .. } => "write",
        Action::RefreshSecrets { .. } => "refresh",
        Action::EnsureNetwork { .. } => "ensure-network",
        Action::EnsureVolume { .. } => "ensure-volume",
        Action::RemoveNetwork(_) => "remove-network",
        Action::RemoveVolume(_) => "remove-volume",
        Action::Create { .. } => "create",
        Action::Start { .. } => "start",
        Action::Stop { .. } => "stop",
        Action::Remove { .. } => "remove",
        Action::RemoveFiles { .. } => "remove-files",
        Action::GiveUp { .. } => "give-up",
        Action::Fail { .. } => "fail",
    };
    actions.iter().map(name).collect()
}
