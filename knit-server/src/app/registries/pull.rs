//! What a node is handed for one pull.
//!
//! ```text
//! signed by a node ─> its own instance, of this image? ─> credentials of the project for the host?
//!   ─> sign in ─> a token for the repository, else the password ─> sealed to the node, audited
//! ```

use std::time::Duration;

use knit_link::registry::{Grant, RegistryError};
use knit_rpc::Timestamp;
use knit_rpc::api::{DEFAULT_REGISTRY, PullCredentials, PullRequest, PullResponse};
use knit_rpc::audit::AuditFact;
use knit_rpc::id::ProjectName;
use knit_rpc::signed::{self, Context};
use knit_rpc::spec::ImageRef;
use knit_runtime::clock;
use knit_server_core::Node;
use zeroize::Zeroizing;

use super::super::{App, AppError};
use crate::store::registries::StoredRegistry;
use knit_runtime::error::sentence;

/// How far a node's clock may be off, and how long a request can be played again: what is answered
/// then opens for the node alone.
const CLOCK_SKEW_MAX: Duration = Duration::from_mins(10);

impl App {
    /// Answers a node that is about to pull; the answer is signed.
    pub async fn pull_credentials(&self, message: &[u8]) -> Result<Vec<u8>, AppError> {
        let now = clock::now();
        let (request, node, project) = self.expected_pull(message, now).await?;
        let image = ImageRef::parse(&request.image).map_err(AppError::Refused)?;
        let host = image.registry.as_deref().unwrap_or(DEFAULT_REGISTRY);
        let mut response =
            PullResponse { nonce: request.nonce.clone(), credentials: None, refusal: None };
        if let Some(stored) = self.store.registry(&project, host).await? {
            let Some(key) = &node.sealing_key else {
                return Err(AppError::Conflict(format!(
                    "the agent of node {} has no key that anything could be sealed to: install a \
                     newer one there",
                    node.name()
                )));
            };
            match self.grant(&stored, &image).await? {
                Ok(Some((credentials, what))) => {
                    let plain = serde_json::to_vec(&credentials).map(Zeroizing::new);
                    let plain = plain.map_err(|error| AppError::Internal(Box::new(error)))?;
                    let sealed = key.seal(&request.purpose(), &plain);
                    let sealed = sealed.map_err(|error| AppError::Internal(Box::new(error)))?;
                    self.note(handed_out(&node, &request, &stored, what, now)).await;
                    response.credentials = Some(sealed);
                }
                Ok(None) => {}
                Err(why) => response.refusal = Some(why),
            }
        }
        signed::sign(&self.identity.server, Context::Pulled, &response)
            .map_err(|error| AppError::Internal(Box::new(error)))
    }

    /// A request that is signed by a node, for the image of an instance that it was assigned.
    async fn expected_pull(
        &self,
        message: &[u8],
        now: Timestamp,
    ) -> Result<(PullRequest, Node, ProjectName), AppError> {
        let refused = |why: String| AppError::Refused(why);
        let claim: PullRequest =
            signed::peek(message).map_err(|error| refused(error.to_string()))?;
        let world = self.world().await;
        let Some(node) = world.snapshot.nodes.get(&claim.node).cloned() else {
            return Err(refused(format!("{} is no node of this cluster", claim.node)));
        };
        let request: PullRequest = signed::verify(&node.nkey, Context::Pull, message)
            .map_err(|error| refused(error.to_string()))?;
        let skew = now.since(request.at).max(request.at.since(now));
        if skew > CLOCK_SKEW_MAX {
            return Err(refused(format!(
                "the node's clock is {} s off this server's; at most {} s are allowed: set the \
                 clocks",
                skew.as_secs(),
                CLOCK_SKEW_MAX.as_secs()
            )));
        }
        let instances = &world.snapshot.instances;
        let instance = instances.get(&request.instance).filter(|one| one.node == node.id);
        let project = instance.and_then(|instance| {
            let spec = world.snapshot.specs.get(&instance.spec)?;
            let deployment = world.snapshot.deployments.get(&instance.deployment)?;
            let is_its_image = spec.image_reference() == request.image;
            is_its_image.then(|| deployment.spec.project.clone())
        });
        drop(world);
        let project = project.ok_or_else(|| {
            refused(format!(
                "node {} was assigned no instance {} of image {}",
                node.name(),
                request.instance,
                request.image
            ))
        })?;
        Ok((request, node, project))
    }

    /// What there is to hand out, and what it is in a word; or why there is nothing.
    async fn grant(
        &self,
        stored: &StoredRegistry,
        image: &ImageRef,
    ) -> Result<Result<Option<(PullCredentials, &'static str)>, String>, AppError> {
        let password = |what| -> Result<_, AppError> {
            let password = self.password(stored)?.to_string();
            let username = stored.username.clone();
            Ok(Ok(Some((PullCredentials::Password { username, password }, what))))
        };
        match self.sign_in(stored, Some(&image.repository)).await? {
            Ok(Grant::Nothing) => Ok(Ok(None)),
            Ok(Grant::Token(token)) => Ok(Ok(Some((PullCredentials::Token(token), "a token")))),
            Ok(Grant::Password) => password("the password"),
            Err(error) if error.is_refusal() => Ok(Err(format!(
                "registry {} refused the credentials of project {} (knit registry test {}): {}",
                stored.host,
                stored.project,
                stored.host,
                sentence(&error)
            ))),
            // The node may reach what the server does not.
            Err(error @ RegistryError::Unreachable { .. }) => {
                tracing::info!(registry = stored.host, why = sentence(&error), "no token was made");
                password("the password, since the server made no token")
            }
            // A registry that is out of sorts is no reason to give more away than it asks for.
            Err(error) => Err(AppError::NotYet(format!(
                "registry {} of project {} gives no token now: {}",
                stored.host,
                stored.project,
                sentence(&error)
            ))),
        }
    }
}

fn handed_out(
    node: &Node,
    request: &PullRequest,
    stored: &StoredRegistry,
    what: &str,
    at: Timestamp,
) -> AuditFact {
    AuditFact {
        at,
        actor: format!("node {} ({})", node.name(), node.id),
        origin: node.mesh_ip().map(|ip| ip.to_string()).unwrap_or_default(),
        action: format!("was handed {what}"),
        subject: format!("registry {}/{} for {}", stored.project, stored.host, request.image),
        status: 200,
        request_id: String::new(),
    }
}
