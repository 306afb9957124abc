//! Secrets: values go in, and never come out.

use knit_rpc::api::{NewSecret, SecretStored, SecretVersion, SecretView};
use knit_rpc::id::{ProjectName, SecretName};
use reqwest::Method;

use super::{ApiClient, HttpError, list};

impl ApiClient {
    /// Of a project, or of all.
    pub async fn secrets(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<SecretView>, HttpError> {
        self.get(&list("/v1/secrets", project)).await
    }

    /// All versions, the newest first.
    pub async fn secret_versions(
        &self,
        project: &ProjectName,
        name: &SecretName,
    ) -> Result<Vec<SecretVersion>, HttpError> {
        self.get(&format!("/v1/secrets/{name}?project={project}")).await
    }

    /// With `version` the newest must be that one (0: there must be none).
    pub async fn set_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
        value: &[u8],
        version: Option<u64>,
    ) -> Result<SecretStored, HttpError> {
        let new = NewSecret::of(value, version);
        let path = format!("/v1/secrets/{name}?project={project}");
        self.exchange(Method::PUT, &path, &new).await
    }

    pub async fn remove_secret(
        &self,
        project: &ProjectName,
        name: &SecretName,
    ) -> Result<(), HttpError> {
        self.delete(&format!("/v1/secrets/{name}?project={project}")).await
    }
}
