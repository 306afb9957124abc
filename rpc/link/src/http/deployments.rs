//! Deployments: what is wanted, and how it gets there.

use knit_rpc::api::{
    Accepted, DeploymentView, PlanView, RevisionView, RollbackRequest, RolloutView, ScaleRequest,
    WhyNot, WhyView,
};
use knit_rpc::id::{DeploymentName, NodeId, ProjectName};
use knit_rpc::spec::Format;
use reqwest::{Method, RequestBuilder, header};

use super::{ApiClient, HttpError, list};

/// What can be asked of a rollout that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutStep {
    Pause,
    Resume,
    Promote,
    Abort,
}

impl RolloutStep {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Abort => "abort",
        }
    }
}

impl ApiClient {
    pub async fn deploy(&self, text: String, format: Format) -> Result<Accepted, HttpError> {
        self.deploy_in(None, text, format).await
    }

    /// Into this project, if the manifest names no other.
    pub async fn deploy_in(
        &self,
        project: Option<&ProjectName>,
        text: String,
        format: Format,
    ) -> Result<Accepted, HttpError> {
        self.json(self.manifest(&list("/v1/deployments", project), text, format)).await
    }

    /// What `deploy_in` would lead to; nothing happens.
    pub async fn plan(
        &self,
        project: Option<&ProjectName>,
        text: String,
        format: Format,
    ) -> Result<PlanView, HttpError> {
        let of = project.map(|project| format!("&project={project}")).unwrap_or_default();
        let path = format!("/v1/deployments?plan_only=true{of}");
        self.json(self.manifest(&path, text, format)).await
    }

    fn manifest(&self, path: &str, text: String, format: Format) -> RequestBuilder {
        self.request(Method::POST, path)
            .header(header::CONTENT_TYPE, format.content_type())
            .body(text)
    }

    /// Of a project, or of all.
    pub async fn deployments(
        &self,
        project: Option<&ProjectName>,
    ) -> Result<Vec<DeploymentView>, HttpError> {
        self.get(&list("/v1/deployments", project)).await
    }

    pub async fn deployment(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<DeploymentView, HttpError> {
        self.get(&path(project, name, "")).await
    }

    /// Removes a deployment; its volumes stay.
    pub async fn undeploy(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<(), HttpError> {
        self.delete(&path(project, name, "")).await
    }

    /// Removes a deployment and its volumes with their data.
    pub async fn undeploy_with_volumes(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<(), HttpError> {
        self.delete(&format!("{}&volumes=true", path(project, name, ""))).await
    }

    pub async fn history(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<Vec<RevisionView>, HttpError> {
        self.get(&path(project, name, "/history")).await
    }

    /// Back to a revision; to the last stable one when `to` is none.
    pub async fn rollback(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        to: Option<u64>,
    ) -> Result<Accepted, HttpError> {
        let path = path(project, name, "/rollback");
        self.exchange(Method::POST, &path, &RollbackRequest { to }).await
    }

    pub async fn scale(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        replicas: u32,
    ) -> Result<Accepted, HttpError> {
        let path = path(project, name, "/scale");
        self.exchange(Method::POST, &path, &ScaleRequest { replicas }).await
    }

    /// New containers for all slots.
    pub async fn restart(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<Accepted, HttpError> {
        self.post(&path(project, name, "/restart")).await
    }

    pub async fn stop(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<Accepted, HttpError> {
        self.post(&path(project, name, "/stop")).await
    }

    pub async fn start(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<Accepted, HttpError> {
        self.post(&path(project, name, "/start")).await
    }

    /// The newest rollout, under way or ended.
    pub async fn rollout(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
    ) -> Result<RolloutView, HttpError> {
        self.get(&path(project, name, "/rollout")).await
    }

    pub async fn steer(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        step: RolloutStep,
    ) -> Result<RolloutView, HttpError> {
        self.post(&path(project, name, &format!("/rollout/{}", step.as_str()))).await
    }

    /// Why its instances are where they are; of one slot or of all.
    pub async fn why(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        slot: Option<u32>,
    ) -> Result<WhyView, HttpError> {
        let slot = slot.map(|slot| format!("&slot={slot}")).unwrap_or_default();
        self.get(&format!("{}{slot}", path(project, name, "/why"))).await
    }

    /// All that keeps a node from running it.
    pub async fn why_not(
        &self,
        project: &ProjectName,
        name: &DeploymentName,
        node: &NodeId,
    ) -> Result<WhyNot, HttpError> {
        self.get(&format!("{}&node={node}", path(project, name, "/why-not"))).await
    }
}

fn path(project: &ProjectName, name: &DeploymentName, below: &str) -> String {
    format!("/v1/deployments/{name}{below}?project={project}")
}
