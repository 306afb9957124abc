use knit_rpc::constraint::Constraint;
use knit_rpc::spec::Protocol::{Tcp, Udp};
use knit_rpc::spec::{HostIp, NodePolicy, PortSpec, VolumeMount};

use super::*;
use crate::liveness::judge;
use crate::placement::{Chooser, Refused, Wanted};
use crate::snapshot::Volume;
use crate::testing::*;

/// What is said of one more slot of deployment `n` when no node takes it.
fn refused(snapshot: &Snapshot, n: u8, slot: u32) -> Refused {
    let deployment = &snapshot.deployments[&deployment_id(n)];
    let verdicts = judge(snapshot, NOW);
    let placements = Placements::of(snapshot);
    let mut chooser =
        Chooser::new(snapshot, &verdicts, &placements, &deployment.id, &deployment.spec);
    let wanted = Wanted {
        deployment: &deployment.id,
        slot,
        spec: &deployment.spec,
        spec_hash: &deployment.spec_hash,
        preferred: None,
        only: None,
    };
    chooser.choose(&placements, &wanted).unwrap_err()
}

fn constrain(snapshot: &mut Snapshot, n: u8, text: &str) {
    amend(snapshot, n, |spec| spec.constraint = Some(Constraint::parse(text).unwrap()));
}

#[test]
fn a_cluster_without_nodes_says_so() {
    let mut snapshot = cluster(0);
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    assert_eq!(refused(&snapshot, 1, 0).summary, "no node has joined this cluster yet");
}

#[test]
fn each_refused_node_is_named_with_all_its_reasons() {
    let mut snapshot = cluster(0);
    add_node(&mut snapshot, 1, &[]);
    add_node(&mut snapshot, 2, &[("role", "db")]);
    for n in 3..=6 {
        add_node(&mut snapshot, n, &[("role", "web")]);
    }
    node_mut(&mut snapshot, 3).facts.trouble = Some("Docker does not answer".to_owned());
    node_mut(&mut snapshot, 4).last_beat = Some(knit_rpc::Timestamp::from_millis(990_000));
    node_mut(&mut snapshot, 5).availability = Availability::Cordoned;
    node_mut(&mut snapshot, 6).availability = Availability::Draining;
    node_mut(&mut snapshot, 6).adopting = true;
    node_mut(&mut snapshot, 2).facts.arch = "arm64".to_owned();
    deploy_on(&mut snapshot, 1, 1, instance_spec("a"), &[("role", "web")]);
    constrain(&mut snapshot, 1, "arch != \"arm64\"");
    let refused = refused(&snapshot, 1, 0);
    assert_eq!(
        refused.reasons,
        [
            "node n1: label role=web is missing",
            "node n2: label role=web is missing (it is db); arch != \"arm64\" fails (it is \"arm64\")",
            "node n3: it is not ready: Docker does not answer",
            "node n4: it is stale",
            "node n5: it is cordoned",
            "node n6: it runs what this server does not know yet; taking that in; it is draining",
        ]
    );
    assert!(refused.summary.ends_with("nearest: n5, which is cordoned"), "{}", refused.summary);
}

#[test]
fn where_no_node_has_the_labels_the_selector_is_named() {
    let mut snapshot = cluster(1);
    add_node(&mut snapshot, 2, &[("role", "db")]);
    deploy_on(&mut snapshot, 1, 1, instance_spec("a"), &[("role", "web")]);
    assert_eq!(
        refused(&snapshot, 1, 0).summary,
        "no node matches the node_selector role=web: 1 node: label role=web is missing; \
         1 node: label role=web is missing (it is db)"
    );
}

#[test]
fn labels_that_people_set_go_before_what_the_agent_says() {
    let mut snapshot = cluster(0);
    add_node(&mut snapshot, 1, &[("role", "db")]);
    deploy_on(&mut snapshot, 1, 1, instance_spec("a"), &[("role", "web")]);
    constrain(&mut snapshot, 1, "!label.old");
    assert!(!may_stay(&snapshot, &node_id(1), &snapshot.deployments[&deployment_id(1)].spec));
    let changes = &mut node_mut(&mut snapshot, 1).label_changes;
    changes.insert("role".to_owned(), Some("web".to_owned()));
    settle(&mut snapshot, NOW);
    assert_eq!(snapshot.instances.len(), 1);
    node_mut(&mut snapshot, 1).label_changes.insert("old".to_owned(), Some("1".to_owned()));
    assert!(!may_stay(&snapshot, &node_id(1), &snapshot.deployments[&deployment_id(1)].spec));
}

