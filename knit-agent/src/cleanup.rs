//! Removes everything of this node's from its host.

use anyhow::Context as _;
use knit_agent_core::Owner;

use crate::config::Config;
use crate::engine::{Engine, docker::Docker};
use crate::firewall::{Firewall, nftables::Nftables};
use crate::{files, identity, registration};

/// Containers, their files, the networks, the firewall's rules: in this order, so that nothing is
/// reachable that is half gone. Identity, registration and volumes stay: data is nobody's to clean up. What was never made is no error.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    if let Err(error) = Nftables::new().clear().await {
        failures.push(anyhow::Error::new(error).context("the firewall's rules are still there"));
    }
    if let Some(owner) = owner(config)?
        && let Err(error) = clear_docker(config, &owner).await
    {
        failures.push(error);
    }
    files::remove_all(&config.state_dir, &config.secrets_dir)
        .context("files of instances are still there")?;
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// None when this node never registered: then it made nothing in Docker.
fn owner(config: &Config) -> anyhow::Result<Option<Owner>> {
    let Some(registration) = registration::load(&config.state_dir)? else { return Ok(None) };
    let identity = identity::load_or_create(&config.state_dir)?;
    Ok(Some(Owner { cluster: registration.cluster, node: identity.node }))
}

async fn clear_docker(config: &Config, owner: &Owner) -> anyhow::Result<()> {
    let docker = Docker::new(&config.docker_socket);
    let containers = docker.list(owner).await.context("containers are still there")?;
    let count = containers.len();
    let stopping = containers.into_iter().map(|container| {
        let docker = docker.clone();
        async move {
            docker.stop(&container.id, None).await?;
            docker.remove(&container.id).await
        }
    });
    for removed in futures_util::future::join_all(stopping).await {
        removed.context("a container is still there")?;
    }
    for network in docker.networks().await.context("networks are still there")? {
        // Those of others stay.
        docker.remove_network(owner, &network.name).await.context("a network is still there")?;
    }
    tracing::info!(containers = count, "removed this node's containers and networks");
    Ok(())
}
