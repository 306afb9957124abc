//! Takes in what a node runs and this server does not know: after a restore of an older database,
//! or on an empty one.
//!
//! A node shows the signed assignment that it holds. It is the server's own word from before, so
//! it tells the deployments, their specs and where their instances are.
//!
//! Invariant: adopting adds; it never removes an instance, lowers a revision or takes a name from
//! a deployment that has it.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_rpc::Timestamp;
use knit_rpc::api::RolloutState;
use knit_rpc::id::{DeploymentId, InstanceId, SecretName, SpecHash};
use knit_rpc::message::{AssignedInstance, Generation};
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, Mode, VolumeName};

use crate::assignment::{Outline, SentAssignment};
use crate::revise;
use crate::snapshot::{Deployment, Instance, Node, Snapshot, Volume};

/// How far above this server's epoch a node's may be. A server that forgot is a few lives behind,
/// not a million; whoever says more would drive the epoch to its end, from where it cannot rise.
pub const EPOCHS_AHEAD_MAX: u64 = 1_000_000;
/// How long the slots that no node has claimed yet stay empty.
pub const HOLD: Duration = Duration::from_secs(30);
/// Attempts that are tried when an instance's id is taken apart.
const ATTEMPTS_TRIED_MAX: u32 = 16;

/// What is to be added to the snapshot and the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adoption {
    /// New deployments, and known ones at a newer revision.
    pub deployments: BTreeMap<DeploymentId, Deployment>,
    pub specs: BTreeMap<SpecHash, InstanceSpec>,
    pub instances: BTreeMap<InstanceId, Instance>,
    pub volumes: BTreeMap<VolumeName, Volume>,
}

