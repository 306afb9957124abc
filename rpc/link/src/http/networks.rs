//! Networks that Knit makes on the nodes that need them.

use knit_rpc::api::NetworkView;
use knit_rpc::id::ProjectName;
use knit_rpc::message::NetworkSpec;
use reqwest::Method;

use super::{ApiClient, HttpError, list};

impl ApiClient {
    /// Of a project, or of all.
    pub async fn networks(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<NetworkView>, HttpError> {
        self.get(&list("/v1/networks", project)).await
    }

    pub async fn network(
        &self,
        project: &ProjectName,
        name: &str,
    ) -> Result<NetworkView, HttpError> {
        self.get(&format!("/v1/networks/{name}?project={project}")).await
    }

    pub async fn create_network(&self, network: &NetworkSpec) -> Result<NetworkView, HttpError> {
        let path = format!("/v1/networks?project={}", network.project);
        self.exchange(Method::POST, &path, network).await
    }

    pub async fn remove_network(&self, project: &ProjectName, name: &str) -> Result<(), HttpError> {
        self.delete(&format!("/v1/networks/{name}?project={project}")).await
    }
}
