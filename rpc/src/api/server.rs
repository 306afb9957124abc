//! Who answers, and where.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::ClusterId;

/// Port of the REST API.
pub const API_PORT: u16 = 7400;

/// Where the server answers on its own host.
pub const API_SOCKET: &str = "/run/knit/server.sock";

/// Port of NATS for clients.
pub const NATS_PORT: u16 = 7422;

/// Port of NATS' monitor, on loopback.
pub const NATS_MONITOR_PORT: u16 = 7423;

/// `GET /ping`: how a program finds out that a Knit server answers here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ping {
    /// Always `knit-server`.
    pub service: String,
    pub version: String,
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// The server's public signing key (an nkey, `N…`).
    pub server_key: String,
}

/// `GET /identity?nonce=…`, signed by the server (`signed::Context::Identity`): the proof that
/// comes before a token is shown to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerIdentity {
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    /// The server's public signing key (an nkey, `N…`), which the signature is by.
    pub server_key: String,
    /// What the asker sent: an old answer cannot be played again.
    pub nonce: String,
}
