//! How a host becomes a node, and stays one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{ClusterId, NodeId};
use crate::join::JoinProof;
use crate::message::Generation;
use crate::sealed_box::SealingKey;

/// `POST /v1/nodes/register`, signed with the node's nkey (`signed::Context::Register`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisterRequest {
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The node's public nkey (`U…`), which the signature must be by.
    pub nkey: String,
    /// 16 random bytes in hex, which the answer repeats: an old answer cannot be played again.
    pub nonce: String,
    /// The node's clock, to refuse requests that are played again after 10 minutes.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// The cluster that the node belongs to already, if any.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cluster: Option<ClusterId>,
    pub name: String,
    pub wg_pubkey: String,
    #[schema(value_type = String)]
    pub mesh_ip: Ipv4Addr,
    pub boot: String,
    #[serde(default)]
    #[schema(value_type = u64)]
    pub agent_start: Timestamp,
    /// Generation of the assignment that the node holds, so that a server that forgot rises above.
    #[serde(default)]
    pub applied: Generation,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Networks that the node's host has routes to or addresses in: its container subnet must
    /// overlap none of them.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub host_networks: Vec<Ipv4Net>,
    /// The container subnet that the node uses already, which a server that forgot should keep.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub subnet: Option<Ipv4Net>,
    /// What can be sealed to it: the public half of its X25519 key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key: Option<SealingKey>,
    /// What lets it in for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinProof>,
    /// The last NATS token that this cluster gave it: a server that forgot gave it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
}

/// The answer, signed by the server (`signed::Context::Registered`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegisterResponse {
    #[schema(value_type = String)]
    pub cluster: ClusterId,
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The request's nonce.
    pub nonce: String,
    /// The server's public signing key, pinned by the node from its first registration on.
    pub server_key: String,
    /// For example `nats://10.45.75.206:7422`.
    pub nats_url: String,
    /// Certificates in PEM that NATS' own must be signed by, when it demands TLS and is not vouched
    /// for by what the node's system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_ca: Option<String>,
    /// NATS user JWT for this node's own subjects.
    pub user_jwt: String,
    /// When the JWT ends; the node renews by registering again well before.
    #[schema(value_type = u64)]
    pub expires: Timestamp,
    /// The node's container subnet.
    #[schema(value_type = String)]
    pub subnet: Ipv4Net,
    /// Whether the server has forgotten what this node runs: the agent's next full report carries
    /// the assignment that it holds (`InstanceReport::held`), and until then nothing changes.
    #[serde(default)]
    pub adopt: bool,
}
