//! What a change would lead to, without doing it; and what earlier ones did.

use std::collections::{BTreeMap, BTreeSet};

use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, PlanView, RevisionView, RolloutState, SlotAction, SlotPlan};
use knit_rpc::id::{DeploymentId, NodeId};
use knit_rpc::spec::diff;
use knit_rpc::spec::{DeploymentSpec, HostIp, Mode, Order};

use crate::liveness::Verdicts;
use crate::plan::{Dirty, plan_with};
use crate::revise;
use crate::rollout;
use crate::snapshot::{Deployment, Instance, Snapshot};

/// Networks that Docker brings along.
const DOCKERS_OWN: [&str; 4] = ["host", "none", "bridge", "knit"];

/// What would happen if `spec` were submitted: nothing does. `id` is the deployment's if its name
/// is new.
pub fn submit(
    snapshot: &Snapshot,
    verdicts: &Verdicts,
    spec: &DeploymentSpec,
    id: DeploymentId,
    now: Timestamp,
) -> PlanView {
    let known = snapshot.named(&spec.project, &spec.name);
    let mut wanted = match known {
        Some(known) if known.spec == *spec => known.clone(),
        Some(known) => revise::next(known, spec.clone(), Cause::Deploy, now),
        None => revise::first(id, spec.clone(), now),
    };
    if let Some(rollout) = &mut wanted.rollout {
        rollout.admitted = u32::MAX;
    }
    let id = wanted.id.clone();
    let mut after = snapshot.clone();
    after.specs.insert(wanted.spec_hash.clone(), spec.instance.clone());
    after.deployments.insert(id.clone(), wanted.clone());
    let plan = plan_with(&after, verdicts, &Dirty::Deployments(BTreeSet::from([id.clone()])), now);
    plan.apply(&mut after);
    let of = |instance: &&Instance| instance.deployment == id;
    let before: Vec<&Instance> = snapshot.instances.values().filter(of).collect();
    let changed = known.map(|known| diff::changed(&known.spec, spec)).unwrap_or_default();
    PlanView {
        project: spec.project.clone(),
        name: spec.name.clone(),
        revision: wanted.revision,
        recreates: known.map(|known| diff::recreates(&known.spec, spec)).unwrap_or_default(),
        changed,
        slots: slots(snapshot, &before, &after, &wanted),
        unplaced: plan.unplaced.get(&id).cloned().unwrap_or_default(),
        notes: notes(snapshot, spec),
    }
}

fn slots(
    snapshot: &Snapshot,
    before: &[&Instance],
    after: &Snapshot,
    wanted: &Deployment,
) -> Vec<SlotPlan> {
    let name = |node: &NodeId| {
        let known = snapshot.nodes.get(node);
        known.map_or_else(|| node.to_string(), |node| node.name().to_owned())
    };
    let old: BTreeMap<u32, &Instance> = before.iter().map(|one| (one.slot, *one)).collect();
    let new: BTreeMap<u32, &Instance> = after
        .instances
        .of_deployment(&wanted.id)
        .filter(|one| one.spec == wanted.spec_hash && one.revision >= wanted.restart_floor)
        .map(|one| (one.slot, one))
        .collect();
    let slots: BTreeSet<u32> = match wanted.spec.mode {
        Mode::Replicated => (0..wanted.spec.replicas).chain(old.keys().copied()).collect(),
        Mode::EveryNode => new.keys().chain(old.keys()).copied().collect(),
    };
    let plan = |slot: u32| {
        let (from, to) = (old.get(&slot), new.get(&slot));
        let is_wanted = match wanted.spec.mode {
            Mode::Replicated => slot < wanted.spec.replicas,
            Mode::EveryNode => to.is_some(),
        };
        let action = match (from, to) {
            (Some(from), Some(to)) if from.id == to.id => SlotAction::Keep,
            (Some(_), _) if is_wanted => SlotAction::Replace,
            (Some(_), _) => SlotAction::Remove,
            (None, _) => SlotAction::Create,
        };
        SlotPlan {
            slot,
            action,
            from: from.map(|one| name(&one.node)),
            to: to.map(|one| name(&one.node)),
            because: to.map(|one| one.because.clone()).filter(|text| !text.is_empty()),
        }
    };
    slots.into_iter().map(plan).collect()
}

/// What differs from what the manifest may lead one to expect, and what should be known of it.
pub fn notes(snapshot: &Snapshot, spec: &DeploymentSpec) -> Vec<String> {
    let mut notes = Vec::new();
    if spec.update.order == Order::Auto
        && let Some(why) = rollout::stop_first_on_node(spec)
    {
        notes.push(format!("updates stop the old instance before they start the new one: {why}"));
    }
    for port in spec.instance.ports.iter().filter(|port| port.host_ip == HostIp::Public) {
        notes.push(format!(
            "port {}/{} is published on every address of its host: the whole world may reach it",
            port.host_port, port.protocol
        ));
    }
    let privileges: Vec<String> = spec.instance.privileges().map(|one| one.to_string()).collect();
    if !privileges.is_empty() {
        notes.push(format!(
            "it reaches into its host ({}): that takes operator, and nodes whose policy allows it",
            privileges.join(", ")
        ));
    }
    for name in &spec.instance.networks {
        let is_managed = snapshot.networks.contains_key(&(spec.project.clone(), name.clone()));
        if !is_managed && !DOCKERS_OWN.contains(&name.as_str()) {
            notes.push(format!(
                "network {name} is not one of Knit's: each node has to have a Docker network of \
                 that name (`knit network create {name}` makes one wherever it is needed)"
            ));
        }
    }
    notes
}

/// The remembered revisions of a deployment, the newest first.
pub fn history(deployment: &Deployment) -> Vec<RevisionView> {
    let mut views: Vec<RevisionView> = Vec::new();
    let mut before: Option<&DeploymentSpec> = None;
    for (number, revision) in &deployment.revisions {
        let is_paused = deployment.revision == *number
            && deployment.rollout.as_ref().is_some_and(|rollout| rollout.paused);
        views.push(RevisionView {
            revision: *number,
            cause: revision.cause.clone(),
            state: if is_paused { RolloutState::Paused } else { revision.state },
            message: revision.message.clone(),
            log: revision.log.clone(),
            image: revision.spec.instance.image.clone(),
            replicas: revision.spec.replicas,
            stable: deployment.stable == Some(*number),
            changed: before.map(|old| diff::changed(old, &revision.spec)).unwrap_or_default(),
            spec: revision.spec.clone(),
            created_at: revision.created_at,
            ended_at: revision.ended_at,
        });
        before = Some(&revision.spec);
    }
    views.reverse();
    views
}
