//! What holds through a cluster's life: people change what they want, nodes report, time passes.

use std::collections::BTreeSet;

use knit_rpc::Timestamp;
use knit_rpc::id::DeploymentId;
use knit_rpc::message::Phase;
use knit_rpc::spec::{Mode, Order, Span, Strategy as Kind, UpdateSpec, Wave};
use proptest::prelude::*;
use proptest::sample::Index;

use super::clusters::{Wish, clusters, wish, wishes};
use crate::liveness::judge;
use crate::plan::{Dirty, Plan, plan};
use crate::rollout;
use crate::snapshot::{Instance, Snapshot};
use crate::testing::*;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Want(Wish, u8),
    Remove(Index),
    Report(Index, u8),
    /// Every node reports that all runs.
    AllRun,
    /// Milliseconds.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let want = (wishes(2), 0..6u8)
        .prop_filter_map("no wish", |(mut wishes, update)| Some(Step::Want(wishes.pop()?, update)));
    let one = prop_oneof![
        2 => want,
        1 => any::<Index>().prop_map(Step::Remove),
        3 => (any::<Index>(), 0..6u8).prop_map(|(which, phase)| Step::Report(which, phase)),
        3 => Just(Step::AllRun),
        3 => (100..8_000u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(one, 1..25)
}

/// Takes the step; returns the deployments that have to be looked at.
fn take(snapshot: &mut Snapshot, step: &Step, now: &mut Timestamp) -> BTreeSet<DeploymentId> {
    match step {
        Step::Want(one, update) => {
            wish(snapshot, one);
            let strategy =
                [Kind::Rolling, Kind::Rolling, Kind::Rolling, Kind::Recreate, Kind::Canary]
                    .get(usize::from(*update))
                    .copied()
                    .unwrap_or(Kind::BlueGreen);
            let order = if *update == 1 { Order::StopFirst } else { Order::Auto };
            let wave = Wave::Percent(25);
            let bake = Span::from_secs(3);
            let mut spec = snapshot.deployments[&deployment_id(one.n)].spec.clone();
            spec.update = UpdateSpec { strategy, order, wave, bake, ..spec.update };
            deploy_spec(snapshot, one.n, spec, *now);
            BTreeSet::from([deployment_id(one.n)])
        }
        Step::Remove(which) => {
            let ids: Vec<DeploymentId> = snapshot.deployments.keys().cloned().collect();
            let Some(id) = (!ids.is_empty()).then(|| which.get(&ids)) else {
                return BTreeSet::new();
            };
            snapshot.deployments.get_mut(id).unwrap().removed_at = Some(*now);
            BTreeSet::from([id.clone()])
        }
        Step::Report(which, phase) => {
            let rows: Vec<_> = snapshot.instances.values().cloned().collect();
            let Some(row) = (!rows.is_empty()).then(|| which.get(&rows)) else {
                return BTreeSet::new();
            };
            let phase = [
                Phase::Running,
                Phase::Running,
                Phase::Failed,
                Phase::Pulling,
                Phase::CrashLoop,
                Phase::Unready,
            ][usize::from(*phase)];
            report(snapshot, row, phase);
            BTreeSet::from([row.deployment.clone()])
        }
        Step::AllRun => {
            run_all(snapshot);
            snapshot.deployments.keys().cloned().collect()
        }
        Step::Pass(millis) => {
            *now = now.plus(std::time::Duration::from_millis(*millis));
            for node in snapshot.nodes.values_mut().filter(|node| node.last_beat >= Some(NOW)) {
                node.last_beat = Some(*now);
            }
            BTreeSet::new()
        }
    }
}

/// An instance that ran, and that was given up although its slot has none that runs.
fn given_up_for_nothing(
    before: &Snapshot,
    after: &Snapshot,
    plan: &Plan,
    now: Timestamp,
) -> Option<Instance> {
    let verdicts = judge(before, now);
    let runs =
        |row: &Instance| before.phase_of(row) == Phase::Running && !verdicts.is_gone(&row.node);
    let rows = plan.removed.iter().map(|id| &before.instances[id]);
    let mut missed = rows.filter(|row| runs(row)).filter(|row| {
        let deployment = &after.deployments[&row.deployment];
        let target = rollout::target(deployment, row.slot);
        let wanted = deployment.removed_at.is_none()
            // A change of mode numbers the slots anew: those that are no more go.
            && deployment.spec.mode == Mode::Replicated
            && deployment.revisions.values().all(|known| known.spec.mode == Mode::Replicated)
            && row.slot < deployment.spec.replicas
            && rollout::stop_first(target.spec).is_none();
        wanted && !after.instances.of_slot(&row.deployment, row.slot).any(&runs)
    });
    missed.next().cloned()
}

proptest! {
    #[test]
    fn a_life_of_small_plans_is_one_of_whole_plans(
        mut snapshot in clusters(),
        steps in steps(),
    ) {
        let mut now = NOW;
        let mut unsettled = settle(&mut snapshot, now).unsettled;
        for step in steps {
            unsettled.extend(take(&mut snapshot, &step, &mut now));
            let full = plan(&snapshot, &Dirty::All, now);
            let partial = plan(&snapshot, &Dirty::Deployments(unsettled), now);
            prop_assert_eq!(&full, &partial, "after {:?}", step);
            let before = snapshot.clone();
            full.apply(&mut snapshot);
            if let Some(given_up) = given_up_for_nothing(&before, &snapshot, &full, now) {
                let slot = |snapshot: &Snapshot| -> Vec<String> {
                    snapshot
                        .instances
                        .of_slot(&given_up.deployment, given_up.slot)
                        .map(|i| {
                            let (id, phase) = (&i.id, before.phase_of(i));
                            format!("{id} r{} on {}: {phase}", i.revision, i.node)
                        })
                        .collect()
                };
                let (was, is) = (slot(&before), slot(&snapshot));
                prop_assert!(false, "after {step:?}: {was:?} became {is:?}");
            }
            let again = plan(&snapshot, &Dirty::All, now);
            prop_assert!(again.is_empty(), "after {step:?}: {again:?}");
            unsettled = full.unsettled;
        }
    }
}
