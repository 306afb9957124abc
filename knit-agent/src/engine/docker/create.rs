//! A container plan in Docker's own shape.

use std::collections::{BTreeSet, HashMap};

use bollard::Docker as Client;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkConnectRequest, NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use knit_agent_core::container::{ContainerPlan, LABEL_CLUSTER, LABEL_INSTANCE, LABEL_NODE};

use super::Docker;
use crate::engine::EngineError;

pub(super) fn body(plan: &ContainerPlan) -> ContainerCreateBody {
    let network = plan.networks.first().cloned().unwrap_or_default();
    let on_host = network == "host";
    let exposed = plan.loopback.iter().map(port_key).collect::<BTreeSet<_>>();
    ContainerCreateBody {
        hostname: (!on_host).then(|| plan.hostname.clone()),
        image: Some(plan.image.clone()),
        entrypoint: some_unless_empty(&plan.entrypoint),
        cmd: some_unless_empty(&plan.args),
        env: Some(plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(plan.labels.clone().into_iter().collect()),
        exposed_ports: (!exposed.is_empty()).then(|| exposed.into_iter().collect()),
        networking_config: (!on_host && network != "bridge").then(|| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.clone(), EndpointSettings::default())])),
        }),
        host_config: Some(host_config(plan, network)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(plan: &ContainerPlan, network: String) -> HostConfig {
    let mounts = plan.mounts.iter().map(|mount| Mount {
        target: Some(mount.destination.clone()),
        source: Some(mount.source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    });
    HostConfig {
        network_mode: Some(network),
        mounts: Some(mounts.collect()),
        port_bindings: Some(bindings(plan)),
        // The agent restarts: Docker gives up for good on an address that is late.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), plan.log.max_size.clone()),
                ("max-file".to_owned(), plan.log.max_files.to_string()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// Several ports of the host's may lead to one port of the container's.
fn bindings(plan: &ContainerPlan) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &plan.loopback {
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some(port.host_port.to_string()),
        });
    }
    bindings
}

fn port_key(port: &knit_rpc::spec::PortSpec) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

fn some_unless_empty(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

pub(super) fn connect_request(plan: &ContainerPlan) -> NetworkConnectRequest {
    NetworkConnectRequest {
        container: plan.name.clone(),
        endpoint_config: Some(EndpointSettings::default()),
    }
}

/// The name is taken: by this very instance, made before a crash (as good as made now), or by
/// something that is not ours, which is left alone.
pub(super) async fn taken(
    docker: &Docker,
    client: &Client,
    plan: &ContainerPlan,
    words: String,
) -> Result<(), EngineError> {
    let holder =
        client.inspect_container(&plan.name, None).await.map_err(|error| docker.refusal(&error))?;
    let labels = holder.config.and_then(|config| config.labels).unwrap_or_default();
    let same = [LABEL_CLUSTER, LABEL_NODE, LABEL_INSTANCE]
        .into_iter()
        .all(|key| labels.get(key) == plan.labels.get(key));
    if same { Ok(()) } else { Err(EngineError::Refused { words, permanent: true }) }
}
