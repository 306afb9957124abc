//! What would happen, and why something is as it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Unplaced;
use crate::id::{DeploymentName, ProjectName};

/// Answer to `POST /deployments?plan_only=true`: what would happen, and nothing did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[schema(value_type = String)]
    pub name: DeploymentName,
    /// The revision that it would become.
    pub revision: u64,
    /// Keys that differ from the present revision.
    pub changed: Vec<String>,
    /// Those of them that need new containers.
    pub recreates: Vec<String>,
    /// Where each slot's instance would be: `create`, `replace`, `keep` or `remove`.
    pub slots: Vec<SlotPlan>,
    pub unplaced: Vec<Unplaced>,
    /// What one should know, for example that a volume forces stop-first, or a public port.
    pub notes: Vec<String>,
}

/// What would become of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotPlan {
    pub slot: u32,
    pub action: SlotAction,
    /// The node that runs it now.
    pub from: Option<String>,
    /// The node that would run it.
    pub to: Option<String>,
    /// Why there.
    pub because: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SlotAction {
    Create,
    Replace,
    Keep,
    Remove,
}

/// Answer to `GET /deployments/{name}/why`: why each instance is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    pub slots: Vec<WhySlot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhySlot {
    pub slot: u32,
    /// None while it has no place.
    pub node: Option<String>,
    /// Sentences: why this node, or what it waits for.
    pub because: Vec<String>,
    /// Every other node with all that speaks against it.
    pub others: Vec<WhyNot>,
}

/// Answer to `GET /deployments/{name}/why-not?node=`: all that keeps a node from running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyNot {
    pub node: String,
    /// Everything that fails, with numbers. Empty: it could run there, and another was better.
    pub reasons: Vec<String>,
    /// What would have to change at least, or why another node was better.
    pub nearest: Option<String>,
}