#[test]
fn resources_are_refused_with_numbers_and_who_has_them() {
    let mut snapshot = cluster(3);
    for (n, memory) in [(1, 2048), (2, 4096), (3, 1024)] {
        equip(&mut snapshot, n, 2, memory, 0);
    }
    deploy(&mut snapshot, 1, 3, reserving("a", 500, 900));
    settle(&mut snapshot, NOW);
    deploy(&mut snapshot, 2, 1, reserving("b", 1600, 3400));
    let refused = refused(&snapshot, 2, 0);
    assert_eq!(
        refused.reasons,
        [
            "node n1: needs 1.6 CPUs, has 1.5 CPUs free of 2 CPUs: d1.1 reserves 0.5 CPUs; \
             needs 3.3 GiB of memory, has 1.1 GiB free of 2 GiB: d1.1 reserves 900 MiB",
            "node n2: needs 1.6 CPUs, has 1.5 CPUs free of 2 CPUs: d1.0 reserves 0.5 CPUs; \
             needs 3.3 GiB of memory, has 3.1 GiB free of 4 GiB: d1.0 reserves 900 MiB",
            "node n3: needs 1.6 CPUs, has 1.5 CPUs free of 2 CPUs: d1.2 reserves 0.5 CPUs; \
             needs 3.3 GiB of memory, has 124 MiB free of 1 GiB: d1.2 reserves 900 MiB",
        ]
    );
    assert_eq!(
        refused.summary,
        "3 nodes: not enough CPU; 3 nodes: not enough memory; \
         nearest: n2, which lacks 0.1 CPUs and 204 MiB of memory"
    );
}

#[test]
fn what_a_node_did_not_say_is_no_limit_unless_it_said_nothing() {
    let mut snapshot = cluster(1);
    deploy(&mut snapshot, 1, 1, reserving("a", 500, 0));
    let told = refused(&snapshot, 1, 0);
    assert_eq!(told.reasons, ["node n1: needs 0.5 CPUs, and it has not said yet what it has"]);
    equip(&mut snapshot, 1, 0, 512, 0);
    settle(&mut snapshot, NOW);
    assert_eq!(snapshot.instances.len(), 1);
}

#[test]
fn no_more_than_max_per_node() {
    let mut snapshot = cluster(2);
    deploy(&mut snapshot, 1, 5, instance_spec("a"));
    amend(&mut snapshot, 1, |spec| spec.max_per_node = Some(2));
    let plan = settle(&mut snapshot, NOW);
    assert_eq!(plan.created.len(), 4);
    let told = &plan.unplaced[&deployment_id(1)][0];
    assert_eq!(told.summary, "2 nodes: has 2 of it already (max_per_node)");
    assert_eq!(told.reasons[0], "node n1: has 2 of it already, max_per_node is 2");
}

#[test]
fn data_keeps_its_slot_where_it_is() {
    let mut snapshot = cluster(3);
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    let mount = |name: &str| VolumeMount {
        name: name.to_owned(),
        path: format!("/{name}"),
        read_only: false,
        shared: false,
    };
    amend(&mut snapshot, 1, |spec| spec.instance.volumes = vec![mount("data"), mount("more")]);
    let bind = |snapshot: &mut Snapshot, name: &str, n: u8, removing: bool| {
        let volume = Volume { node: node_id(n), created_at: NOW, removing };
        snapshot.volumes.insert(VolumeName::parse(name).unwrap(), volume);
    };
    bind(&mut snapshot, "default/data.0", 2, false);
    node_mut(&mut snapshot, 2).facts.docker = None;
    let told = refused(&snapshot, 1, 0);
    let why = "its data is on n2: it is not ready: its Docker has not answered yet";
    assert_eq!(told.summary, why);
    node_mut(&mut snapshot, 2).facts.docker = Some("27.1".to_owned());
    let spec = snapshot.deployments[&deployment_id(1)].spec.clone();
    node_mut(&mut snapshot, 2).availability = Availability::Draining;
    assert!(may_stay(&snapshot, &node_id(2), &spec), "it stays with its data");
    assert!(may_stay(&snapshot, &node_id(1), &spec));

    bind(&mut snapshot, "default/more.0", 3, false);
    let apart = "its data is apart: volume default/data.0 is on n2, volume default/more.0 on n3";
    assert_eq!(refused(&snapshot, 1, 0).summary, format!("its data is on n2: {apart}"));

    bind(&mut snapshot, "default/more.0", 2, true);
    let leaving = "volume default/more.0 is being removed from n2";
    assert_eq!(refused(&snapshot, 1, 0).summary, format!("its data is on n2: {leaving}"));

    bind(&mut snapshot, "default/more.0", 2, false);
    settle(&mut snapshot, NOW);
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n2"]);
}

#[test]
fn a_node_keeps_its_slot_of_every_node_while_it_is_away() {
    let mut snapshot = cluster(4);
    node_mut(&mut snapshot, 1).last_beat = Some(knit_rpc::Timestamp::default());
    node_mut(&mut snapshot, 2).availability = Availability::Draining;
    node_mut(&mut snapshot, 3).facts.docker = None;
    deploy(&mut snapshot, 1, 1, instance_spec("a"));
    constrain(&mut snapshot, 1, "name != \"n4\"");
    let spec = &snapshot.deployments[&deployment_id(1)].spec;
    let wanted = every_node(&snapshot, &judge(&snapshot, NOW), spec);
    let names: Vec<&str> = wanted.into_iter().map(Node::name).collect();
    assert_eq!(names, ["n1", "n3"]);
}

