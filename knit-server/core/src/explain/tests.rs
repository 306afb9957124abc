use knit_rpc::api::Availability;
use knit_rpc::message::Phase;

use super::*;
use crate::liveness::judge;
use crate::testing::*;

fn why_of(snapshot: &Snapshot, n: u8, unplaced: &[Unplaced]) -> WhyView {
    let deployment = &snapshot.deployments[&deployment_id(n)];
    why(snapshot, &judge(snapshot, NOW), deployment, None, unplaced, after(90))
}

fn why_not_of(snapshot: &Snapshot, n: u8, node: u8) -> WhyNot {
    let deployment = &snapshot.deployments[&deployment_id(n)];
    why_not(snapshot, &judge(snapshot, NOW), deployment, &node_id(node))
}

#[test]
fn why_tells_what_decided_and_what_is_wrong_with_the_others() {
    let mut snapshot = cluster(4);
    for n in 1..=3 {
        equip(&mut snapshot, n, 4, 4096, 0);
    }
    equip(&mut snapshot, 4, 4, 64, 0);
    node_mut(&mut snapshot, 2).facts.images.insert("a".to_owned());
    node_mut(&mut snapshot, 3).availability = Availability::Cordoned;
    deploy(&mut snapshot, 1, 1, reserving("a", 500, 512));
    settle(&mut snapshot, NOW);
    let row = snapshot.instances.values().next().unwrap().clone();
    report(&mut snapshot, &row, Phase::Running);
    let mut status = snapshot.observed[&row.node][&row.id].clone();
    status.started_at = Some(NOW);
    snapshot.observed.put(&row.node, status);
    let told = why_of(&snapshot, 1, &[]);
    assert_eq!(told.slots.len(), 1);
    assert_eq!(told.slots[0].node.as_deref(), Some("n2"));
    assert_eq!(
        told.slots[0].because,
        [
            "2 of 4 nodes fit; fewest of d1 here (0), has the image, 12 % reserved",
            "its container started 1 min ago"
        ]
    );
    let others: Vec<String> = told.slots[0]
        .others
        .iter()
        .map(|o| format!("{}: {:?} {:?}", o.node, o.reasons, o.nearest.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(
        others,
        [
            "n1: [] \"it fits (has of d1 here (0), 12 % reserved); n2 has the image\"",
            "n3: [\"it is cordoned\"] \"\"",
            "n4: [\"needs 512 MiB of memory, has 64 MiB free of 64 MiB\"] \"\"",
        ]
    );
}

#[test]
fn why_tells_what_a_slot_waits_for() {
    let mut snapshot = cluster(1);
    deploy_on(&mut snapshot, 1, 2, instance_spec("a"), &[("role", "web")]);
    let unplaced = settle(&mut snapshot, NOW).unplaced[&deployment_id(1)].clone();
    let told = why_of(&snapshot, 1, &unplaced);
    for slot in told.slots {
        assert_eq!(slot.node, None);
        assert!(slot.because[0].starts_with("waits: no node matches"), "{:?}", slot.because);
        assert_eq!(slot.others[0].reasons, ["label role=web is missing"]);
    }
}

#[test]
fn why_not_tells_everything_and_what_would_have_to_change() {
    let mut snapshot = cluster(2);
    equip(&mut snapshot, 1, 4, 256, 0);
    equip(&mut snapshot, 2, 4, 4096, 0);
    node_mut(&mut snapshot, 1).availability = Availability::Cordoned;
    let labels = &mut node_mut(&mut snapshot, 2).facts.labels;
    labels.insert("role".to_owned(), "web".to_owned());
    deploy_on(&mut snapshot, 1, 1, reserving("a", 0, 512), &[("role", "web")]);
    settle(&mut snapshot, NOW);
    let told = why_not_of(&snapshot, 1, 1);
    assert_eq!(
        told.reasons,
        [
            "label role=web is missing",
            "it is cordoned",
            "needs 512 MiB of memory, has 256 MiB free of 256 MiB"
        ]
    );
    assert_eq!(
        told.nearest.as_deref(),
        Some(
            "label it: `knit node label n1 role=web`; let it work again: `knit node uncordon n1`; \
             256 MiB of memory must become free"
        )
    );
    let there = why_not_of(&snapshot, 1, 2);
    assert_eq!(there.reasons, [""; 0]);
    assert_eq!(there.nearest.as_deref(), Some("it runs d1.0; it would be the next one's node"));
    assert_eq!(why_not_of(&snapshot, 1, 9).reasons, ["it is no node of this cluster"]);
}
