//! The node's own bridge network, and the bridges that containers hang on.
//!
//! Docker makes a second network of one name without a word, and then refuses both: so it is
//! looked up by name first, by one task at a time.

use std::collections::HashMap;

use bollard::Docker as Client;
use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkInspect};
use knit_agent_core::Owner;
use knit_agent_core::container::{BRIDGE, LABEL_CLUSTER, LABEL_NODE, MTU, NETWORK, NetworkPlan};

use super::Docker;
use crate::engine::EngineError;

const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// Makes the network as planned; leaves one with another subnet alone while containers are on it.
pub(super) async fn ensure(docker: &Docker, plan: &NetworkPlan) -> Result<(), EngineError> {
    let client = docker.client()?;
    if let Some(found) = find(docker, &client, NETWORK).await? {
        let ours = plan.labels.iter().all(|(key, value)| label(&found, key) == Some(value));
        if !ours {
            return Err(EngineError::Refused {
                words: format!(
                    "there is a Docker network \"{NETWORK}\" that is not this node's: remove it with `docker network rm {NETWORK}`"
                ),
                permanent: true,
            });
        }
        if subnet(&found) == Some(plan.subnet.to_string()) {
            return Ok(());
        }
        if found.containers.as_ref().is_some_and(|containers| !containers.is_empty()) {
            tracing::warn!(
                subnet = subnet(&found),
                allotted = %plan.subnet,
                "containers keep the network in its former subnet"
            );
            return Ok(());
        }
        client.remove_network(NETWORK).await.map_err(|error| docker.refusal(&error))?;
    }
    client.create_network(request(plan)).await.map_err(|error| docker.refusal(&error))?;
    tracing::info!(subnet = %plan.subnet, "made the network \"{NETWORK}\"");
    Ok(())
}

fn request(plan: &NetworkPlan) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: NETWORK.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(plan.subnet.to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        options: Some(HashMap::from([
            (BRIDGE_OPTION.to_owned(), BRIDGE.to_owned()),
            (MTU_OPTION.to_owned(), MTU.to_string()),
        ])),
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
    if name == NETWORK {
        return Err(EngineError::Refused {
            words: format!("the network \"{NETWORK}\" is not there yet"),
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

pub(super) async fn remove(docker: &Docker, owner: &Owner) -> Result<(), EngineError> {
    let client = docker.client()?;
    let Some(found) = find(docker, &client, NETWORK).await? else { return Ok(()) };
    if !super::is_owned(found.labels.as_ref(), owner) {
        return Ok(());
    }
    let removed = client.remove_network(NETWORK).await;
    super::unless(404, removed).map_err(|error| docker.refusal(&error))
}

/// The interface of a bridge network.
pub(super) fn bridge(network: &Network) -> Option<String> {
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

fn label<'a>(network: &'a NetworkInspect, key: &str) -> Option<&'a String> {
    debug_assert!([LABEL_CLUSTER, LABEL_NODE].contains(&key));
    network.labels.as_ref()?.get(key)
}

fn subnet(network: &NetworkInspect) -> Option<String> {
    network.ipam.as_ref()?.config.as_ref()?.first()?.subnet.clone()
}
