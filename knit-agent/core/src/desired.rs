//! What this node should run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use knit_rpc::id::{ClusterId, InstanceId, NodeId, ProjectName, SecretName};
use knit_rpc::message::{AssignedInstance, NetworkSpec, NodeAssignment};
use knit_rpc::sealed_box::SealedBox;
use knit_rpc::spec::{InstanceSpec, RunPolicy, VolumeName};

use crate::secrets::Held;

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
    /// Networks that these instances may join, by Docker's names.
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Volumes that somebody asked to remove.
    pub remove_volumes: BTreeSet<VolumeName>,
    /// Images that are not to be collected, besides those of the instances.
    pub keep_images: BTreeSet<String>,
}

/// One instance that should run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub assigned: AssignedInstance,
    /// With the networks by Docker's names: another one than what `assigned.spec` is the hash of.
    pub spec: Arc<InstanceSpec>,
    pub policy: Arc<RunPolicy>,
    pub secrets: Arc<BTreeMap<SecretName, Held>>,
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
        let mut specs: BTreeMap<(_, &ProjectName), Arc<InstanceSpec>> = BTreeMap::new();
        let policies: BTreeMap<_, _> = assignment
            .policies
            .iter()
            .map(|(hash, policy)| (hash, Arc::new(policy.clone())))
            .collect();
        let default = Arc::new(RunPolicy::default());
        let boxes: Boxes<'_> = assignment
            .secrets
            .iter()
            .map(|one| ((&one.project, &one.name, one.version), &one.sealed))
            .collect();
        let mut instances = BTreeMap::new();
        for assigned in &assignment.instances {
            let written = assignment.specs.get(&assigned.spec).ok_or_else(|| MissingSpec {
                instance: assigned.id.clone(),
                spec: assigned.spec.to_string(),
            })?;
            let project = &assigned.project;
            let spec = specs
                .entry((&assigned.spec, project))
                .or_insert_with(|| Arc::new(resolved(written, project, &assignment.networks)));
            let spec = Arc::clone(spec);
            let policy = assigned.policy.as_ref().and_then(|hash| policies.get(hash));
            let policy = policy.unwrap_or(&default).clone();
            let secrets = Arc::new(held(assigned, &boxes));
            let wanted = Wanted { assigned: assigned.clone(), spec, policy, secrets };
            instances.insert(assigned.id.clone(), wanted);
        }
        let owner = Owner { cluster: assignment.cluster.clone(), node: assignment.node.clone() };
        let networks = assignment.networks.iter();
        Ok(Self {
            owner,
            instances,
            networks: networks.map(|one| (one.docker_name(), one.clone())).collect(),
            remove_volumes: assignment.remove_volumes.clone(),
            keep_images: assignment.keep_images.clone(),
        })
    }
}

type Boxes<'a> = BTreeMap<(&'a ProjectName, &'a SecretName, u64), &'a SealedBox>;

/// What an instance gets of secrets, with the boxes that came.
fn held(assigned: &AssignedInstance, boxes: &Boxes<'_>) -> BTreeMap<SecretName, Held> {
    let secrets = assigned.secrets.iter();
    secrets
        .map(|(name, version)| {
            let sealed = boxes.get(&(&assigned.project, name, *version));
            let sealed = sealed.map(|sealed| (*sealed).clone());
            (name.clone(), Held { version: *version, sealed })
        })
        .collect()
}

/// The spec with each of the project's networks by Docker's name; what is none of them stays.
fn resolved(spec: &InstanceSpec, project: &ProjectName, networks: &[NetworkSpec]) -> InstanceSpec {
    let of = |name: &String| {
        let known = networks.iter().find(|one| one.project == *project && one.name == *name);
        known.map_or_else(|| name.clone(), NetworkSpec::docker_name)
    };
    InstanceSpec { networks: spec.networks.iter().map(of).collect(), ..spec.clone() }
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
