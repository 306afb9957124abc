//! Bridge networks: the node's own, and those that users named.
//!
//! Docker makes a second network of one name without a word, and then refuses both: so it is
//! looked up by name first, by one task at a time.

use bollard::Docker as Client;
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkInspect};
use knit_agent_core::Owner;
use knit_agent_core::container::{MTU, NETWORK};
use knit_agent_core::network::{Network as Shown, NetworkPlan};

use super::Docker;
use crate::engine::EngineError;

const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// Makes the network as planned; leaves one with another subnet alone while containers are on it.
pub(super) async fn ensure(docker: &Docker, plan: &NetworkPlan) -> Result<(), EngineError> {
    let _alone = docker.networks.lock().await;
    let client = docker.client()?;
    let name = plan.name.as_str();
    if let Some(found) = find(docker, &client, name).await? {
        let label = |key: &str| found.labels.as_ref().and_then(|labels| labels.get(key));
        if plan.labels.iter().any(|(key, value)| label(key) != Some(value)) {
            return Err(EngineError::Refused {
                words: format!(
                    "there is a Docker network \"{name}\" that is not this node's: remove it with `docker network rm {name}`"
                ),
                permanent: true,
            });
        }
        let has = subnet(&found);
        let fits = plan.subnet.is_none_or(|wanted| has == Some(wanted.to_string()));
        if fits && found.internal.unwrap_or(false) == plan.internal {
            return Ok(());
        }
        if found.containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            tracing::warn!(
                network = name,
                subnet = has,
                wanted = plan.subnet.map(|subnet| subnet.to_string()),
                "containers keep a network as it was"
            );
            return Ok(());
        }
        client.remove_network(name).await.map_err(|error| docker.refusal(&error))?;
    }
    client.create_network(request(plan)).await.map_err(|error| docker.refusal(&error))?;
    tracing::info!(network = name, "made a network");
    Ok(())
}

fn request(plan: &NetworkPlan) -> NetworkCreateRequest {
    let config = plan
        .subnet
        .map(|subnet| IpamConfig { subnet: Some(subnet.to_string()), ..IpamConfig::default() });
    let bridge = plan.bridge.iter().map(|bridge| (BRIDGE_OPTION.to_owned(), bridge.clone()));
    let mtu = (MTU_OPTION.to_owned(), MTU.to_string());
    NetworkCreateRequest {
        name: plan.name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(plan.internal),
        ipam: Some(Ipam { config: config.map(|config| vec![config]), ..Ipam::default() }),
        options: Some(bridge.chain([mtu]).collect()),
        labels: Some(plan.labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

/// A network that an instance asks for must be there: Docker would create the container and only
/// then fail to start it.
pub(super) async fn must_exist(
    docker: &Docker,
    client: &Client,
    name: &str,
) -> Result<(), EngineError> {
    if find(docker, client, name).await?.is_some() {
        return Ok(());
    }
    if name == NETWORK || name.starts_with("knit.") {
        return Err(EngineError::Refused {
            words: format!("the network \"{name}\" is not there yet"),
            permanent: false,
        });
    }
    Err(EngineError::Refused {
        words: format!(
            "there is no Docker network \"{name}\" on this node: make it with `docker network create {name}`"
        ),
        permanent: true,
    })
}

pub(super) async fn remove(docker: &Docker, owner: &Owner, name: &str) -> Result<(), EngineError> {
    let _alone = docker.networks.lock().await;
    let client = docker.client()?;
    let Some(found) = find(docker, &client, name).await? else { return Ok(()) };
    if !super::is_owned(found.labels.as_ref(), owner) {
        return Ok(());
    }
    super::unless(404, client.remove_network(name).await).map_err(|error| docker.refusal(&error))
}

/// As the agent's core looks at it; none without a name.
pub(super) fn shown(network: Network) -> Option<Shown> {
    let bridge = bridge(&network);
    let subnets = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default().into_iter();
    Some(Shown {
        name: network.name?,
        labels: network.labels.unwrap_or_default().into_iter().collect(),
        bridge,
        subnets: subnets.filter_map(|one| one.subnet?.parse().ok()).collect(),
        internal: network.internal.unwrap_or(false),
    })
}

/// The interface of a bridge network.
fn bridge(network: &Network) -> Option<String> {
    if network.driver.as_deref() != Some("bridge") {
        return None;
    }
    let named = network.options.as_ref().and_then(|options| options.get(BRIDGE_OPTION));
    named.cloned().or_else(|| Some(format!("br-{}", network.id.as_ref()?.get(..12)?)))
}

async fn find(
    docker: &Docker,
    client: &Client,
    name: &str,
) -> Result<Option<NetworkInspect>, EngineError> {
    match client.inspect_network(name, None).await {
        Ok(network) => Ok(Some(network)),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(docker.refusal(&error)),
    }
}

fn subnet(network: &NetworkInspect) -> Option<String> {
    network.ipam.as_ref()?.config.as_ref()?.first()?.subnet.clone()
}
