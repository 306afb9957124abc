//! Docker by its API.
//!
//! ```text
//! observe   labels -> list -> inspect those that changed (cache) -> Container
//! create    ContainerPlan -> Docker's own body
//! network   the node's own bridge network, and the users' · volume   the users' data
//! pull      image -> Docker's steps -> bytes · images   which are here, and who uses them
//! probe     is it well? · logs   what did it write last?
//! refusal   Docker's words -> will waiting mend it?
//! ```

mod cache;
mod create;
mod images;
mod logs;
mod network;
mod observe;
mod probe;
mod pull;
mod refusal;
mod volume;

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker as Client;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use knit_agent_core::container::{ContainerPlan, LABEL_CLUSTER, LABEL_NODE, owner_labels};
use knit_agent_core::garbage::Image;
use knit_agent_core::network::{Network, NetworkPlan};
use knit_agent_core::probe::Answer;
use knit_agent_core::volume::VolumePlan;
use knit_agent_core::{Container, Owner};
use knit_rpc::api::PullCredentials;
use knit_rpc::message::PullProgress;
use knit_rpc::spec::{ProbeKind, VolumeName};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{ACCEPT_MAX, Engine, EngineError, EngineInfo, STOP_GRACE};

/// Longest wait for one answer; a stop may take its container's grace longer.
const ANSWER_MAX_SECS: u64 = 120;
/// Containers inspected at once, at most.
const INSPECTIONS_MAX: usize = 16;
/// What makes a container be looked at again; health checks make many events of other names.
const EVENTS: [&str; 9] =
    ["create", "start", "die", "stop", "kill", "destroy", "pause", "unpause", "health_status"];

/// Docker behind a Unix socket. The connection is made anew after Docker went away.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: String,
    hanging: probe::Hanging,
    cache: cache::Cache,
    /// Held by who makes or removes a network.
    networks: Arc<Mutex<()>>,
}

impl Docker {
    /// `unix:///var/run/docker.sock`, or a path.
    pub fn new(socket: &str) -> Self {
        let socket = socket.trim_start_matches("unix://").to_owned();
        Self {
            socket,
            hanging: probe::Hanging::default(),
            cache: cache::Cache::default(),
            networks: Arc::default(),
        }
    }

    pub(super) fn client(&self) -> Result<Client, EngineError> {
        self.patient_client(0)
    }

    /// One that waits `seconds` longer than usual for an answer.
    fn patient_client(&self, seconds: u64) -> Result<Client, EngineError> {
        let answer_max = ANSWER_MAX_SECS.saturating_add(seconds);
        // Cheap: a client is a connection pool that is not connected yet.
        Client::connect_with_unix(&self.socket, answer_max, bollard::API_DEFAULT_VERSION)
            .map_err(|error| self.refusal(&error))
    }

    pub(super) fn refusal(&self, error: &bollard::errors::Error) -> EngineError {
        refusal::explain(&self.socket, error)
    }
}

fn label_filter(owner: &Owner) -> HashMap<String, Vec<String>> {
    let labels = owner_labels(owner).into_iter().map(|(key, value)| format!("{key}={value}"));
    HashMap::from([("label".to_owned(), labels.collect())])
}

/// A thing that is there already, or gone already, is as good.
fn unless(
    status: u16,
    result: Result<(), bollard::errors::Error>,
) -> Result<(), bollard::errors::Error> {
    match result {
        Err(bollard::errors::Error::DockerResponseServerError { status_code, .. })
            if status_code == status =>
        {
            Ok(())
        }
        other => other,
    }
}

