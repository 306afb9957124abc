//! Projects: namespaces of names.

use knit_rpc::api::{NewProject, ProjectView};
use knit_rpc::id::ProjectName;
use reqwest::Method;

use super::{ApiClient, HttpError};

impl ApiClient {
    /// The projects that the token holds for.
    pub async fn projects(&self) -> Result<Vec<ProjectView>, HttpError> {
        self.get("/v1/projects").await
    }

    pub async fn create_project(&self, name: &ProjectName) -> Result<ProjectView, HttpError> {
        let new = NewProject { name: name.clone() };
        self.exchange(Method::POST, "/v1/projects", &new).await
    }

    /// Removes a project that nothing is in.
    pub async fn remove_project(&self, name: &ProjectName) -> Result<(), HttpError> {
        self.delete(&format!("/v1/projects/{name}")).await
    }
}
