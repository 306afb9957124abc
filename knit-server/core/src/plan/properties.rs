//! What holds for every cluster.

use std::collections::BTreeMap;

use knit_rpc::message::Phase;
use proptest::prelude::*;

use crate::eligibility::ports_clash;
use crate::plan::{Dirty, plan};
use crate::snapshot::Snapshot;
use crate::testing::*;

/// How a deployment is wanted: replicas, image, port, role.
type Wish = (u8, u32, u8, Option<u16>, Option<bool>);

fn wish(snapshot: &mut Snapshot, (n, replicas, image, host_port, web): Wish) {
    let mut spec = instance_spec(&format!("image{image}"));
    spec.ports = host_port.into_iter().map(port).collect();
    let role = web.map(|web| ("role", if web { "web" } else { "db" }));
    deploy_on(snapshot, n, replicas, spec, role.as_slice());
}

fn wishes(max: usize) -> impl Strategy<Value = Vec<Wish>> {
    let port = proptest::option::of(8000..8003u16);
    let one = (0..6u8, 0..5u32, 0..3u8, port, proptest::option::of(any::<bool>()));
    proptest::collection::vec(one, 0..max)
}

/// A cluster in the middle of its life: deployed, partly running, deployed again, a node or two
/// in trouble.
fn clusters() -> impl Strategy<Value = Snapshot> {
    let phases = proptest::collection::vec(0..4u8, 40);
    let nodes = proptest::collection::vec((any::<bool>(), 0..8u8), 1..6);
    (nodes, wishes(6), phases, wishes(3), any::<bool>()).prop_map(
        |(nodes, first, phases, second, remove)| {
            let mut snapshot = cluster(0);
            for (n, (web, _)) in (1u8..).zip(&nodes) {
                add_node(&mut snapshot, n, &[("role", if *web { "web" } else { "db" })]);
            }
            for one in first {
                wish(&mut snapshot, one);
            }
            settle(&mut snapshot, NOW);
            let instances = snapshot.instances.clone();
            for (instance, phase) in instances.values().zip(phases) {
                let phase = [Phase::Running, Phase::Running, Phase::Failed, Phase::Pulling]
                    [usize::from(phase)];
                report(&mut snapshot, instance, phase);
            }
            for one in second {
                wish(&mut snapshot, one);
            }
            if remove && let Some(deployment) = snapshot.deployments.values_mut().next() {
                deployment.removed_at = Some(NOW);
            }
            for (n, (_, trouble)) in (1u8..).zip(nodes) {
                match trouble {
                    0 => node_mut(&mut snapshot, n).facts.docker = None,
                    1 => {
                        node_mut(&mut snapshot, n).last_beat = Some(knit_rpc::Timestamp::default());
                    }
                    _ => {}
                }
            }
            snapshot
        },
    )
}

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
        add_node(&mut snapshot, 77, &[("role", "web")]);
        settle(&mut snapshot, NOW);
        for (id, instance) in before {
            // What waits on a lost node is not healthy, and may get its replacement now.
            let lost = snapshot.nodes[&instance.node].last_beat != Some(NOW);
            prop_assert!(lost || snapshot.instances.contains_key(&id), "{instance:?}");
        }
    }

    #[test]
    fn no_host_port_is_given_twice_on_a_node(mut snapshot in clusters()) {
        settle(&mut snapshot, NOW);
        let mut by_node: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for instance in snapshot.instances.values() {
            by_node.entry(&instance.node).or_default().push(instance);
        }
        for (node, instances) in by_node {
            let mesh_ip = snapshot.nodes[node].mesh_ip();
            for a in &instances {
                for b in &instances {
                    let one_slot = a.deployment == b.deployment && a.slot == b.slot;
                    let clash = snapshot.specs[&a.spec].ports.iter().any(|p| {
                        snapshot.specs[&b.spec].ports.iter().any(|q| ports_clash(p, q, mesh_ip))
                    });
                    prop_assert!(one_slot || !clash, "{a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn selectors_are_always_honoured(snapshot in clusters()) {
        for instance in plan(&snapshot, &Dirty::All, NOW).created {
            let selector = &snapshot.deployments[&instance.deployment].spec.node_selector;
            let labels = &snapshot.nodes[&instance.node].facts.labels;
            for (key, value) in selector {
                prop_assert_eq!(labels.get(key), Some(value));
            }
        }
    }

    #[test]
    fn what_runs_is_only_given_up_for_what_runs(mut snapshot in clusters()) {
        let plan = settle(&mut snapshot.clone(), NOW);
        for id in &plan.removed {
            let given_up = snapshot.instances[id].clone();
            let deployment = &snapshot.deployments[&given_up.deployment];
            let wanted = deployment.removed_at.is_none()
                && given_up.slot < deployment.spec.replicas;
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
            dirty.insert(deployment_id(one.0));
            wish(&mut snapshot, one);
        }
        let full = plan(&snapshot, &Dirty::All, NOW);
        let partial = plan(&snapshot, &Dirty::Deployments(dirty), NOW);
        prop_assert_eq!(full, partial);
    }
}
