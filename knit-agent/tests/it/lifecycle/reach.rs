//! The server asks whether other nodes answer over the mesh.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use knit_agent::firewall::Firewall as _;
use knit_agent::firewall::nftables::Nftables;
use knit_agent::loops::reach;
use knit_agent_core::nft::Rules;
use knit_link::bus::Bus as _;
use knit_rpc::id::NodeId;
use knit_rpc::message::{ProbeRequest, ReportIn};
use knit_rpc::subject;

use super::World;
use crate::support::namespace::{Neighbour, in_namespace};
use crate::support::until;

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

async fn ask(world: &World, by: &NodeId, about: &NodeId) {
    let probe = ProbeRequest {
        by: [by.clone()].into(),
        targets: [(about.clone(), Ipv4Addr::LOCALHOST)].into(),
    };
    let cluster = world.server.cluster.clone();
    let asked = ReportIn { cluster, held: false, probe: Some(probe) };
    let asked = serde_json::to_vec(&asked).unwrap();
    world.server.bus.publish(subject::BROADCAST, asked).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_asked_says_it_at_once_and_once_and_the_others_take_no_notice() {
    let world = World::new().await;
    let agent = world.agent();
    until("it beats, and has reported", || {
        world.server.seen(|seen| !seen.beats.is_empty() && !seen.reports.is_empty())
    })
    .await;
    world.server.seen(|seen| (seen.beats.clear(), seen.reports.clear()));
    let own = agent.shared.identity.node.clone();
    ask(&world, &node(8), &node(7)).await;
    ask(&world, &own, &node(9)).await;
    let said = || {
        let probed = |seen: &mut crate::support::server::Seen| {
            let beats = seen.beats.iter().map(|(_, beat)| beat.probed.clone());
            beats.filter(|probed| !probed.is_empty()).collect::<Vec<_>>()
        };
        world.server.seen(probed)
    };
    until("it says what became of it", || !said().is_empty()).await;
    let beats = world.server.seen(|seen| seen.beats.len());
    until("it beats on", || world.server.seen(|seen| seen.beats.len()) >= beats + 2).await;
    assert_eq!(said(), [BTreeMap::from([(node(9), true)])], "asked of it, once");
    let full = world.server.seen(|seen| seen.reports.iter().filter(|one| one.full).count());
    assert_eq!(full, 0, "a question is no roll call");
    agent.stop().await;
}

#[test]
fn a_host_that_lives_answers_behind_its_guard_and_a_dead_one_does_not() {
    in_namespace(|| async {
        let (alive, dead) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 3));
        let nowhere = Ipv4Addr::new(198, 51, 100, 1);
        let asking = Neighbour::new("mesh0", Some("10.99.0.1/24"), "10.99.0.2/24", None);
        let lan = Neighbour::new("lan0", Some("192.0.2.1/24"), "192.0.2.2/24", None);
        // Known by its hardware address, so that nothing but its silence tells.
        asking.run("ip neigh add 10.99.0.3 lladdr 02:00:00:00:00:03 dev eth0");
        lan.run("ip route add 10.99.0.0/24 via 192.0.2.1");
        let guard = Rules {
            mesh_ip: Some(alive),
            inside: ["mesh0", "lo", "knit0"].map(str::to_owned).into(),
            bridges: ["knit0".to_owned()].into(),
            subnets: ["10.208.0.0/24".parse().unwrap()].into(),
            ..Rules::default()
        };
        Nftables::new().apply(&guard).await.unwrap();
        let ask = |from: &Neighbour| {
            let work = move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let targets = [(node(1), alive), (node(3), dead), (node(4), nowhere)];
                runtime.block_on(reach::ask(targets.into()))
            };
            from.spawn(work).join().unwrap()
        };
        assert_eq!(ask(&asking), [(node(1), true), (node(3), false), (node(4), false)].into());
        assert!(!ask(&lan)[&node(1)], "the guard drops what comes from outside");
    });
}
