//! Gets an image, and tells how far it is.

use std::collections::BTreeMap;

use bollard::BollardRequest;
use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use knit_rpc::api::PullCredentials;
use knit_rpc::message::PullProgress;

use super::Docker;
use crate::engine::EngineError;

/// What Docker is told of a login in.
const AUTH_HEADER: &str = "x-registry-auth";

pub(super) async fn run(
    docker: &Docker,
    image: &str,
    credentials: Option<&PullCredentials>,
    progress: &(dyn Fn(PullProgress) + Send + Sync),
) -> Result<(), EngineError> {
    let client = docker.client()?.with_request_modifier(url_safe);
    let (name, tag) = split_image(image);
    let mut options = CreateImageOptionsBuilder::new().from_image(name);
    if let Some(tag) = tag {
        options = options.tag(tag);
    }
    let mut layers = Layers::default();
    let mut steps = client.create_image(Some(options.build()), None, credentials.map(login));
    while let Some(step) = steps.next().await {
        // Errors come inside the stream, after a friendly 200.
        let step = step.map_err(|error| unauthorized(docker.refusal(&error)))?;
        if layers.take(&step) {
            progress(layers.sum());
        }
    }
    Ok(())
}

fn login(credentials: &PullCredentials) -> DockerCredentials {
    match credentials.clone() {
        PullCredentials::Token(token) => {
            DockerCredentials { registrytoken: Some(token), ..DockerCredentials::default() }
        }
        PullCredentials::Password { username, password } => DockerCredentials {
            username: Some(username),
            password: Some(password),
            ..DockerCredentials::default()
        },
    }
}

/// Docker 20.10 reads the URL-safe alphabet of base64 only, and drops credentials in the other one
/// without a word.
fn url_safe(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut(AUTH_HEADER) {
        let text = value.to_str().unwrap_or_default().replace('+', "-").replace('/', "_");
        if let Ok(mended) = text.parse() {
            *value = mended;
            value.set_sensitive(true);
        }
    }
    request
}

/// Tells a registry's wish for a login from other refusals, by Docker's words.
fn unauthorized(error: EngineError) -> EngineError {
    match error {
        EngineError::Refused { words, .. } if wants_login(&words) => {
            EngineError::Unauthorized { words }
        }
        EngineError::Refused { .. }
        | EngineError::Unreachable { .. }
        | EngineError::Unauthorized { .. } => error,
    }
}

fn wants_login(words: &str) -> bool {
    let words = words.to_lowercase();
    ["unauthorized", "authentication required", "no basic auth", "access denied", "denied:"]
        .iter()
        .any(|piece| words.contains(piece))
}

/// Bytes of each layer that is downloaded.
#[derive(Debug, Default)]
struct Layers {
    layers: BTreeMap<String, PullProgress>,
}

impl Layers {
    /// True when the step said something about bytes.
    fn take(&mut self, step: &CreateImageInfo) -> bool {
        let Some(id) = &step.id else { return false };
        match step.status.as_deref() {
            Some("Downloading") => {
                let detail = step.progress_detail.as_ref();
                let bytes = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok());
                let Some(done) = detail.and_then(|one| bytes(one.current)) else { return false };
                let total = detail.and_then(|one| bytes(one.total)).unwrap_or(done);
                self.layers.insert(id.clone(), PullProgress { done, total: total.max(done) });
                true
            }
            Some("Download complete" | "Pull complete" | "Verifying Checksum") => {
                let known = self.layers.get_mut(id);
                known.is_some_and(|layer| {
                    let changed = layer.done != layer.total;
                    layer.done = layer.total;
                    changed
                })
            }
            _ => false,
        }
    }

    fn sum(&self) -> PullProgress {
        self.layers.values().fold(PullProgress::default(), |sum, layer| PullProgress {
            done: sum.done + layer.done,
            total: sum.total + layer.total,
        })
    }
}

/// Name and tag for a pull; a digest stays with the name.
fn split_image(image: &str) -> (&str, Option<&str>) {
    if image.contains('@') {
        return (image, None);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, Some("latest")),
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn an_image_without_a_tag_is_pulled_as_latest_and_not_in_all_its_tags() {
        for (image, expected) in [
            ("nginx", ("nginx", Some("latest"))),
            ("nginx:alpine", ("nginx", Some("alpine"))),
            ("r.example:5000/app", ("r.example:5000/app", Some("latest"))),
            ("r.example:5000/app:1", ("r.example:5000/app", Some("1"))),
            ("app@sha256:00", ("app@sha256:00", None)),
        ] {
            assert_eq!(split_image(image), expected);
        }
    }

    #[test]
    fn the_bytes_of_all_layers_are_summed() {
        let mut layers = Layers::default();
        let mut take = |id: &str, status: &str, bytes: Option<(i64, i64)>| {
            layers.take(&CreateImageInfo {
                id: Some(id.to_owned()),
                status: Some(status.to_owned()),
                progress_detail: bytes.map(|(current, total)| ProgressDetail {
                    current: Some(current),
                    total: Some(total),
                }),
                ..CreateImageInfo::default()
            })
        };
        assert!(!take("latest", "Pulling from app", None));
        assert!(take("a", "Downloading", Some((10, 100))));
        assert!(take("b", "Downloading", Some((20, 50))));
        assert!(take("a", "Download complete", None));
        assert!(!take("a", "Extracting", Some((1, 100))), "that is another count");
        assert_eq!(layers.sum(), PullProgress { done: 120, total: 150 });
    }
}
