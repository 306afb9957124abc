//! What holds for every cluster.

mod clusters;
mod lives;
mod placing;

use knit_rpc::message::Phase;
use knit_rpc::spec::Mode;
use proptest::prelude::*;

use self::clusters::{clusters, wish, wishes};
use crate::eligibility;
use crate::plan::{Dirty, plan};
use crate::rollout;
use crate::testing::*;

proptest! {
    #[test]
    fn planning_an_applied_plan_changes_nothing(mut snapshot in clusters()) {
        let first = settle(&mut snapshot, NOW);
        let second = plan(&snapshot, &Dirty::All, NOW);
        prop_assert!(second.is_empty(), "{second:?}");
        prop_assert_eq!(first.unplaced, second.unplaced);
    }

    #[test]
    fn planning_is_a_function_of_its_arguments(snapshot in clusters()) {
        // Rebuilt from the back to the front.
        let mut rebuilt = snapshot.clone();
        rebuilt.nodes = snapshot.nodes.clone().into_iter().rev().collect();
        rebuilt.deployments = snapshot.deployments.clone().into_iter().rev().collect();
        rebuilt.instances = snapshot.instances.clone().into_iter().rev().collect();
        prop_assert_eq!(plan(&snapshot, &Dirty::All, NOW), plan(&rebuilt, &Dirty::All, NOW));
    }

    #[test]
    fn adding_a_node_never_moves_a_healthy_instance(mut snapshot in clusters()) {
        settle(&mut snapshot, NOW);
        run_all(&mut snapshot);
        settle(&mut snapshot, NOW);
        let before = snapshot.instances.clone();
        add_node(&mut snapshot, 77, &[("role", "web"), ("zone", "z0")]);
        equip(&mut snapshot, 77, 8, 8192, 0);
        settle(&mut snapshot, NOW);
        for (id, instance) in before {
            // What waits on a lost node is not healthy, and may get its replacement now; so may
            // what has to leave its node.
            let node = &snapshot.nodes[&instance.node];
            let deployment = &snapshot.deployments[&instance.deployment];
            let target = rollout::target(deployment, instance.slot);
            let leaves = node.last_beat != Some(NOW)
                || instance.spec != *target.spec_hash
                || !eligibility::may_stay(&snapshot, &instance.node, target.spec);
            prop_assert!(leaves || snapshot.instances.contains_key(&id), "{instance:?}");
        }
    }

    #[test]
    fn what_runs_is_only_given_up_for_what_runs(mut snapshot in clusters()) {
        let plan = settle(&mut snapshot.clone(), NOW);
        for id in &plan.removed {
            let given_up = snapshot.instances[id].clone();
            let deployment = &snapshot.deployments[&given_up.deployment];
            let spec = &deployment.spec;
            let wanted = deployment.removed_at.is_none()
                && spec.mode == Mode::Replicated
                && given_up.slot < spec.replicas
                && rollout::stop_first(spec).is_none();
            let ran = snapshot.phase_of(&given_up) == Phase::Running;
            let replaced = snapshot.instances.values().any(|other| {
                other.deployment == given_up.deployment
                    && other.slot == given_up.slot
                    && other.id != given_up.id
                    && snapshot.phase_of(other) == Phase::Running
            });
            prop_assert!(!wanted || !ran || replaced, "{given_up:?}");
        }
        settle(&mut snapshot, NOW);
    }

    #[test]
    fn looking_at_what_is_dirty_equals_looking_at_everything(
        mut snapshot in clusters(),
        change in wishes(3),
    ) {
        // To its rest first; then a few deployments change.
        let mut dirty = settle(&mut snapshot, NOW).unsettled;
        for one in change {
            dirty.insert(deployment_id(one.n));
            wish(&mut snapshot, &one);
        }
        let full = plan(&snapshot, &Dirty::All, NOW);
        let partial = plan(&snapshot, &Dirty::Deployments(dirty), NOW);
        prop_assert_eq!(full, partial);
    }

    #[test]
    fn mode_every_node_has_one_on_each_node_that_may_run_it(mut snapshot in clusters()) {
        let plan = settle(&mut snapshot, NOW);
        let verdicts = crate::liveness::judge(&snapshot, NOW);
        for deployment in snapshot.deployments.values() {
            let spec = &deployment.spec;
            if spec.mode != Mode::EveryNode || deployment.removed_at.is_some() {
                continue;
            }
            let wanted = eligibility::every_node(&snapshot, &verdicts, spec);
            for node in wanted {
                let is_told = plan.unplaced.contains_key(&deployment.id)
                    || verdicts.is_gone(&node.id);
                // Others of it may be here while a deployment becomes one on every node.
                let has = snapshot
                    .instances
                    .of_slot(&deployment.id, node.number)
                    .filter(|row| row.node == node.id && row.spec == deployment.spec_hash)
                    .count();
                prop_assert!(has <= 1 && (has == 1 || is_told), "{} has {has}", node.name());
            }
        }
    }
}
