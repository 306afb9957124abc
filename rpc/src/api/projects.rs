//! Projects: namespaces of names.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::ProjectName;

/// A project as the API shows it, with the numbers of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProjectView {
    #[schema(value_type = String)]
    pub name: ProjectName,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[serde(flatten)]
    pub contents: ProjectContents,
}

/// How much is in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProjectContents {
    pub deployments: u64,
    /// Deployments that were removed and whose containers are not all gone yet.
    pub leaving: u64,
    pub volumes: u64,
    pub networks: u64,
    pub secrets: u64,
    pub registries: u64,
}

/// `POST /projects`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewProject {
    #[schema(value_type = String)]
    pub name: ProjectName,
}
