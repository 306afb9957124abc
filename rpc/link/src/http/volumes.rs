//! Volumes: where the data is.

use knit_rpc::api::VolumeView;
use knit_rpc::id::ProjectName;

use super::{ApiClient, HttpError, list};

impl ApiClient {
    /// Of a project, or of all.
    pub async fn volumes(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<VolumeView>, HttpError> {
        self.get(&list("/v1/volumes", project)).await
    }

    /// All volumes of a name: one when it is shared or its slot is named, else one for each slot.
    pub async fn volume(
        &self,
        project: &ProjectName,
        name: &str,
    ) -> Result<Vec<VolumeView>, HttpError> {
        self.get(&format!("/v1/volumes/{name}?project={project}")).await
    }

    /// Removes them with their data, where their nodes are.
    pub async fn remove_volume(&self, project: &ProjectName, name: &str) -> Result<(), HttpError> {
        self.delete(&format!("/v1/volumes/{name}?project={project}")).await
    }
}