#[test]
fn ports_clash_by_address_port_and_protocol() {
    let mesh_ip = Some([10, 45, 0, 1].into());
    let at = |host_ip: &str, host_port: u16, protocol| PortSpec {
        host_ip: HostIp::parse(host_ip).unwrap(),
        protocol,
        ..port(host_port)
    };
    for (a, b, expected) in [
        (at("mesh", 80, Tcp), at("mesh", 80, Tcp), true),
        (at("mesh", 80, Tcp), at("mesh", 80, Udp), false),
        (at("mesh", 80, Tcp), at("mesh", 81, Tcp), false),
        (at("mesh", 80, Tcp), at("loopback", 80, Tcp), false),
        (at("mesh", 80, Tcp), at("public", 80, Tcp), true),
        (at("public", 80, Tcp), at("loopback", 80, Tcp), true),
        (at("mesh", 80, Tcp), at("10.45.0.1", 80, Tcp), true),
        (at("mesh", 80, Tcp), at("192.0.2.1", 80, Tcp), false),
        (at("iface:eth0", 80, Tcp), at("192.0.2.1", 80, Tcp), true),
        (at("iface:eth0", 80, Tcp), at("iface:eth1", 80, Tcp), false),
        (at("iface:eth0", 80, Tcp), at("mesh", 80, Tcp), false),
    ] {
        assert_eq!(ports_clash(&a, &b, mesh_ip), expected, "{a} and {b}");
        assert_eq!(ports_clash(&b, &a, mesh_ip), expected, "{b} and {a}");
    }
}

#[test]
fn an_assignment_that_no_message_carries_is_refused_with_the_numbers() {
    let mut snapshot = cluster(1);
    for n in 1..=3 {
        let mut spec = instance_spec(&format!("image{n}"));
        spec.env.insert("BLOB".to_owned(), "x".repeat(1_900_000));
        deploy(&mut snapshot, n, 1, spec);
    }
    let plan = settle(&mut snapshot, NOW);
    assert_eq!(plan.created.len(), 2);
    let told = &plan.unplaced[&deployment_id(3)][0];
    assert_eq!(told.summary, "1 node: its assignment would be too large");
    assert!(
        told.reasons[0].contains("5567 KiB of specs, at most 4096 KiB travel in one message"),
        "{told:?}"
    );
}

#[test]
fn cordoning_keeps_no_slot_from_the_only_node_that_it_may_have() {
    for (every_node, expected) in [(false, 0), (true, 1)] {
        let mut snapshot = cluster(1);
        node_mut(&mut snapshot, 1).availability = Availability::Cordoned;
        deploy(&mut snapshot, 1, 1, instance_spec("a"));
        amend(&mut snapshot, 1, |spec| {
            spec.mode = if every_node { Mode::EveryNode } else { Mode::Replicated };
        });
        settle(&mut snapshot, NOW);
        assert_eq!(snapshot.instances.len(), expected, "every_node: {every_node}");
    }
}

#[test]
fn a_nodes_own_policy_counts_and_is_named() {
    let mut snapshot = cluster(0);
    for n in 1..=3 {
        add_node(&mut snapshot, n, &[]);
    }
    let policy = NodePolicy { host_network: true, ..NodePolicy::default() };
    node_mut(&mut snapshot, 1).facts.policy = Some(policy.clone());
    node_mut(&mut snapshot, 2).facts.policy = Some(NodePolicy::default());
    let mut spec = instance_spec("a");
    spec.networks = vec!["host".to_owned()];
    spec.cap_add = vec!["NET_ADMIN".to_owned()];
    deploy(&mut snapshot, 1, 1, spec);
    let refused = refused(&snapshot, 1, 0);
    assert_eq!(
        refused.reasons,
        [
            "node n1: its policy (agent.toml) refuses capability NET_ADMIN",
            "node n2: its policy (agent.toml) refuses the host's network",
            "node n3: its agent is too old to give containers capability NET_ADMIN",
        ]
    );
    let allowed = NodePolicy { cap_add: ["NET_ADMIN".to_owned()].into(), ..policy };
    node_mut(&mut snapshot, 1).facts.policy = Some(allowed);
    let deployment = snapshot.deployments[&deployment_id(1)].clone();
    let verdicts = judge(&snapshot, NOW);
    let placements = Placements::of(&snapshot);
    let ledger = Ledger::default();
    let host = |n: u8| Host {
        node: &snapshot.nodes[&node_id(n)],
        verdict: verdicts.nodes.get(&node_id(n)),
        ledger: &ledger,
        siblings: 0,
    };
    let needs = Needs::new(&deployment.id, 0, &deployment.spec, &deployment.spec_hash);
    assert!(obstacles(&needs, &host(1), &placements).is_empty());
    assert!(!obstacles(&needs, &host(2), &placements).is_empty());
}
