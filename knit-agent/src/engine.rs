//! What runs containers: Docker, or a fake beside it that fails on command.

pub mod docker;
pub mod fake;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use knit_agent_core::container::ContainerPlan;
use knit_agent_core::garbage::Image;
use knit_agent_core::network::{Network, NetworkPlan};
use knit_agent_core::probe::Answer;
use knit_agent_core::volume::VolumePlan;
use knit_agent_core::{Container, Owner};
use knit_rpc::api::PullCredentials;
use knit_rpc::message::PullProgress;
use knit_rpc::spec::{ProbeKind, VolumeName};

/// How long a container may take to end before it is made to, when it says nothing itself.
pub const STOP_GRACE: Duration = knit_agent_core::container::STOP_GRACE_DEFAULT.duration();

/// A container that takes longer to accept a connection is not ready.
pub const ACCEPT_MAX: Duration = Duration::from_millis(500);

/// Why the engine did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// It does not answer at all: nothing is wrong with what was asked.
    #[error("Docker does not answer on {socket}: {problem}")]
    Unreachable { socket: String, problem: String },
    /// It answered no, in its own words.
    #[error("{words}")]
    Refused {
        words: String,
        /// Whether asking again later is not expected to help.
        permanent: bool,
    },
    /// A registry wants a login, or another one than was shown.
    #[error("{words}")]
    Unauthorized { words: String },
}

impl EngineError {
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { permanent: true, .. } | Self::Unauthorized { .. })
    }
}

/// What the engine says about itself and its host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    pub version: String,
    /// `amd64`, `arm64`, ….
    pub arch: String,
    pub kernel: String,
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// Where it stores things.
    pub root: PathBuf,
}

/// All that the agent asks of an engine. Each call is idempotent: what is there already, or gone
/// already, is as good.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    async fn info(&self) -> Result<EngineInfo, EngineError>;
    /// Containers with the owner's labels, each looked at by itself, so that one that cannot be
    /// read does not hide the others.
    async fn list(&self, owner: &Owner) -> Result<Vec<Container>, EngineError>;
    /// All networks, whoever made them.
    async fn networks(&self) -> Result<Vec<Network>, EngineError>;
    /// Volumes with the owner's labels.
    async fn volumes(&self, owner: &Owner) -> Result<BTreeSet<VolumeName>, EngineError>;
    async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        Ok(self.image_id(image).await?.is_some())
    }
    /// Id of the image that a name leads to; none when it leads to none.
    async fn image_id(&self, image: &str) -> Result<Option<String>, EngineError>;
    /// All images, whoever got them.
    async fn images(&self) -> Result<Vec<Image>, EngineError>;
    /// Ids of the images of all containers, whoever made them.
    async fn images_in_use(&self) -> Result<BTreeSet<String>, EngineError>;
    /// Removes a name of an image, and with its last name the image; refuses one that is used.
    async fn remove_image(&self, reference: &str) -> Result<(), EngineError>;
    /// Signs in with `credentials`, if there are any, and keeps none. Tells `progress` how far it is,
    /// as often as it likes.
    async fn pull(
        &self,
        image: &str,
        credentials: Option<&PullCredentials>,
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<(), EngineError>;
    /// Makes a network; makes it anew when its subnet is another and nothing is on it.
    async fn ensure_network(&self, plan: &NetworkPlan) -> Result<(), EngineError>;
    /// Makes a volume; refuses one of its name that is not ours.
    async fn ensure_volume(&self, plan: &VolumePlan) -> Result<(), EngineError>;
    async fn create(&self, plan: &ContainerPlan) -> Result<(), EngineError>;
    /// By id or by name.
    async fn start(&self, container: &str) -> Result<(), EngineError>;
    /// Returns once it has ended, or was made to after the time that it was given when it was made.
    /// With `grace` after that instead.
    async fn stop(&self, container: &str, grace: Option<Duration>) -> Result<(), EngineError>;
    /// Sends a signal to a container's first process; one that has ended is as good.
    async fn signal(&self, container: &str, signal: &str) -> Result<(), EngineError>;
    async fn remove(&self, container: &str) -> Result<(), EngineError>;
    /// Whether a container accepts connections on a TCP port.
    async fn accepts(&self, address: SocketAddrV4) -> bool;
    /// Asks an instance's container one question, at an address that leads to it.
    async fn probe(
        &self,
        container: &str,
        address: Option<Ipv4Addr>,
        kind: &ProbeKind,
        limit: Duration,
    ) -> Answer;
    /// The last `lines` lines that a container wrote, oldest first.
    async fn log_tail(&self, container: &str, lines: usize) -> Result<Vec<String>, EngineError>;
    /// Removes a network, if it carries the owner's labels.
    async fn remove_network(&self, owner: &Owner, name: &str) -> Result<(), EngineError>;
    /// Removes a volume with its data, if it carries the owner's labels.
    async fn remove_volume(&self, owner: &Owner, name: &VolumeName) -> Result<(), EngineError>;
    /// Something about a container changed; ends when the engine goes away.
    fn events(&self, owner: &Owner) -> BoxStream<'static, ()>;
}
