//! Credentials for one pull: asked of the server when the pull begins, and forgotten with it.
//!
//! ```text
//! pull ─> POST /nodes/pull, signed ─> signed answer ─> opened with the node's key ─> Docker
//! ```
//!
//! Invariant: credentials are on no disk and in no log of this agent.

use std::sync::Arc;

use knit_link::http::{ApiClient, HttpError};
use knit_rpc::api::{DEFAULT_REGISTRY, PullCredentials, PullRequest, PullResponse};
use knit_rpc::id::InstanceId;
use knit_rpc::sealed_box::SealedBoxError;
use knit_rpc::signed::{self, Context, SignedError};
use knit_rpc::spec::ImageRef;

use crate::config::Server;
use crate::shared::Shared;

/// Asks for credentials; cheap to clone.
#[derive(Clone)]
pub struct Registries(Arc<Shared>);

/// What the server says of a pull.
#[derive(Debug)]
pub enum Answer {
    /// None are needed, or the project has none.
    Nothing,
    Credentials(PullCredentials),
    /// The project has some, and they are not taken.
    Refused(String),
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("this node is not registered yet")]
    NotRegistered,
    #[error("the system gives no random bytes")]
    Random,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server's answer cannot be believed")]
    Signed(#[from] SignedError),
    #[error("the server's answer is to another request")]
    Nonce,
    #[error("the credentials cannot be opened")]
    Sealed(#[from] SealedBoxError),
    #[error("the credentials are none that this agent knows: it may be too old")]
    Unknown(#[source] serde_json::Error),
}

impl AskError {
    /// Whether the server knows nothing of registries: it is older than this agent.
    fn is_unheard_of(&self) -> bool {
        matches!(self, Self::Http(error) if error.status() == Some(404))
    }
}

impl Registries {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// What the server has for a pull.
    pub async fn ask(&self, instance: &InstanceId, image: &str) -> Result<Answer, AskError> {
        match self.try_ask(instance, image).await {
            Err(error) if error.is_unheard_of() => Ok(Answer::Nothing),
            other => other,
        }
    }

    async fn try_ask(&self, instance: &InstanceId, image: &str) -> Result<Answer, AskError> {
        let shared = &self.0;
        let registration = shared.registration.borrow().clone().ok_or(AskError::NotRegistered)?;
        let mesh = shared.mesh.borrow().clone();
        let client = match (&shared.config.server, mesh) {
            (Server::Auto, Some(mesh)) => ApiClient::bound_to(&registration.server_url, mesh.ip)?,
            (Server::Auto | Server::Url(_), _) => ApiClient::new(&registration.server_url)?,
        };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|_| AskError::Random)?;
        let request = PullRequest {
            node: shared.identity.node.clone(),
            nonce: hex::encode(nonce),
            at: knit_runtime::clock::now(),
            instance: instance.clone(),
            image: image.to_owned(),
        };
        let message = signed::sign(&shared.identity.key, Context::Pull, &request)?;
        let answer = client.pull_credentials(message).await?;
        let answer: PullResponse =
            signed::verify(&registration.server_key, Context::Pulled, &answer)?;
        if answer.nonce != request.nonce {
            return Err(AskError::Nonce);
        }
        if let Some(why) = answer.refusal {
            return Ok(Answer::Refused(why));
        }
        let Some(sealed) = answer.credentials else { return Ok(Answer::Nothing) };
        let opened = shared.identity.opening.open(&request.purpose(), &sealed)?;
        serde_json::from_slice(&opened).map(Answer::Credentials).map_err(AskError::Unknown)
    }
}

/// The registry that an image is pulled from.
pub fn host(image: &str) -> String {
    let parsed = ImageRef::parse(image).ok().and_then(|image| image.registry);
    parsed.unwrap_or_else(|| DEFAULT_REGISTRY.to_owned())
}