impl Adoption {
    /// Adds what was found to the snapshot.
    pub fn apply(&self, snapshot: &mut Snapshot) {
        snapshot.deployments.extend(self.deployments.clone());
        snapshot.specs.extend(self.specs.clone());
        for instance in self.instances.values() {
            snapshot.instances.insert(instance.clone());
        }
        for (name, volume) in &self.volumes {
            snapshot.volumes.insert(name.clone(), volume.clone());
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
    for assigned in &held.assignment.instances {
        if snapshot.instances.contains_key(&assigned.id) {
            continue;
        }
        let known_spec = snapshot.specs.get(&assigned.spec);
        let Some(spec) = held.assignment.specs.get(&assigned.spec).or(known_spec) else { continue };
        let owner = take_deployment(snapshot, held, &mut adoption, assigned, spec, now);
        let Some(owner) = owner else { continue };
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
    adoption
}

/// Finds or makes the deployment that the instance belongs to; `None` when it was removed here.
fn take_deployment(
    snapshot: &Snapshot,
    held: &SentAssignment,
    adoption: &mut Adoption,
    assigned: &AssignedInstance,
    spec: &InstanceSpec,
    now: Timestamp,
) -> Option<DeploymentId> {
    let id = &assigned.deployment_id;
    let known = adoption.deployments.get(id).or_else(|| snapshot.deployments.get(id)).cloned();
    if let Some(known) = &known {
        if known.removed_at.is_some() {
            return None;
        }
        if known.revision > assigned.revision {
            return Some(id.clone());
        }
    } else if let Some(holder) = snapshot.named(&assigned.project, &assigned.deployment) {
        // The name lives a new life here: what runs is an older instance of it, and is replaced
        // as one.
        return Some(holder.id.clone());
    }
    let outline = held.deployments.get(id);
    if known.as_ref().is_some_and(|k| k.revision >= assigned.revision && k.hold_until.is_none()) {
        return Some(id.clone());
    }
    let taken = outlined(held, assigned, spec, outline, known.as_ref(), now);
    adoption.deployments.insert(id.clone(), taken);
    Some(id.clone())
}

/// The deployment as its outline tells it; what an older server sent has none.
fn outlined(
    held: &SentAssignment,
    assigned: &AssignedInstance,
    instance: &InstanceSpec,
    outline: Option<&Outline>,
    known: Option<&Deployment>,
    now: Timestamp,
) -> Deployment {
    let mut spec = outline.map_or_else(
        || DeploymentSpec::new(assigned.deployment.clone(), instance.clone()),
        |outline| outline.spec(&held.assignment.specs),
    );
    spec.project = assigned.project.clone();
    spec.replicas = spec
        .replicas
        .max(if spec.mode == Mode::Replicated { assigned.slot.saturating_add(1) } else { 1 })
        .max(known.filter(|k| k.hold_until.is_some()).map_or(0, |k| k.spec.replicas));
    let mut deployment = revise::first(assigned.deployment_id.clone(), spec, now);
    let revision = outline.map_or(assigned.revision, |outline| outline.revision);
    deployment.revisions =
        deployment.revisions.into_values().map(|first| (revision, first)).collect();
    deployment.revision = revision;
    deployment.created_at = known.map_or(now, |known| known.created_at);
    deployment.restart_floor = outline.map_or(0, |outline| outline.restart_floor);
    deployment.hold_until = Some(now.plus(HOLD));
    // What it was before is not known; what runs is what there is to go back to.
    revise::end(&mut deployment, RolloutState::Succeeded, None, Vec::new(), now);
    deployment
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
mod tests {
    use knit_rpc::message::Phase;

    use super::*;
    use crate::assignment;
    use crate::testing::*;

    /// A cluster of two nodes that ran for a while, and what its nodes hold.
    fn lived() -> (Snapshot, Vec<SentAssignment>) {
        let mut snapshot = cluster(2);
        deploy_on(&mut snapshot, 1, 3, instance_spec("a"), &[]);
        deploy(&mut snapshot, 2, 1, instance_spec("b"));
        settle(&mut snapshot, NOW);
        run_all(&mut snapshot);
        let ids: Vec<_> = snapshot.instances.keys().cloned().collect();
        for id in &ids {
            let because = "taken in from its node".to_owned();
            snapshot.instances.update(id, |instance| instance.because = because);
        }
        let held = (1..=2)
            .map(|n| {
                let generation = snapshot.nodes[&node_id(n)].generation;
                assignment::of_node(&snapshot, &node_id(n), generation)
            })
            .collect();
        (snapshot, held)
    }

    #[test]
    fn a_server_that_forgot_everything_gets_it_back_from_its_nodes() {
        let (lived, held) = lived();
        let mut forgot = cluster(2);
        forgot.epoch = 1;
        adopt(&forgot, &held[0], NOW).apply(&mut forgot);
        let plan = crate::plan(&forgot, &crate::Dirty::All, NOW);
        assert!(plan.is_empty(), "the slots of the other node are waited for: {plan:?}");

        adopt(&forgot, &held[1], NOW).apply(&mut forgot);
        assert_eq!(forgot.instances, lived.instances);
        assert_eq!(forgot.specs, lived.specs);
        for (id, deployment) in &lived.deployments {
            assert_eq!(forgot.deployments[id].spec, deployment.spec);
        }
        run_all(&mut forgot);
        beat_all(&mut forgot, after(60));
        assert!(settle(&mut forgot, after(60)).unplaced.is_empty());
        assert_eq!(forgot.instances, lived.instances, "nothing moved");
    }

    #[test]
    fn slots_that_nobody_claims_are_filled_after_a_while() {
        let (_, held) = lived();
        let mut forgot = cluster(2);
        forgot.epoch = 1;
        adopt(&forgot, &held[0], NOW).apply(&mut forgot);
        run_all(&mut forgot);
        beat_all(&mut forgot, NOW.plus(HOLD));
        settle(&mut forgot, NOW.plus(HOLD));
        assert!(
            placed(&forgot).contains(&"d1.1 r1 a1024 on n2".to_owned()),
            "{:?}",
            placed(&forgot)
        );
    }

    #[test]
    fn an_older_database_learns_the_newer_revision() {
        let (older, _) = lived();
        let mut newer = older.clone();
        deploy(&mut newer, 2, 1, instance_spec("b2"));
        settle(&mut newer, NOW);
        let moved = newer.instances.values().find(|i| i.revision == 2).unwrap().clone();
        report(&mut newer, &moved, Phase::Running);
        settle(&mut newer, NOW);
        let held = assignment::of_node(&newer, &moved.node, Generation::default());

        let mut restored = older;
        adopt(&restored, &held, NOW).apply(&mut restored);
        assert_eq!(restored.deployments[&deployment_id(2)].revision, 2);
        assert_eq!(restored.deployments[&deployment_id(2)].spec.instance.image, "b2");
        assert!(restored.instances.contains_key(&moved.id));
        assert_eq!(restored.deployments[&deployment_id(1)].hold_until, None, "it is known");
    }

    #[test]
    fn a_name_that_lives_anew_takes_the_old_instance_over() {
        let (_, held) = lived();
        let mut forgot = cluster(2);
        deploy(&mut forgot, 7, 1, instance_spec("new"));
        let name = knit_rpc::id::DeploymentName::parse("d2").unwrap();
        forgot.deployments.get_mut(&deployment_id(7)).unwrap().spec.name = name;
        for held in &held {
            adopt(&forgot, held, NOW).apply(&mut forgot);
        }
        assert!(!forgot.deployments.contains_key(&deployment_id(2)));
        assert!(forgot.instances.values().any(|i| i.deployment == deployment_id(7)));
    }

    #[test]
    fn the_epoch_rises_above_what_an_agent_holds() {
        let at = |epoch, counter| Generation { epoch, counter };
        let mut node = Node::new(node_id(1), String::new());
        node.published = at(1, 5);
        for (applied, forgotten) in [(at(1, 5), false), (at(0, 9), false), (at(1, 6), true)] {
            assert_eq!(is_forgotten(&node, applied), forgotten, "{applied}");
        }
        for (epoch, applied, believable) in [
            (0, 0, true),
            (0, EPOCHS_AHEAD_MAX, true),
            (0, EPOCHS_AHEAD_MAX + 1, false),
            (1, EPOCHS_AHEAD_MAX + 1, true),
            (7, u64::MAX, false),
            (9, 2, true),
        ] {
            assert_eq!(is_believable(epoch, at(applied, 1)), believable, "{epoch} {applied}");
        }
        assert_eq!(epoch_above(0, at(0, 7)), 1);
        assert_eq!(epoch_above(5, at(1, 7)), 5);
    }
}
