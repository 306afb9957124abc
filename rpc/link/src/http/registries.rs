//! Registries that take a user name and a password.

use knit_rpc::api::{NewRegistry, RegistryTest, RegistryView};
use knit_rpc::id::ProjectName;
use reqwest::Method;

use super::{ApiClient, HttpError, list};

impl ApiClient {
    /// Of a project, or of all.
    pub async fn registries(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<RegistryView>, HttpError> {
        self.get(&list("/v1/registries", project)).await
    }

    /// Says how to sign in to a registry; replaces what was said before.
    pub async fn put_registry(&self, new: &NewRegistry) -> Result<RegistryView, HttpError> {
        let path = format!("/v1/registries?project={}", new.project);
        self.exchange(Method::POST, &path, new).await
    }

    pub async fn remove_registry(
        &self,
        project: &ProjectName,
        host: &str,
    ) -> Result<(), HttpError> {
        self.delete(&format!("/v1/registries/{host}?project={project}")).await
    }

    /// Whether the registry takes the credentials.
    pub async fn test_registry(
        &self,
        project: &ProjectName,
        host: &str,
    ) -> Result<RegistryTest, HttpError> {
        self.post(&format!("/v1/registries/{host}/test?project={project}")).await
    }

    /// What a node needs for a pull, for a request that it signed.
    pub async fn pull_credentials(&self, signed: Vec<u8>) -> Result<Vec<u8>, HttpError> {
        self.send_signed("/v1/nodes/pull", signed).await
    }
}
