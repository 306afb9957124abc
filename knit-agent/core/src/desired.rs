//! What this node should run.

use std::collections::BTreeMap;
use std::sync::Arc;

use knit_rpc::id::{ClusterId, InstanceId, NodeId};
use knit_rpc::message::{AssignedInstance, NodeAssignment};
use knit_rpc::spec::{InstanceSpec, RunPolicy};

/// Whose containers these are: ours carry both ids as labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub cluster: ClusterId,
    pub node: NodeId,
}

/// An assignment, looked up and ready to be compared with what runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub owner: Owner,
    pub instances: BTreeMap<InstanceId, Wanted>,
}

/// One instance that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub assigned: AssignedInstance,
    pub spec: Arc<InstanceSpec>,
    pub policy: Arc<RunPolicy>,
}

/// Why an assignment cannot be worked on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the assignment refers to spec {spec} for instance {instance}, but does not carry it")]
pub struct MissingSpec {
    instance: InstanceId,
    spec: String,
}

impl Desired {
    /// Looks up each instance's spec. One that is missing spoils the whole assignment: acting on
    /// the rest would remove a container that somebody wants.
    pub fn of(assignment: &NodeAssignment) -> Result<Self, MissingSpec> {
        let specs: BTreeMap<_, _> =
            assignment.specs.iter().map(|(hash, spec)| (hash, Arc::new(spec.clone()))).collect();
        let policies: BTreeMap<_, _> = assignment
            .policies
            .iter()
            .map(|(hash, policy)| (hash, Arc::new(policy.clone())))
            .collect();
        let default = Arc::new(RunPolicy::default());
        let mut instances = BTreeMap::new();
        for assigned in &assignment.instances {
            let spec = specs.get(&assigned.spec).cloned().ok_or_else(|| MissingSpec {
                instance: assigned.id.clone(),
                spec: assigned.spec.to_string(),
            })?;
            let policy = assigned.policy.as_ref().and_then(|hash| policies.get(hash));
            let policy = policy.unwrap_or(&default).clone();
            instances
                .insert(assigned.id.clone(), Wanted { assigned: assigned.clone(), spec, policy });
        }
        let owner = Owner { cluster: assignment.cluster.clone(), node: assignment.node.clone() };
        Ok(Self { owner, instances })
    }
}

impl Wanted {
    /// What holds a host port: two revisions of one slot may share it during a rollout.
    pub fn slot(&self) -> Slot {
        Slot {
            project: self.assigned.project.to_string(),
            deployment: self.assigned.deployment.to_string(),
            number: self.assigned.slot,
        }
    }
}

/// A replica's place in its deployment, which survives replacements.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub project: String,
    pub deployment: String,
    pub number: u32,
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}.{}", self.project, self.deployment, self.number)
    }
}
