//! A container plan in Docker's own shape.

use std::collections::{BTreeSet, HashMap};

use bollard::Docker as Client;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkConnectRequest, NetworkingConfig, PortBinding, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use knit_agent_core::container::{ContainerPlan, LABEL_CLUSTER, LABEL_INSTANCE, LABEL_NODE};
use knit_rpc::spec::Ulimit;

use super::Docker;
use crate::engine::EngineError;

pub(super) fn body(plan: &ContainerPlan) -> ContainerCreateBody {
    let spec = &plan.spec;
    let network = plan.networks.first().cloned().unwrap_or_default();
    // The host's own name goes with its network, unless the user wants another.
    let is_named = network != "host" || spec.hostname.is_some();
    let exposed = plan.loopback.iter().map(port_key).collect::<BTreeSet<_>>();
    ContainerCreateBody {
        hostname: is_named.then(|| plan.hostname.clone()),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        image: Some(plan.image.clone()),
        entrypoint: some_unless_empty(&spec.command),
        cmd: some_unless_empty(&spec.args),
        env: Some(env(plan)),
        labels: Some(plan.labels.clone().into_iter().collect()),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: i64::try_from(plan.stop_grace).ok(),
        exposed_ports: (!exposed.is_empty()).then(|| exposed.into_iter().collect()),
        networking_config: is_users(&network).then(|| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.clone(), endpoint(plan))])),
        }),
        host_config: Some(host_config(plan, network)),
        ..ContainerCreateBody::default()
    }
}

fn env(plan: &ContainerPlan) -> Vec<String> {
    let open = plan.spec.env.iter().map(|(key, value)| format!("{key}={value}"));
    open.chain(plan.secret_env.iter().map(|(key, value)| format!("{key}={}", *value.0))).collect()
}

/// Whether a network is one that somebody made: only there containers have names of their own.
fn is_users(network: &str) -> bool {
    !["host", "none", "bridge"].contains(&network)
}

fn endpoint(plan: &ContainerPlan) -> EndpointSettings {
    EndpointSettings { aliases: Some(plan.aliases.clone()), ..EndpointSettings::default() }
}

fn host_config(plan: &ContainerPlan, network: String) -> HostConfig {
    let spec = &plan.spec;
    HostConfig {
        network_mode: Some(network),
        mounts: Some(mounts(plan)),
        port_bindings: Some(bindings(plan)),
        // The agent restarts: Docker gives up for good on an address that is late.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some(spec.log.driver.clone()),
            config: Some(plan.log_options.clone().into_iter().collect()),
        }),
        memory: plan.limits.memory.map(number),
        memory_swap: plan.limits.memory.map(number),
        memory_reservation: plan.limits.memory_reservation.map(number),
        cpu_shares: plan.limits.cpu_shares.map(number),
        ulimits: (!spec.ulimits.is_empty()).then(|| spec.ulimits.iter().map(ulimit).collect()),
        sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.clone().into_iter().collect()),
        readonly_rootfs: Some(spec.read_only),
        tmpfs: (!spec.tmpfs.is_empty())
            .then(|| spec.tmpfs.iter().map(|line| tmpfs(line)).collect()),
        shm_size: spec.shm_size.map(|bytes| number(bytes.0)),
        init: spec.init.then_some(true),
        dns: some_unless_empty(&spec.dns.iter().map(ToString::to_string).collect::<Vec<_>>()),
        extra_hosts: some_unless_empty(
            &spec.extra_hosts.iter().map(|(name, to)| format!("{name}:{to}")).collect::<Vec<_>>(),
        ),
        cap_drop: some_unless_empty(&spec.cap_drop),
        cap_add: some_unless_empty(&spec.cap_add),
        privileged: Some(spec.privileged),
        ..HostConfig::default()
    }
}

fn mounts(plan: &ContainerPlan) -> Vec<Mount> {
    let files = plan.mounts.iter().map(|mount| Mount {
        target: Some(mount.destination.clone()),
        source: Some(mount.source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    });
    let volumes = plan.volumes.iter().map(|mounted| Mount {
        target: Some(mounted.path.clone()),
        source: Some(mounted.volume.name.clone()),
        typ: Some(MountType::VOLUME),
        read_only: Some(mounted.read_only),
        // Docker makes a volume that went away meanwhile: then it is ours all the same.
        volume_options: Some(MountVolumeOptions {
            labels: Some(mounted.volume.labels.clone().into_iter().collect()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    });
    let host = plan.host_mounts.iter().map(|mount| Mount {
        target: Some(mount.path.clone()),
        source: Some(mount.host_path.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(mount.read_only),
        ..Mount::default()
    });
    // A file may lie in a volume, so it is mounted over it.
    volumes.chain(host).chain(files).collect()
}

fn ulimit((name, limit): (&String, &Ulimit)) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

/// `/run:size=64m` becomes a path and its options.
fn tmpfs(line: &str) -> (String, String) {
    let (path, options) = line.split_once(':').unwrap_or((line, ""));
    (path.to_owned(), options.to_owned())
}

fn number(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
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
    NetworkConnectRequest { container: plan.name.clone(), endpoint_config: Some(endpoint(plan)) }
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
