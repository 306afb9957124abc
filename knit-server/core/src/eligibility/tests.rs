use knit_rpc::spec::Protocol::{Tcp, Udp};

use super::*;
use crate::liveness::judge;
use crate::testing::*;

#[test]
fn refusals_are_summed_up_by_reason() {
    let refusal = |node: &str, reason: &str| Refusal { node: node.into(), reason: reason.into() };
    let mut snapshot = cluster(1);
    deploy_on(&mut snapshot, 1, 1, instance_spec("a"), &[("role", "web")]);
    let spec = &snapshot.deployments[&deployment_id(1)].spec;
    for (refusals, expected) in [
        (vec![], "no node has joined this cluster yet"),
        (
            vec![refusal("a", "it is lost"), refusal("b", "x"), refusal("c", "x")],
            "2 nodes: x; 1 node: it is lost",
        ),
        (
            vec![
                refusal("a", "label role=web is missing"),
                refusal("b", "label role=web is missing (it is db)"),
            ],
            "no node matches the node_selector role=web: 1 node: label role=web is missing; 1 node: label role=web is missing (it is db)",
        ),
    ] {
        assert_eq!(summary(spec, &refusals), expected);
    }
}

#[test]
fn each_refused_node_is_named_with_its_reason() {
    let mut snapshot = cluster(0);
    add_node(&mut snapshot, 1, &[]);
    add_node(&mut snapshot, 2, &[("role", "db")]);
    add_node(&mut snapshot, 3, &[("role", "web")]);
    add_node(&mut snapshot, 4, &[("role", "web")]);
    add_node(&mut snapshot, 5, &[("role", "web")]);
    node_mut(&mut snapshot, 3).facts.trouble = Some("Docker does not answer".to_owned());
    node_mut(&mut snapshot, 4).last_beat = Some(knit_rpc::Timestamp::from_millis(990_000));
    deploy_on(&mut snapshot, 1, 1, instance_spec("a"), &[("role", "web")]);
    let deployment = &snapshot.deployments[&deployment_id(1)];
    let wanted = Wanted {
        deployment: &deployment.id,
        slot: 0,
        spec: &deployment.spec,
        spec_hash: &deployment.spec_hash,
        preferred: None,
        only: None,
    };
    let placements = Placements::of(&snapshot);
    let (fit, refusals) = candidates(&snapshot, &judge(&snapshot, NOW), &placements, &wanted);
    assert_eq!(fit.iter().map(|node| node.name()).collect::<Vec<_>>(), ["n5"]);
    let told: Vec<String> = refusals.iter().map(|r| format!("{}: {}", r.node, r.reason)).collect();
    assert_eq!(
        told,
        [
            "n1: label role=web is missing",
            "n2: label role=web is missing (it is db)",
            "n3: it is not ready: Docker does not answer",
            "n4: it is stale",
        ]
    );
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
    let summary = &plan.unplaced[&deployment_id(3)][0].summary;
    assert!(summary.contains("5567 KiB of specs, at most 4096 KiB"), "{summary}");
}