#[async_trait]
impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let client = self.client()?;
        let version = client.version().await.map_err(|error| self.refusal(&error))?;
        let info = client.info().await.map_err(|error| self.refusal(&error))?;
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            arch: version.arch.unwrap_or_default(),
            kernel: version.kernel_version.unwrap_or_default(),
            cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(0),
            memory: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            root: info.docker_root_dir.unwrap_or_default().into(),
        })
    }

    async fn list(&self, owner: &Owner) -> Result<Vec<Container>, EngineError> {
        let client = self.client()?;
        let options =
            ListContainersOptionsBuilder::new().all(true).filters(&label_filter(owner)).build();
        let found =
            client.list_containers(Some(options)).await.map_err(|error| self.refusal(&error))?;
        let (mut containers, unknown) = self.cache.sort(found);
        let inspecting = unknown.into_iter().map(|(id, summary)| {
            let client = &client;
            async move { (client.inspect_container(&id, None).await, id, summary) }
        });
        // One that is being started answers late: the others do not wait for it.
        let mut inspected = stream::iter(inspecting).buffer_unordered(INSPECTIONS_MAX);
        while let Some((result, id, summary)) = inspected.next().await {
            match result {
                Ok(shown) => {
                    let container = observe::container(shown);
                    if let Some(container) = &container {
                        self.cache.keep(summary, container);
                    }
                    containers.extend(container);
                }
                Err(error) => match self.refusal(&error) {
                    unreachable @ EngineError::Unreachable { .. } => return Err(unreachable),
                    // It may have been removed between the two calls.
                    EngineError::Refused { words, .. } | EngineError::Unauthorized { words } => {
                        tracing::debug!(
                            container = id,
                            words,
                            "a container could not be looked at"
                        );
                    }
                },
            }
        }
        Ok(containers)
    }

    async fn networks(&self) -> Result<Vec<Network>, EngineError> {
        let networks =
            self.client()?.list_networks(None).await.map_err(|error| self.refusal(&error))?;
        Ok(networks.into_iter().filter_map(network::shown).collect())
    }

    async fn volumes(&self, owner: &Owner) -> Result<BTreeSet<VolumeName>, EngineError> {
        volume::list(self, owner).await
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError> {
        images::id(self, image).await
    }

    async fn images(&self) -> Result<Vec<Image>, EngineError> {
        images::list(self).await
    }

    async fn images_in_use(&self) -> Result<BTreeSet<String>, EngineError> {
        images::in_use(self).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        images::remove(self, reference).await
    }

    async fn pull(
        &self,
        image: &str,
        credentials: Option<&PullCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError> {
        pull::run(self, image, credentials, progress).await
    }

    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<(), EngineError> {
        network::ensure(self, plan).await
    }

    async fn ensure_volume(&self, plan: &VolumePlan) -> Result<(), EngineError> {
        volume::ensure(self, plan).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<(), EngineError> {
        let client = self.client()?;
        for name in plan.networks.iter().filter(|name| *name != "host" && *name != "bridge") {
            network::must_exist(self, &client, name).await?;
        }
        let options = CreateContainerOptionsBuilder::new().name(&plan.name).build();
        let created = client.create_container(Some(options), create::body(plan)).await;
        match created {
            Ok(_) => {}
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 409,
                message,
            }) => {
                return create::taken(self, &client, plan, message).await;
            }
            Err(error) => return Err(self.refusal(&error)),
        }
        for name in plan.networks.iter().skip(1) {
            let request = create::connect_request(plan);
            client.connect_network(name, request).await.map_err(|error| self.refusal(&error))?;
            self.cache.touch(&plan.name);
        }
        Ok(())
    }

    async fn start(&self, container: &str) -> Result<(), EngineError> {
        let started = self.client()?.start_container(container, None).await;
        self.cache.touch(container);
        started.map_err(|error| self.refusal(&error))
    }

    async fn stop(&self, container: &str, grace: Option<Duration>) -> Result<(), EngineError> {
        if let Some(grace) = grace {
            let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
            let options = StopContainerOptionsBuilder::new().t(seconds).build();
            let client = self.patient_client(grace.as_secs())?;
            let stopped = client.stop_container(container, Some(options)).await;
            self.cache.touch(container);
            return unless(404, stopped).map_err(|error| self.refusal(&error));
        }
        let found = self.client()?.inspect_container(container, None).await;
        let grace = match found {
            Ok(found) => found.config.and_then(|config| config.stop_timeout),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                return Ok(());
            }
            Err(error) => return Err(self.refusal(&error)),
        };
        let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
        let client = self.patient_client(grace.unwrap_or(STOP_GRACE.as_secs()))?;
        // Without a time of ours Docker takes the container's own.
        let stopped = client.stop_container(container, None).await;
        self.cache.touch(container);
        unless(404, stopped).map_err(|error| self.refusal(&error))
    }

    async fn signal(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let sent = self.client()?.kill_container(container, Some(options)).await;
        // 409: it does not run, and finds the new files when it starts.
        unless(409, unless(404, sent)).map_err(|error| self.refusal(&error))
    }

    async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.client()?.remove_container(container, Some(options)).await;
        // 409: another removal is on its way.
        unless(409, unless(404, removed)).map_err(|error| self.refusal(&error))
    }

    async fn accepts(&self, address: SocketAddrV4) -> bool {
        let connecting = TcpStream::connect(SocketAddr::from(address));
        timeout(ACCEPT_MAX, connecting).await.is_ok_and(|connected| connected.is_ok())
    }

    async fn probe(
        &self,
        container: &str,
        address: Option<Ipv4Addr>,
        kind: &ProbeKind,
        limit: Duration,
    ) -> Answer {
        probe::ask(self, container, address, kind, limit).await
    }

    async fn log_tail(&self, container: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        logs::tail(self, container, lines).await
    }

    async fn remove_network(&self, owner: &Owner, name: &str) -> Result<(), EngineError> {
        network::remove(self, owner, name).await
    }

    async fn remove_volume(&self, owner: &Owner, name: &VolumeName) -> Result<(), EngineError> {
        volume::remove(self, owner, name).await
    }

    fn events(&self, owner: &Owner) -> BoxStream<'static, ()> {
        let Ok(client) = self.client() else { return stream::empty().boxed() };
        let mut filters = label_filter(owner);
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), EVENTS.map(str::to_owned).to_vec());
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let events = client.events(Some(options));
        let listening = self.cache.listen();
        let cache = self.cache.clone();
        // Held by the stream: the connection lives as long as somebody listens.
        let events = events.map(move |event| {
            let _held = (&client, &listening);
            let actor = event.as_ref().ok().and_then(|event| event.actor.as_ref());
            if let Some(id) = actor.and_then(|actor| actor.id.as_deref()) {
                cache.touch(id);
            }
            event
        });
        events.take_while(|event| std::future::ready(event.is_ok())).map(|_| ()).boxed()
    }
}

/// Whether something carries the owner's labels.
fn is_owned(labels: Option<&HashMap<String, String>>, owner: &Owner) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    label(LABEL_CLUSTER) == Some(owner.cluster.as_str())
        && label(LABEL_NODE) == Some(owner.node.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_docker_is_said_with_its_socket() {
        let docker = Docker::new("unix:///nonexistent/docker.sock");
        let error = docker.info().await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/docker.sock"), "{error}");
        assert!(matches!(error, EngineError::Unreachable { .. }));
        let owner = knit_agent_core::Owner {
            cluster: knit_rpc::id::ClusterId::from_bytes([1; 16]),
            node: knit_rpc::id::NodeId::from_bytes([1; 16]),
        };
        assert_eq!(docker.events(&owner).count().await, 0);
    }
}
