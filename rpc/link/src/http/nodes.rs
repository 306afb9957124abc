//! Nodes: what they are there for, and what they are called.

use knit_rpc::api::{NodePatch, NodeRemoved, NodeView};
use knit_rpc::id::NodeId;
use knit_rpc::join::{MintedJoinToken, NewJoinToken};
use reqwest::{Method, StatusCode};

use super::{ApiClient, HttpError};

impl ApiClient {
    pub async fn nodes(&self) -> Result<Vec<NodeView>, HttpError> {
        self.get("/v1/nodes").await
    }

    pub async fn node(&self, node: &NodeId) -> Result<NodeView, HttpError> {
        self.get(&format!("/v1/nodes/{node}")).await
    }

    /// Changes labels and availability; what the patch does not name stays.
    pub async fn patch_node(
        &self,
        node: &NodeId,
        patch: &NodePatch,
    ) -> Result<NodeView, HttpError> {
        self.exchange(Method::PATCH, &format!("/v1/nodes/{node}"), patch).await
    }

    /// Forgets a node; with `force` also one that is still heard or runs something.
    pub async fn remove_node(&self, node: &NodeId, force: bool) -> Result<NodeRemoved, HttpError> {
        let query = if force { "?force=true" } else { "" };
        self.json(self.request(Method::DELETE, &format!("/v1/nodes/{node}{query}"))).await
    }

    /// Lets in a host that asks to join.
    pub async fn approve_node(&self, node: &NodeId) -> Result<NodeView, HttpError> {
        self.post(&format!("/v1/nodes/{node}/approve")).await
    }

    /// Keeps out a host that asks to join; one that is a node is taken out, with `force` also when
    /// it is still heard or runs something.
    pub async fn reject_node(
        &self,
        node: &NodeId,
        force: bool,
    ) -> Result<Option<NodeRemoved>, HttpError> {
        let query = if force { "?force=true" } else { "" };
        let request = self.request(Method::POST, &format!("/v1/nodes/{node}/reject{query}"));
        let (response, url) = self.send(request).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let read = response.json().await;
        read.map(Some).map_err(|source| HttpError::Answer { url, source })
    }

    /// The last assignment of a node that was removed, for a request to register, signed.
    pub async fn farewell(&self, signed: Vec<u8>) -> Result<Vec<u8>, HttpError> {
        self.send_signed("/v1/nodes/farewell", signed).await
    }

    /// Makes a token that lets one host in, once.
    pub async fn create_join_token(
        &self,
        new: &NewJoinToken,
    ) -> Result<MintedJoinToken, HttpError> {
        self.exchange(Method::POST, "/v1/join-tokens", new).await
    }

    /// Makes a join token that was not spent worth nothing, by its public half.
    pub async fn revoke_join_token(&self, public_key: &str) -> Result<(), HttpError> {
        self.delete(&format!("/v1/join-tokens/{public_key}")).await
    }
}
