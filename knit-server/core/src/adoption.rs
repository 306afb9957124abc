//! Takes in what a node runs and this server does not know: after a restore of an older database,
//! or on an empty one.
//!
//! A node shows the signed assignment that it holds. It is the server's own word from before, and
//! newer than all that the server remembers having sent: so it tells the deployments, their specs
//! and where their instances are, what the node gave up since, and what was stopped or removed.
//!
//! ```text
//! what ended ─> deployments brought forward ─> instances taken in ─> instances given up
//! ```
//!
//! Invariant: an instance goes only when the node's newer word lacks it, or its deployment was
//! removed or stopped by the server's own word. Nothing lowers a revision or takes a name from a
//! deployment that has it.

mod deployments;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::id::{DeploymentId, InstanceId, ProjectName, SecretName, SpecHash};
use knit_rpc::message::{AssignedInstance, Generation};
use knit_rpc::spec::{InstanceSpec, VolumeName};

use crate::assignment::SentAssignment;
use crate::secrets::{Secret, Version};
use crate::snapshot::{Deployment, Instance, Network, Node, Snapshot, Volume};

/// How far above this server's epoch a node's may be. A server that forgot is a few lives behind,
/// not a million; whoever says more would drive the epoch to its end, from where it cannot rise.
pub const EPOCHS_AHEAD_MAX: u64 = 1_000_000;
/// How long the slots that no node has claimed yet stay empty.
pub const HOLD: Duration = Duration::from_secs(30);
/// Attempts that are tried when an instance's id is taken apart.
const ATTEMPTS_TRIED_MAX: u32 = 16;
/// Who is said to have made a version of a secret that only nodes have the value of.
const TOLD_BY_A_NODE: &str = "known from a node, without its value";

/// What is to be changed in the snapshot and the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adoption {
    /// New deployments, and known ones as they are now.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    /// Deployments that must not come back, known or not.
    pub removed: BTreeMap<DeploymentId, Timestamp>,
    pub specs: BTreeMap<SpecHash, InstanceSpec>,
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Known instances that the node was told to give up.
    pub dropped: BTreeSet<InstanceId>,
    pub volumes: BTreeMap<VolumeName, Volume>,
    pub networks: BTreeMap<(ProjectName, String), Network>,
    /// Versions of secrets whose values this server does not have: their numbers are taken.
    pub secrets: BTreeMap<(ProjectName, SecretName), (u64, Version)>,
}

impl Adoption {
    /// Carries what was found over into the snapshot.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        for deployment in self.deployments.values() {
            // Also one that no instance has yet: those that are made are sent with it.
            let (hash, spec) = (&deployment.spec_hash, &deployment.spec.instance);
            snapshot.specs.entry(hash.clone()).or_insert_with(|| spec.clone());
        }
        snapshot.deployments.extend(self.deployments.clone());
        snapshot.removed.extend(self.removed.clone());
        snapshot.specs.extend(self.specs.clone());
        for id in &self.dropped {
            snapshot.instances.remove(id);
        }
        for instance in self.instances.values() {
            snapshot.instances.insert(instance.clone());
        }
        for (name, volume) in &self.volumes {
            snapshot.volumes.insert(name.clone(), volume.clone());
        }
        snapshot.networks.extend(self.networks.clone());
        for (key, (number, version)) in &self.secrets {
            let secret = snapshot.secrets.entry(key.clone()).or_default();
            secret.versions.insert(*number, version.clone());
        }
    }
}

/// Whether the node works on something newer than this server ever sent: then the server forgot.
pub fn is_forgotten(node: &Node, applied: Generation) -> bool {
    applied > node.published
}

/// Whether a former life of this server can have sent what the node says that it works on.
pub fn is_believable(epoch: u64, applied: Generation) -> bool {
    applied.epoch <= epoch.saturating_add(EPOCHS_AHEAD_MAX)
}

/// The epoch in which everything is newer than what the agent holds.
pub fn epoch_above(epoch: u64, applied: Generation) -> u64 {
    epoch.max(applied.epoch.saturating_add(1))
}

/// Returns what the assignment tells that the snapshot does not know.
pub fn adopt(snapshot: &Snapshot, held: &SentAssignment, now: Timestamp) -> Adoption {
    let mut adoption = Adoption::default();
    deployments::take_ends(snapshot, held, &mut adoption, now);
    deployments::bring_forward(snapshot, held, &mut adoption, now);
    for assigned in &held.assignment.instances {
        take_instance(snapshot, held, &mut adoption, assigned, now);
    }
    for spec in &held.assignment.networks {
        let key = (spec.project.clone(), spec.name.clone());
        if !snapshot.networks.contains_key(&key) {
            adoption.networks.insert(key, Network { spec: spec.clone(), created_at: now });
        }
    }
    give_up(snapshot, held, &mut adoption, now);
    adoption
}

