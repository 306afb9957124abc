use knit_rpc::spec::{DeploymentSpec, SpreadKey};

use super::*;
use crate::liveness::judge;
use crate::testing::*;

/// Where slot `slot` of deployment `n` would go, and why.
fn choose(snapshot: &Snapshot, n: u8, slot: u32, preferred: Option<u8>) -> String {
    let deployment = &snapshot.deployments[&deployment_id(n)];
    let verdicts = judge(snapshot, NOW);
    let placements = Placements::of(snapshot);
    let (id, spec) = (&deployment.id, &deployment.spec);
    let mut chooser = Chooser::new(snapshot, &verdicts, &placements, id, spec);
    let preferred = preferred.map(node_id);
    let wanted = Wanted {
        deployment: id,
        slot,
        spec,
        spec_hash: &deployment.spec_hash,
        preferred: preferred.as_ref(),
        only: None,
    };
    match chooser.choose(&placements, &wanted) {
        Ok(choice) => format!("{}: {}", snapshot.nodes[&choice.node].name(), choice.because),
        Err(refused) => refused.summary,
    }
}

/// Three nodes of 4 CPUs and 4 GiB each.
fn three() -> Snapshot {
    let mut snapshot = cluster(0);
    for (n, zone) in [(1, "a"), (2, "a"), (3, "b")] {
        add_node(&mut snapshot, n, &[("zone", zone)]);
        equip(&mut snapshot, n, 4, 4096, 0);
    }
    snapshot
}

#[test]
fn each_criterion_decides_where_those_before_it_are_equal() {
    let mut snapshot = three();
    deploy(&mut snapshot, 1, 3, reserving("a", 1000, 0));
    assert_eq!(
        choose(&snapshot, 1, 0, None),
        "n1: 3 of 3 nodes fit; fewest of d1 here (0), 25 % reserved",
        "the first among equals"
    );
    deploy(&mut snapshot, 9, 1, instance_spec("other"));
    settle(&mut snapshot, NOW);
    snapshot.deployments.remove(&deployment_id(1));
    snapshot.instances.retain(|instance| instance.deployment != deployment_id(1));

    deploy(&mut snapshot, 1, 3, reserving("a", 1000, 0));
    assert!(choose(&snapshot, 1, 0, None).starts_with("n2: "), "n1 runs an instance already");

    deploy(&mut snapshot, 8, 1, reserving("heavy", 2000, 0));
    amend(&mut snapshot, 8, |spec| {
        spec.node_selector.insert("zone".to_owned(), "b".to_owned());
    });
    settle(&mut snapshot, NOW);
    snapshot.instances.retain(|instance| instance.deployment == deployment_id(8));
    assert!(choose(&snapshot, 1, 0, None).starts_with("n1: "));
    assert_eq!(
        choose(&snapshot, 8, 1, None),
        "n3: the only one of 3 nodes that fits; fewest of d8 here (1), 100 % reserved"
    );

    node_mut(&mut snapshot, 3).facts.images.insert("a".to_owned());
    assert_eq!(
        choose(&snapshot, 1, 0, None),
        "n3: 3 of 3 nodes fit; fewest of d1 here (0), has the image, 75 % reserved",
        "the image weighs more than what is reserved"
    );

    settle(&mut snapshot, NOW);
    let on: Vec<usize> = (1..=3).map(|n| snapshot.instances.count_on(&node_id(n))).collect();
    assert_eq!(on, [2, 1, 2], "siblings weigh more than the image");

    amend(&mut snapshot, 1, |spec| {
        spec.spread = vec![SpreadKey::Label("zone".to_owned())];
    });
    assert_eq!(
        choose(&snapshot, 1, 3, None),
        "n3: 3 of 3 nodes fit; fewest of d1 in zone=b (1), fewest of d1 here (1), has the image, \
         100 % reserved",
        "the zone weighs more than siblings"
    );
    assert_eq!(choose(&snapshot, 1, 3, Some(1)), "n1: its slot runs there already");
}

#[test]
fn what_a_slot_has_already_does_not_count_against_it() {
    let mut snapshot = three();
    let spec = DeploymentSpec { max_per_node: Some(1), ..named(1, instance_spec("a")) };
    deploy_spec(&mut snapshot, 1, DeploymentSpec { replicas: 3, ..spec }, NOW);
    settle(&mut snapshot, NOW);
    for n in 1..=3 {
        let row = snapshot.instances.on_node(&node_id(n)).next().unwrap().clone();
        assert!(choose(&snapshot, 1, row.slot, None).starts_with(&format!("n{n}: the only one")));
    }
    assert_eq!(choose(&snapshot, 1, 3, None), "3 nodes: has 1 of it already (max_per_node)");
}

#[test]
fn placements_are_the_snapshot_with_its_changes() {
    let mut snapshot = three();
    deploy(&mut snapshot, 1, 3, reserving("a", 1000, 0));
    settle(&mut snapshot, NOW);
    let rows: Vec<Instance> = snapshot.instances.values().cloned().collect();
    let mut placements = Placements::of(&snapshot);
    let node = rows[0].node.clone();
    let reserved = |placements: &Placements<'_>| {
        let at = placements.position(&node).unwrap();
        placements.fleet()[at].1.reserved().cpu_millis
    };
    assert_eq!(reserved(&placements), 1000);
    placements.remove(&rows[0].id);
    placements.remove(&rows[0].id);
    assert_eq!(reserved(&placements), 0);
    assert!(!placements.contains(&rows[0].id));
    assert_eq!(placements.removed(), rows[..1]);
    assert_eq!(placements.of_slot(&rows[0].deployment, rows[0].slot), []);

    let id = knit_rpc::id::InstanceId::derive(&rows[0].deployment, rows[0].slot, 2, 0);
    let newer = Instance { id, revision: 2, ..rows[0].clone() };
    placements.insert(newer.clone());
    placements.insert(newer.clone());
    assert_eq!(reserved(&placements), 1000);
    assert_eq!(placements.created(), std::slice::from_ref(&newer));
    placements.insert(rows[0].clone());
    assert_eq!(reserved(&placements), 2000);
    assert_eq!(placements.removed(), []);
    let slot = placements.of_slot(&newer.deployment, newer.slot);
    assert_eq!(slot, [rows[0].clone(), newer], "the newest last");
    assert_eq!(placements.of_deployment(&rows[0].deployment).count(), 4);
    assert_eq!(placements.on_node(&node).count(), 2);
}
