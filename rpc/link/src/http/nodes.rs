//! Nodes: what they are there for, and what they are called.

use knit_rpc::api::{NodePatch, NodeView};
use knit_rpc::id::NodeId;
use knit_rpc::join::{MintedJoinToken, NewJoinToken};
use reqwest::Method;

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
    pub async fn remove_node(&self, node: &NodeId, force: bool) -> Result<(), HttpError> {
        let query = if force { "?force=true" } else { "" };
        self.delete(&format!("/v1/nodes/{node}{query}")).await
    }

    /// Lets in a host that asks to join.
    pub async fn approve_node(&self, node: &NodeId) -> Result<NodeView, HttpError> {
        self.post(&format!("/v1/nodes/{node}/approve")).await
    }

    /// Keeps out a host that asks to join.
    pub async fn reject_node(&self, node: &NodeId) -> Result<(), HttpError> {
        let path = format!("/v1/nodes/{node}/reject");
        self.send(self.request(Method::POST, &path)).await?;
        Ok(())
    }

    /// Makes a token that lets one host in, once.
    pub async fn create_join_token(
        &self,
        new: &NewJoinToken,
    ) -> Result<MintedJoinToken, HttpError> {
        self.exchange(Method::POST, "/v1/join-tokens", new).await
    }
}
