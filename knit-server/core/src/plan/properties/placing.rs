//! What holds for every place that is given.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use knit_rpc::spec::{DeploymentSpec, Mode, SpreadKey};
use proptest::prelude::*;

use super::clusters::{clusters, wishes};
use crate::eligibility::{self, ports_clash};
use crate::ledger;
use crate::liveness::judge;
use crate::placement::{Chooser, Placements, Wanted};
use crate::plan::{Dirty, plan};
use crate::snapshot::{Deployment, Instance, Snapshot};
use crate::testing::*;

/// The spec that an instance was made for.
fn spec_at<'a>(snapshot: &'a Snapshot, instance: &Instance) -> &'a DeploymentSpec {
    let deployment = &snapshot.deployments[&instance.deployment];
    deployment.revisions.get(&instance.revision).map_or(&deployment.spec, |known| &known.spec)
}

fn wanted(deployment: &Deployment, slot: u32) -> Wanted<'_> {
    Wanted {
        deployment: &deployment.id,
        slot,
        spec: &deployment.spec,
        spec_hash: &deployment.spec_hash,
        preferred: None,
        only: None,
    }
}

proptest! {
    #[test]
    fn no_host_port_is_given_twice_on_a_node(mut snapshot in clusters()) {
        settle(&mut snapshot, NOW);
        for node in snapshot.nodes.values() {
            let instances: Vec<_> = snapshot.instances.on_node(&node.id).collect();
            for a in &instances {
                for b in &instances {
                    let one_slot = a.deployment == b.deployment && a.slot == b.slot;
                    let clash = snapshot.specs[&a.spec].ports.iter().any(|p| {
                        let taken = &snapshot.specs[&b.spec].ports;
                        taken.iter().any(|q| ports_clash(p, q, node.mesh_ip()))
                    });
                    prop_assert!(one_slot || !clash, "{a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn only_nodes_that_may_are_given_work(snapshot in clusters()) {
        let verdicts = judge(&snapshot, NOW);
        for instance in plan(&snapshot, &Dirty::All, NOW).created {
            let spec = spec_at(&snapshot, &instance);
            let node = &snapshot.nodes[&instance.node];
            let mut against = Vec::new();
            let _ = eligibility::fixed(spec, node, verdicts.nodes.get(&node.id), &mut |one| {
                // Where its data is, and one on every node, it may be all the same.
                let is_tied = spec.mode == Mode::EveryNode || !spec.instance.volumes.is_empty();
                if !(is_tied && one.is_availability()) {
                    against.push(format!("{one:?}"));
                }
                ControlFlow::Continue(())
            });
            prop_assert!(against.is_empty(), "{instance:?}: {against:?}");
        }
    }

    #[test]
    fn no_node_is_promised_more_than_it_has(mut snapshot in clusters()) {
        settle(&mut snapshot, NOW);
        for node in snapshot.nodes.values() {
            let rows = snapshot.instances.on_node(&node.id);
            let memory: u64 =
                rows.map(|row| ledger::asked(&snapshot.specs[&row.spec].resources).memory).sum();
            prop_assert!(memory <= node.facts.memory, "{}: {memory}", node.name());
            prop_assert_eq!(memory, snapshot.ledger(&node.id).reserved().memory);
        }
    }

    #[test]
    fn max_per_node_is_kept_by_what_is_placed(mut snapshot in clusters()) {
        for instance in settle(&mut snapshot, NOW).created {
            let rows = snapshot.instances.on_node(&instance.node);
            let slots: BTreeSet<u32> = rows
                .filter(|row| row.deployment == instance.deployment)
                .map(|row| row.slot)
                .collect();
            let max = spec_at(&snapshot, &instance).max_per_node.unwrap_or(u32::MAX);
            prop_assert!(slots.len() <= max as usize, "{instance:?} beside {slots:?}");
        }
    }

    #[test]
    fn a_slot_is_placed_where_its_data_is(mut snapshot in clusters()) {
        for instance in settle(&mut snapshot, NOW).created {
            for volume in eligibility::volumes(spec_at(&snapshot, &instance), instance.slot) {
                prop_assert_eq!(&snapshot.volumes[&volume].node, &instance.node);
            }
        }
    }

    #[test]
    fn where_nothing_else_constrains_slots_are_spread_evenly(
        zones in proptest::collection::vec(0..3u8, 1..8),
        replicas in 0..20u32,
    ) {
        let mut snapshot = cluster(0);
        for (n, zone) in (1u8..).zip(&zones) {
            add_node(&mut snapshot, n, &[("zone", &format!("z{zone}"))]);
        }
        let spread = vec![SpreadKey::Label("zone".to_owned())];
        let spec = DeploymentSpec { replicas, spread, ..named(1, instance_spec("a")) };
        deploy_spec(&mut snapshot, 1, spec, NOW);
        settle(&mut snapshot, NOW);
        prop_assert_eq!(snapshot.instances.len(), replicas as usize);
        let mut by_zone: BTreeMap<u8, usize> = zones.iter().map(|zone| (*zone, 0)).collect();
        let mut by_node: BTreeMap<(u8, usize), usize> = BTreeMap::new();
        for (n, zone) in zones.iter().enumerate() {
            let count = snapshot.instances.count_on(&node_id(u8::try_from(n).unwrap() + 1));
            *by_zone.get_mut(zone).unwrap() += count;
            by_node.insert((*zone, n), count);
        }
        let differ = |counts: Vec<usize>| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        prop_assert!(differ(by_zone.values().copied().collect()) <= 1, "{by_zone:?}");
        for zone in by_zone.keys() {
            let of_zone = by_node.iter().filter(|((of, _), _)| of == zone);
            prop_assert!(differ(of_zone.map(|(_, count)| *count).collect()) <= 1, "{by_node:?}");
        }
    }

    #[test]
    fn a_chooser_that_has_seen_much_chooses_as_a_new_one(
        snapshot in clusters(),
        change in wishes(3),
        steps in proptest::collection::vec((0..3u8, 0..12u32, any::<prop::sample::Index>()), 1..20),
    ) {
        let mut snapshot = snapshot;
        for one in &change {
            super::wish(&mut snapshot, one);
        }
        let verdicts = judge(&snapshot, NOW);
        let replicated = |one: &&Deployment| one.spec.mode == Mode::Replicated;
        for deployment in snapshot.deployments.values().filter(replicated) {
            let (id, spec) = (&deployment.id, &deployment.spec);
            let mut placements = Placements::of(&snapshot);
            let mut seasoned = Chooser::new(&snapshot, &verdicts, &placements, id, spec);
            for (what, slot, index) in &steps {
                let known: Vec<_> = snapshot.instances.keys().cloned().collect();
                if *what == 0 && !known.is_empty() {
                    placements.remove(index.get(known.as_slice()));
                }
                let mut fresh = Chooser::new(&snapshot, &verdicts, &placements, id, spec);
                let wanted = wanted(deployment, *slot);
                let chosen = seasoned.choose(&placements, &wanted);
                prop_assert_eq!(&chosen, &fresh.choose(&placements, &wanted));
                let judged = fresh.judge(&placements, &wanted);
                let fit = judged.iter().filter_map(|(node, judged)| {
                    Some((judged.as_ref().ok()?.clone(), node.id.clone()))
                });
                let best = fit.min().map(|(_, id)| id);
                prop_assert_eq!(chosen.as_ref().ok().map(|choice| choice.node.clone()), best);
                let Ok(choice) = chosen else { continue };
                for volume in choice.volumes {
                    placements.bind(volume, choice.node.clone());
                }
                let attempt = u32::try_from(placements.created().len()).unwrap() + 100;
                placements.insert(Instance {
                    id: knit_rpc::id::InstanceId::derive(id, *slot, 99, attempt),
                    deployment: id.clone(),
                    slot: *slot,
                    revision: 99,
                    attempt,
                    node: choice.node,
                    spec: deployment.spec_hash.clone(),
                    retry: false,
                    because: choice.because,
                    secrets: BTreeMap::new(),
                });
            }
        }
    }
}