fn take_instance(
    snapshot: &Snapshot,
    held: &SentAssignment,
    adoption: &mut Adoption,
    assigned: &AssignedInstance,
    now: Timestamp,
) {
    take_versions(snapshot, adoption, assigned, now);
    let known_spec = snapshot.specs.get(&assigned.spec);
    let Some(spec) = held.assignment.specs.get(&assigned.spec).or(known_spec) else { return };
    let known = snapshot.instances.get(&assigned.id);
    if let Some(known) = known.filter(|known| known.node == held.assignment.node) {
        take_followed(adoption, known, open_secrets(assigned, spec));
        return;
    }
    let owner = deployments::take(snapshot, held, adoption, assigned, spec, now);
    let Some(owner) = owner else { return };
    // A node that was removed left its instances' ids to those that took their places elsewhere.
    adoption.dropped.extend(known.map(|known| known.id.clone()));
    adoption.specs.insert(assigned.spec.clone(), spec.clone());
    let instance = Instance {
        id: assigned.id.clone(),
        deployment: owner,
        slot: assigned.slot,
        revision: assigned.revision,
        attempt: attempt_of(assigned),
        node: held.assignment.node.clone(),
        spec: assigned.spec.clone(),
        retry: false,
        because: "taken in from its node".to_owned(),
        secrets: open_secrets(assigned, spec),
    };
    for mount in &spec.volumes {
        let name = VolumeName::of(&assigned.project, mount, assigned.slot);
        let node = held.assignment.node.clone();
        if !snapshot.volumes.contains_key(&name) {
            let volume = Volume { node, created_at: now, removing: false };
            adoption.volumes.entry(name).or_insert(volume);
        }
    }
    adoption.instances.insert(assigned.id.clone(), instance);
}

/// A container that got a newer version of a secret while it ran is not given the older one again.
fn take_followed(adoption: &mut Adoption, known: &Instance, told: BTreeMap<SecretName, u64>) {
    let mut secrets = known.secrets.clone();
    for (name, told) in told {
        let version = secrets.entry(name).or_insert(told);
        *version = told.max(*version);
    }
    if secrets != known.secrets {
        let followed = Instance { secrets, ..known.clone() };
        adoption.instances.insert(known.id.clone(), followed);
    }
}

/// A version of a secret that was set after the backup: its number is taken, so that the next
/// value that is set is not mistaken for it by a node that has it.
fn take_versions(
    snapshot: &Snapshot,
    adoption: &mut Adoption,
    assigned: &AssignedInstance,
    now: Timestamp,
) {
    for (name, number) in &assigned.secrets {
        let key = (assigned.project.clone(), name.clone());
        let known = snapshot.secrets.get(&key).and_then(Secret::newest);
        let newest = known.map_or(0, |(newest, _)| newest);
        let taken = adoption.secrets.get(&key).map_or(0, |(taken, _)| *taken);
        if *number > newest.max(taken) {
            let version = Version {
                bytes: 0,
                is_text: true,
                created_at: now,
                created_by: TOLD_BY_A_NODE.to_owned(),
                erased: true,
            };
            adoption.secrets.insert(key, (*number, version));
        }
    }
}

/// What the node was told to give up goes; its slots wait a moment for other nodes that got them.
fn give_up(snapshot: &Snapshot, held: &SentAssignment, adoption: &mut Adoption, now: Timestamp) {
    let kept: BTreeSet<&InstanceId> = held.assignment.instances.iter().map(|one| &one.id).collect();
    let here = snapshot.instances.on_node(&held.assignment.node);
    for instance in here.filter(|instance| !kept.contains(&instance.id)) {
        adoption.dropped.insert(instance.id.clone());
        let id = &instance.deployment;
        let known = adoption.deployments.get(id).or_else(|| snapshot.deployments.get(id));
        if let Some(known) = known.filter(|known| known.removed_at.is_none()) {
            let held = Deployment { hold_until: Some(now.plus(HOLD)), ..known.clone() };
            adoption.deployments.insert(id.clone(), held);
        }
    }
}

/// The versions that the instance names itself.
fn open_secrets(assigned: &AssignedInstance, spec: &InstanceSpec) -> BTreeMap<SecretName, u64> {
    let mut secrets = assigned.secrets.clone();
    secrets.retain(|name, _| !spec.secret_versions.contains_key(name));
    secrets
}

/// The attempt that an instance's id was derived from.
fn attempt_of(assigned: &AssignedInstance) -> u32 {
    let derived = |attempt| {
        InstanceId::derive(&assigned.deployment_id, assigned.slot, assigned.revision, attempt)
    };
    (0..8u32)
        .flat_map(|epoch| (0..ATTEMPTS_TRIED_MAX).map(move |attempt| epoch * 1024 + attempt))
        .find(|attempt| derived(*attempt) == assigned.id)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
