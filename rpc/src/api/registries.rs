//! Registries that take a user name and a password, and how a node gets what it needs of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{InstanceId, NodeId, ProjectName};
use crate::sealed_box::SealedBox;

/// The registry of images whose names hold none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// `POST /v1/registries`: how to sign in to a registry. Replaces what was said of it before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewRegistry {
    #[serde(default)]
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// Host and port, as images name it; `docker.io` for images that name none.
    pub host: String,
    pub username: String,
    pub password: String,
    /// Certificates in PEM that the registry's own must be signed by; else those that the server's
    /// system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Whether it is spoken to without TLS: whoever listens on the way learns the password.
    #[serde(default)]
    pub insecure: bool,
}

impl std::fmt::Debug for NewRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewRegistry").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A registry as the API shows it: never with its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryView {
    #[schema(value_type = String)]
    pub project: ProjectName,
    pub host: String,
    pub username: String,
    /// Whether it has certificates of its own authority.
    pub own_ca: bool,
    pub insecure: bool,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[schema(value_type = u64)]
    pub changed_at: Timestamp,
    pub changed_by: String,
}

/// `POST /v1/registries/{host}/test`: whether the registry takes the credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryTest {
    pub takes: bool,
    /// In a sentence: what it said, or what nodes are handed.
    pub message: String,
}

/// `POST /v1/nodes/pull`, signed with the node's nkey (`signed::Context::Pull`): what a node needs
/// to pull an image of an instance that it was assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequest {
    #[schema(value_type = String)]
    pub node: NodeId,
    /// 16 random bytes in hex, which the answer repeats.
    pub nonce: String,
    #[schema(value_type = u64)]
    pub at: Timestamp,
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// As the instance's spec names it.
    pub image: String,
}

impl PullRequest {
    /// What the credentials are sealed for.
    pub fn purpose(&self) -> String {
        format!("pull {} {}", self.nonce, self.image)
    }
}

/// The answer, signed by the server (`signed::Context::Pulled`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullResponse {
    pub nonce: String,
    /// [`PullCredentials`] in JSON, sealed to the node; none when the project has none for the
    /// registry, or the registry wants none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SealedBox>,
    /// Why there are none although the project has some: asking again soon does not help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// What one pull is signed in with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullCredentials {
    /// For this repository, for minutes, for reading.
    Token(String),
    Password {
        username: String,
        password: String,
    },
}

impl std::fmt::Debug for PullCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Password { .. } => "Password",
        })
    }
}
