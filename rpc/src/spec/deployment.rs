//! A deployment: how many, where, and how it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Health, InstanceSpec, PullPolicy, RunPolicy, SpreadKey, UpdateSpec, check};
use crate::constraint::Constraint;
use crate::id::{DeploymentName, ProjectName};

/// Replicas of one deployment, at most.
pub const REPLICAS_MAX: u32 = 10_000;

/// What the user wants: a named deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentSpec {
    #[schema(value_type = String)]
    pub name: DeploymentName,
    /// Namespace of the name; `default` when the manifest says nothing.
    #[serde(default)]
    #[schema(value_type = String)]
    pub project: ProjectName,
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// How many instances; 1 when the manifest says nothing. Means nothing with
    /// [`Mode::EveryNode`].
    #[serde(default = "one")]
    pub replicas: u32,
    /// Labels that a node must carry, each with this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// What else must hold of a node, such as `label.region == "eu" && arch == "amd64"`.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub constraint: Option<Constraint>,
    /// What instances are spread over, the most important first; over nodes when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub spread: Vec<SpreadKey>,
    /// Instances of this deployment that one node may run, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// What becomes of instances whose node is lost; when absent, `wait` with volumes and
    /// `replace` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
    #[serde(default, skip_serializing_if = "UpdateSpec::is_default")]
    pub update: UpdateSpec,
    #[serde(default, skip_serializing_if = "Health::is_default")]
    pub health: Health,
    #[serde(default, skip_serializing_if = "PullPolicy::is_default")]
    pub pull_policy: PullPolicy,
    #[serde(flatten)]
    pub instance: InstanceSpec,
}

fn one() -> u32 {
    1
}

impl DeploymentSpec {
    /// A deployment of one instance, with everything else at its default.
    pub fn new(name: DeploymentName, instance: InstanceSpec) -> Self {
        Self {
            name,
            project: ProjectName::default(),
            mode: Mode::default(),
            replicas: 1,
            node_selector: BTreeMap::new(),
            constraint: None,
            spread: Vec::new(),
            max_per_node: None,
            on_node_loss: None,
            update: UpdateSpec::default(),
            health: Health::default(),
            pull_policy: PullPolicy::default(),
            instance,
        }
    }

    /// What no single field can tell: clashes among ports, templates and networks.
    pub fn check(&self) -> Vec<(String, String)> {
        check::clashes(self)
    }

    /// What an agent has to know besides what the container looks like.
    pub fn policy(&self) -> RunPolicy {
        RunPolicy {
            health: self.health.clone(),
            pull_policy: self.pull_policy,
            drain: self.update.drain,
        }
    }

    /// What becomes of instances whose node is lost.
    pub fn on_node_loss(&self) -> OnNodeLoss {
        let keeps_data = !self.instance.volumes.is_empty();
        let default = if keeps_data { OnNodeLoss::Wait } else { OnNodeLoss::Replace };
        self.on_node_loss.unwrap_or(default)
    }
}

/// How many instances there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `replicas` of them.
    #[default]
    Replicated,
    /// One on each node that may run it.
    EveryNode,
}

impl Mode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of instances whose node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnNodeLoss {
    /// They are placed elsewhere at once.
    Replace,
    /// They wait for the node to return, or to be removed from the cluster.
    Wait,
    /// They wait until somebody says `knit restart`.
    Manual,
}
