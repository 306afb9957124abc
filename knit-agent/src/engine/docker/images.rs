//! Images: which are here, who uses them, and how they go.

use std::collections::BTreeSet;

use bollard::errors::Error;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptions, RemoveImageOptions,
};
use knit_agent_core::garbage::Image;

use super::Docker;
use crate::engine::EngineError;

/// What Docker writes where there is no name.
const NAMELESS: &str = "<none>";

pub(super) async fn id(docker: &Docker, image: &str) -> Result<Option<String>, EngineError> {
    match docker.client()?.inspect_image(image).await {
        Ok(found) => Ok(found.id),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(docker.refusal(&error)),
    }
}

pub(super) async fn list(docker: &Docker) -> Result<Vec<Image>, EngineError> {
    let listed = docker.client()?.list_images(None::<ListImagesOptions>).await;
    let listed = listed.map_err(|error| docker.refusal(&error))?;
    let named = |names: Vec<String>| -> BTreeSet<String> {
        names.into_iter().filter(|name| !name.contains(NAMELESS)).collect()
    };
    Ok(listed
        .into_iter()
        .map(|one| Image {
            id: one.id,
            tags: named(one.repo_tags),
            digests: named(one.repo_digests),
        })
        .collect())
}

pub(super) async fn in_use(docker: &Docker) -> Result<BTreeSet<String>, EngineError> {
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let listed = docker.client()?.list_containers(Some(options)).await;
    let listed = listed.map_err(|error| docker.refusal(&error))?;
    Ok(listed.into_iter().filter_map(|container| container.image_id).collect())
}

pub(super) async fn remove(docker: &Docker, reference: &str) -> Result<(), EngineError> {
    let removed = docker.client()?.remove_image(reference, None::<RemoveImageOptions>, None).await;
    super::unless(404, removed.map(|_| ())).map_err(|error| docker.refusal(&error))
}
