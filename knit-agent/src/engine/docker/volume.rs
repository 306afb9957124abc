//! Volumes that users named.
//!
//! Invariant: a volume without our labels is neither used nor removed.

use std::collections::BTreeSet;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use knit_agent_core::Owner;
use knit_agent_core::volume::{LABEL_VOLUME, VolumePlan};
use knit_rpc::spec::VolumeName;

use super::Docker;
use crate::engine::EngineError;

pub(super) async fn list(
    docker: &Docker,
    owner: &Owner,
) -> Result<BTreeSet<VolumeName>, EngineError> {
    let options = ListVolumesOptionsBuilder::new().filters(&super::label_filter(owner)).build();
    let listed = docker.client()?.list_volumes(Some(options)).await;
    let volumes = listed.map_err(|error| docker.refusal(&error))?.volumes.unwrap_or_default();
    let names = volumes.into_iter().filter_map(|volume| {
        let name = VolumeName::parse(volume.labels.get(LABEL_VOLUME)?).ok()?;
        (name.docker_name() == volume.name).then_some(name)
    });
    Ok(names.collect())
}

pub(super) async fn ensure(docker: &Docker, plan: &VolumePlan) -> Result<(), EngineError> {
    let request = VolumeCreateRequest {
        name: Some(plan.name.clone()),
        labels: Some(plan.labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    // One that is there already is shown as it is, and not changed.
    let made = docker.client()?.create_volume(request).await;
    let volume = made.map_err(|error| docker.refusal(&error))?;
    if plan.labels.iter().all(|(key, value)| volume.labels.get(key) == Some(value)) {
        return Ok(());
    }
    let name = &plan.name;
    Err(EngineError::Refused {
        words: format!(
            "there is a Docker volume \"{name}\" that is not this node's, so it is not used: remove it with `docker volume rm {name}`"
        ),
        permanent: true,
    })
}

pub(super) async fn remove(
    docker: &Docker,
    owner: &Owner,
    name: &VolumeName,
) -> Result<(), EngineError> {
    let client = docker.client()?;
    let name = name.docker_name();
    let found = match client.inspect_volume(&name).await {
        Ok(found) => found,
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
            return Ok(());
        }
        Err(error) => return Err(docker.refusal(&error)),
    };
    if !super::is_owned(Some(&found.labels), owner) {
        return Ok(());
    }
    let removed = client.remove_volume(&name, None::<RemoveVolumeOptions>).await;
    super::unless(404, removed).map_err(|error| docker.refusal(&error))
}
