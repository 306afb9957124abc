use knit_rpc::api::Availability;
use knit_rpc::message::Phase;
use knit_rpc::spec::{HostIp, Mode, PortSpec, Protocol, Wave};

use crate::plan::{Dirty, plan};
use crate::snapshot::Instance;
use crate::testing::*;

fn only(snapshot: &crate::Snapshot, slot: u32, revision: u64) -> Instance {
    let found: Vec<_> = snapshot
        .instances
        .values()
        .filter(|i| i.slot == slot && i.revision == revision)
        .cloned()
        .collect();
    assert_eq!(found.len(), 1, "{:?}", placed(snapshot));
    found[0].clone()
}

#[test]
fn replicas_are_spread_over_nodes() {
    let mut snapshot = cluster(3);
    deploy(&mut snapshot, 1, 2, instance_spec("a"));
    deploy(&mut snapshot, 2, 2, instance_spec("b"));
    settle(&mut snapshot, NOW);
    assert_eq!(
        placed(&snapshot),
        ["d1.0 r1 a0 on n1", "d1.1 r1 a0 on n2", "d2.0 r1 a0 on n3", "d2.1 r1 a0 on n1"]
    );
    assert_eq!(snapshot.nodes[&node_id(1)].generation.counter, 1);
}

#[test]
fn a_new_revision_runs_before_the_old_one_goes() {
    let mut snapshot = cluster(1);
    deploy(&mut snapshot, 1, 1, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    deploy(&mut snapshot, 1, 1, instance_spec("v2"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.0 r2 a0 on n1"]);

    let new = only(&snapshot, 0, 2);
    for phase in [Phase::Pulling, Phase::Starting, Phase::Failed] {
        report(&mut snapshot, &new, phase);
        assert!(moves_nothing(&settle(&mut snapshot, NOW)), "{phase}: the old one stays");
    }
    report(&mut snapshot, &new, Phase::Running);
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r2 a0 on n1"]);
}

#[test]
fn a_revision_that_never_ran_is_not_waited_for() {
    let mut snapshot = cluster(1);
    deploy(&mut snapshot, 1, 1, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    deploy(&mut snapshot, 1, 1, instance_spec("v2"));
    settle(&mut snapshot, NOW);
    deploy(&mut snapshot, 1, 1, instance_spec("v3"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.0 r3 a0 on n1"]);
}

#[test]
fn on_the_hosts_network_the_old_one_goes_first() {
    let mut snapshot = cluster(1);
    let spec = |image| {
        let mut spec = instance_spec(image);
        spec.networks = vec!["host".to_owned()];
        spec
    };
    deploy(&mut snapshot, 1, 1, spec("v1"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    deploy(&mut snapshot, 1, 1, spec("v2"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r2 a0 on n1"]);
}

#[test]
fn on_a_shared_loopback_port_the_old_one_goes_first() {
    let loopback = |host_port| PortSpec { host_ip: HostIp::Loopback, ..port(host_port) };
    let udp = |host_port| PortSpec { protocol: Protocol::Udp, ..loopback(host_port) };
    for (old, new, together) in [
        (loopback(80), loopback(80), false),
        (loopback(80), loopback(81), true),
        (loopback(80), udp(80), true),
        (loopback(80), port(80), true),
        (port(80), port(80), true),
    ] {
        let mut snapshot = cluster(1);
        for (image, port) in [("v1", &old), ("v2", &new)] {
            let mut spec = instance_spec(image);
            spec.ports = vec![port.clone()];
            deploy(&mut snapshot, 1, 1, spec);
            settle(&mut snapshot, NOW);
            if image == "v1" {
                run_all(&mut snapshot);
            }
        }
        let old_and_new = ["d1.0 r1 a0 on n1", "d1.0 r2 a0 on n1"];
        let expected = if together { &old_and_new[..] } else { &old_and_new[1..] };
        assert_eq!(placed(&snapshot), expected, "{old:?}, then {new:?}");
        run_all(&mut snapshot);
        settle(&mut snapshot, NOW);
        assert_eq!(placed(&snapshot), old_and_new[1..], "it ends");
    }
}

#[test]
fn what_a_revision_does_not_change_is_not_touched() {
    let mut snapshot = cluster(2);
    deploy(&mut snapshot, 1, 1, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    deploy(&mut snapshot, 1, 3, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.1 r2 a0 on n2", "d1.2 r2 a0 on n1"]);
    deploy(&mut snapshot, 1, 2, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.1 r2 a0 on n2"], "highest slots go");
}

#[test]
fn undeploying_is_absence() {
    let mut snapshot = cluster(2);
    deploy(&mut snapshot, 1, 2, instance_spec("a"));
    settle(&mut snapshot, NOW);
    let before = snapshot.nodes[&node_id(2)].generation;
    snapshot.deployments.get_mut(&deployment_id(1)).unwrap().removed_at = Some(NOW);
    settle(&mut snapshot, NOW);
    assert!(snapshot.instances.is_empty());
    assert!(snapshot.nodes[&node_id(2)].generation > before);
}

#[test]
fn a_lost_nodes_instances_move_and_are_dropped_there_once_they_run() {
    let mut snapshot = cluster(2);
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    node_mut(&mut snapshot, 2).last_beat = Some(after(20));
    node_mut(&mut snapshot, 2).facts.unheard.insert("key1".to_owned());
    settle(&mut snapshot, after(20));
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.0 r1 a1 on n2"]);

    // It is back before the replacement runs: both stay.
    beat_all(&mut snapshot, after(21));
    assert!(moves_nothing(&settle(&mut snapshot, after(21))));
    let replacement = snapshot.instances.values().find(|i| i.node == node_id(2)).cloned().unwrap();
    report(&mut snapshot, &replacement, Phase::Running);
    settle(&mut snapshot, after(21));
    assert_eq!(placed(&snapshot), ["d1.0 r1 a1 on n2"]);
}

#[test]
fn only_a_lost_node_gives_its_instances_away() {
    let mut snapshot = cluster(2);
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    node_mut(&mut snapshot, 2).last_beat = Some(after(60));
    assert!(moves_nothing(&settle(&mut snapshot, after(60))), "a peer hears it: a cut path");
    beat_all(&mut snapshot, after(60));
    node_mut(&mut snapshot, 1).facts.docker = None;
    assert!(moves_nothing(&settle(&mut snapshot, after(60))), "its Docker is down");
}

#[test]
fn a_failed_instance_is_tried_again_when_asked() {
    let mut snapshot = cluster(1);
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    settle(&mut snapshot, NOW);
    let failed = only(&snapshot, 0, 1);
    report(&mut snapshot, &failed, Phase::Failed);
    assert!(moves_nothing(&settle(&mut snapshot, NOW)), "failed is final until somebody acts");
    snapshot.instances.update(&failed.id, |instance| instance.retry = true);
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a1 on n1"]);
}

#[test]
fn labels_that_change_move_an_instance() {
    let mut snapshot = cluster(0);
    add_node(&mut snapshot, 1, &[("role", "web")]);
    add_node(&mut snapshot, 2, &[("role", "web")]);
    deploy_on(&mut snapshot, 1, 1, instance_spec("a"), &[("role", "web")]);
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    node_mut(&mut snapshot, 1).facts.labels.clear();
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.0 r1 a1 on n2"]);
    run_all(&mut snapshot);
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a1 on n2"]);
}

#[test]
fn a_freed_port_is_taken_in_the_same_plan() {
    let mut snapshot = cluster(1);
    let with_port = |image| {
        let mut spec = instance_spec(image);
        spec.ports = vec![port(80)];
        spec
    };
    deploy(&mut snapshot, 2, 1, with_port("b"));
    settle(&mut snapshot, NOW);
    deploy(&mut snapshot, 1, 1, with_port("a"));
    let plan = settle(&mut snapshot, NOW);
    let unplaced = &plan.unplaced[&deployment_id(1)][0];
    assert_eq!(unplaced.summary, "1 node: host port 80/tcp (mesh) is taken by d2.0");
    assert_eq!(unplaced.reasons, ["node n1: host port 80/tcp (mesh) is taken by d2.0"]);
    // Moving away frees the port for who comes earlier in the alphabet.
    deploy(&mut snapshot, 2, 1, instance_spec("c"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d2.0 r2 a0 on n1"]);
}

#[test]
fn slots_that_wait_for_the_same_are_told_of_once() {
    let mut snapshot = cluster(2);
    let mut spec = instance_spec("a");
    spec.ports = vec![port(80)];
    for (replicas, suffix) in
        [(3, ""), (4, " (and 1 more replica)"), (300, " (and 297 more replicas)")]
    {
        deploy(&mut snapshot, 1, replicas, spec.clone());
        let told = settle(&mut snapshot, NOW).unplaced[&deployment_id(1)].clone();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].slot, told[0].reasons.len()), (2, 2));
        assert!(told[0].summary.ends_with(&format!("is taken by d1.1{suffix}")), "{told:?}");
    }
    assert_eq!(snapshot.instances.len(), 2);
}

#[test]
fn a_node_that_is_being_taken_in_is_left_alone() {
    let mut snapshot = cluster(1);
    node_mut(&mut snapshot, 1).adopting = true;
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    let plan = plan(&snapshot, &Dirty::All, NOW);
    assert!(moves_nothing(&plan));
    assert!(plan.unplaced[&deployment_id(1)][0].summary.contains("taking that in"));
}

#[test]
fn an_epoch_begins_with_attempts_that_were_never_made() {
    let mut snapshot = cluster(1);
    snapshot.epoch = 2;
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a2048 on n1"]);
    assert_eq!(snapshot.nodes[&node_id(1)].generation.epoch, 2);
}

#[test]
fn of_those_that_wait_to_be_replaced_only_the_one_that_runs_stays() {
    let mut snapshot = cluster(1);
    deploy(&mut snapshot, 1, 1, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    deploy(&mut snapshot, 1, 1, instance_spec("v2"));
    settle(&mut snapshot, NOW);
    let second = only(&snapshot, 0, 2);
    report(&mut snapshot, &second, Phase::Failed);
    // It fits nowhere; what failed must not stay beside what runs, and take its room for ever.
    deploy_on(&mut snapshot, 1, 1, instance_spec("v3"), &[("role", "none")]);
    let plan = settle(&mut snapshot, NOW);
    assert_eq!(plan.unplaced.len(), 1);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1"]);
}

#[test]
fn three_revisions_of_a_slot_never_run_side_by_side() {
    let mut snapshot = cluster(1);
    deploy(&mut snapshot, 1, 1, instance_spec("v1"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    deploy(&mut snapshot, 1, 1, instance_spec("v2"));
    settle(&mut snapshot, NOW);
    let second = only(&snapshot, 0, 2);
    report(&mut snapshot, &second, Phase::Running);
    // It runs, but not for long enough yet to give the first one up.
    snapshot.healthy_since.insert(second.id, NOW);
    deploy(&mut snapshot, 1, 1, instance_spec("v3"));
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n1", "d1.0 r3 a0 on n1"]);
}

#[test]
fn a_slot_that_was_one_on_every_node_is_not_placed_where_it_may_not_stay() {
    let mut snapshot = cluster(2);
    let with_port = |image: &str| {
        let mut spec = instance_spec(image);
        spec.ports.push(port(8080));
        spec
    };
    let mut everywhere = named(1, with_port("v1"));
    everywhere.mode = Mode::EveryNode;
    node_mut(&mut snapshot, 2).number = 1;
    deploy_spec(&mut snapshot, 1, everywhere, NOW);
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    settle(&mut snapshot, NOW);
    let mut replicated = named(1, with_port("v2"));
    replicated.replicas = 2;
    replicated.update.wave = Wave::Slots(1);
    deploy_spec(&mut snapshot, 1, replicated, NOW);
    node_mut(&mut snapshot, 2).availability = Availability::Draining;
    // Its slot waits on the revision that ran on every node, and the other node has its port taken.
    let plan = settle(&mut snapshot, NOW);
    assert_eq!(plan.unplaced.len(), 1, "{:?}", placed(&snapshot));
    assert!(placed(&snapshot).contains(&"d1.1 r1 a0 on n2".to_owned()), "{:?}", placed(&snapshot));
    assert!(settle(&mut snapshot, NOW).is_empty());
}
