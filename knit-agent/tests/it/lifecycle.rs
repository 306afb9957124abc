//! An agent's life with a fake engine, a fake firewall and a bus in memory.

use std::net::Ipv4Addr;

use knit_agent::agent::{Agent, StartError};
use knit_agent::engine::Engine;
use knit_agent::engine::fake::{Call, FakeEngine};
use knit_agent::firewall::fake::FakeFirewall;
use knit_agent::loops::heartbeat::QUIET_BYTES_MAX;
use knit_agent::mesh::MeshAddress;
use knit_agent_core::ContainerState;
use knit_link::bus::Bus;
use knit_rpc::id::NodeId;
use knit_rpc::message::{AssignedInstance, Phase, ReportIn};
use knit_rpc::spec::InstanceSpec;
use knit_rpc::subject;
use serde_json::json;

use crate::support::agent::{instance, start};
use crate::support::server::Server;
use crate::support::{TempDir, until};

mod faults;
mod health;
mod join;
mod reach;

struct World {
    dir: TempDir,
    server: Server,
    engine: FakeEngine,
    firewall: FakeFirewall,
}

impl World {
    async fn new() -> Self {
        Self {
            dir: TempDir::new(),
            server: Server::start().await,
            engine: FakeEngine::new(),
            firewall: FakeFirewall::new(),
        }
    }

    fn agent(&self) -> Agent {
        start(self.dir.path(), &self.server, &self.engine, &self.firewall).unwrap()
    }

    fn phase(&self, (assigned, _): &(AssignedInstance, InstanceSpec)) -> Option<Phase> {
        self.server.seen(|seen| seen.instances.get(&assigned.id).map(|one| one.phase))
    }

    async fn until_phase(&self, one: &(AssignedInstance, InstanceSpec), phase: Phase) {
        until(&format!("{} is {phase}", one.0.deployment), || self.phase(one) == Some(phase)).await;
    }

    /// Addresses that port 8080 on the mesh leads to, in the order in which it did.
    fn history(&self) -> Vec<Option<Ipv4Addr>> {
        let history = self.firewall.history();
        let mut targets: Vec<Option<Ipv4Addr>> = history
            .iter()
            .map(|rules| rules.ports.values().next().map(|target| target.address))
            .collect();
        targets.dedup();
        targets
    }

    fn running(&self) -> Vec<String> {
        let containers = self.engine.containers().into_iter();
        containers.filter(|one| one.state == ContainerState::Running).map(|one| one.name).collect()
    }

    fn calls(&self, call: Call) -> usize {
        self.engine.calls().iter().filter(|(found, _)| *found == call).count()
    }
}

fn web(revision: u64) -> (AssignedInstance, InstanceSpec) {
    instance(
        "web",
        revision,
        json!({
            "image": "web:1",
            "ports": [{"container_port": 80, "host_port": 8080}],
            "templates": [{"destination": "/index.html", "content": "{{node.name}} {{mesh.ip}}"}],
        }),
    )
}

#[tokio::test]
async fn an_instance_is_run_replaced_and_removed() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let (old, new) = (web(1), web(2));

    world.server.assign(&node, 1, std::slice::from_ref(&old)).await;
    world.until_phase(&old, Phase::Running).await;
    let file = world.dir.path().join(format!("instances/{}/files/0", old.0.id));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "host-a 127.0.0.1");

    world.server.assign(&node, 2, &[old.clone(), new.clone()]).await;
    world.until_phase(&new, Phase::Running).await;
    assert_eq!(world.phase(&old), Some(Phase::Running), "until the server lets it go");
    world.server.assign(&node, 3, std::slice::from_ref(&new)).await;
    until("the old one is gone", || world.phase(&old).is_none() && !file.exists()).await;

    world.server.assign(&node, 4, &[]).await;
    until("all is gone", || world.phase(&new).is_none() && world.engine.containers().is_empty())
        .await;
    let history = world.history();
    assert_eq!(history.len(), 4, "none, the old one, the new one, none: {history:?}");
    assert!(history[1].is_some() && history[2].is_some() && history[1] != history[2]);
    agent.stop().await;
}

#[tokio::test]
async fn the_old_one_keeps_the_port_until_the_new_one_accepts_connections() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let (old, new) = (web(1), web(2));
    world.server.assign(&node, 1, std::slice::from_ref(&old)).await;
    world.until_phase(&old, Phase::Running).await;
    let ports = || world.firewall.rules().unwrap().ports;
    let before = ports();
    world.engine.deafen(true);
    world.server.assign(&node, 2, &[old.clone(), new.clone()]).await;
    until("both run", || world.running().len() == 2).await;
    until("the new one says what it waits for", || {
        world.server.seen(|seen| {
            let message = seen.instances.get(&new.0.id).and_then(|one| one.message.clone());
            message
                .is_some_and(|text| text.starts_with("nothing accepts connections on its port 80"))
        })
    })
    .await;
    assert_eq!((world.phase(&new), ports()), (Some(Phase::Starting), before.clone()));
    world.engine.deafen(false);
    world.until_phase(&new, Phase::Running).await;
    assert_ne!(ports(), before);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_anew_touches_nothing() {
    let world = World::new().await;
    let one = web(1);
    let agent = world.agent();
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    agent.stop().await;
    let calls = |world: &World| {
        [Call::Create, Call::Start, Call::Stop, Call::Remove].map(|call| world.calls(call))
    };
    let before = calls(&world);
    let reports = world.server.seen(|seen| seen.reports.len());

    let agent = world.agent();
    until("the second agent reported in full", || {
        world.server.seen(|seen| seen.reports[reports..].iter().any(|report| report.full))
    })
    .await;
    assert_eq!(world.phase(&one), Some(Phase::Running));
    assert_eq!(calls(&world), before);
    assert!(world.history().iter().skip(1).all(Option::is_some), "the port never led nowhere");
    agent.stop().await;
}

#[tokio::test]
async fn it_works_on_without_a_server() {
    let mut world = World::new().await;
    let one = web(1);
    let agent = world.agent();
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    agent.stop().await;
    let id = world.engine.containers()[0].id.clone();
    world.engine.remove(&id).await.unwrap();

    // Nobody listens there, and nothing comes by the bus.
    world.server.address.set_port(1);
    world.server.bus = knit_link::bus::MemoryBus::new();
    let agent = world.agent();
    until("it runs again, from what is on disk", || world.running().len() == 1).await;
    world.engine.exit(&world.running()[0], 1, knit_runtime::clock::now());
    until("and again", || world.running().len() == 1).await;
    agent.stop().await;
}

#[tokio::test]
async fn only_newer_assignments_of_the_pinned_server_for_this_node_count() {
    let world = World::new().await;
    let stranger = Server::start().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let one = web(1);
    world.server.assign(&node, 5, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;

    let subject = subject::tasks(&node);
    let other_node = NodeId::from_bytes([9; 16]);
    for message in [
        world.server.assignment(&node, 4, &[]),
        world.server.assignment(&node, 5, &[]),
        world.server.assignment(&other_node, 6, &[]),
        stranger.assignment(&node, 7, &[]),
        b"{\"body\":{},\"signature\":\"\"}".to_vec(),
        b"rubbish".to_vec(),
    ] {
        world.server.bus.publish(&subject, message).await.unwrap();
    }
    let two = web(2);
    world.server.assign(&node, 8, &[one.clone(), two.clone()]).await;
    world.until_phase(&two, Phase::Running).await;
    assert_eq!(world.calls(Call::Stop), 0, "none of these was acted on");
    agent.stop().await;
}

#[tokio::test]
async fn an_address_that_moves_changes_the_rules_and_no_container() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    let moved = MeshAddress {
        ip: Ipv4Addr::new(127, 0, 0, 2),
        interface: "lo".to_owned(),
        pubkey: "key".to_owned(),
    };
    agent.shared.mesh.send_replace(Some(moved.clone()));
    until("the rules follow", || {
        world.firewall.rules().is_some_and(|rules| rules.mesh_ip == Some(moved.ip))
    })
    .await;
    until("it registered again", || {
        world.server.seen(|seen| seen.registrations.last().is_some_and(|r| r.mesh_ip == moved.ip))
    })
    .await;
    assert_eq!((world.calls(Call::Stop), world.calls(Call::Create)), (0, 1));
    assert!(world.firewall.rules().unwrap().ports.len() == 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_node_that_was_removed_while_it_was_away_runs_nothing_when_it_is_back() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let one = web(1);
    world.server.assign(&node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    agent.stop().await;
    // An answer by somebody else, and one for another node, change nothing.
    let stranger = Server::start().await.assignment(&node, 9, &[]);
    world.server.seen(|seen| seen.farewell = Some(stranger));
    let agent = world.agent();
    let pings = world.server.seen(|seen| seen.pings);
    until("it asked again and again", || world.server.seen(|seen| seen.pings) > pings + 2).await;
    assert_eq!(world.calls(Call::Stop), 0, "nobody else takes a node down");
    let farewell = world.server.assignment(&node, 2, &[]);
    world.server.seen(|seen| seen.farewell = Some(farewell));
    until("what it ran is removed", || world.calls(Call::Remove) == 1).await;
    agent.stop().await;
}

#[tokio::test]
async fn beats_are_small_and_a_roll_call_is_answered_in_full() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let one = web(1);
    world.server.assign(&node, u64::from(u32::MAX), std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    until("a quiet beat", || {
        world.server.seen(|seen| seen.beats.iter().any(|(_, beat)| beat.facts.is_none()))
    })
    .await;
    world.server.seen(|seen| {
        for (size, beat) in seen.beats.iter().filter(|(_, beat)| beat.facts.is_none()) {
            assert!(*size <= QUIET_BYTES_MAX, "{size} bytes: {beat:?}");
        }
        let facts = seen.beats.iter().find_map(|(_, beat)| beat.facts.clone()).unwrap();
        assert_eq!((facts.name.as_str(), facts.labels["role"].as_str()), ("host-a", "web"));
        seen.reports.clear();
        seen.beats.clear();
    });
    let ask = ReportIn { cluster: world.server.cluster.clone(), held: true, probe: None };
    let ask = serde_json::to_vec(&ask).unwrap();
    world.server.bus.publish(subject::BROADCAST, ask).await.unwrap();
    until("the whole inventory with what it holds", || {
        world.server.seen(|seen| {
            seen.reports.iter().any(|report| report.full && report.held.is_some())
                && seen.beats.iter().any(|(_, beat)| beat.facts.is_some())
        })
    })
    .await;
    let held = world.server.seen(|seen| seen.reports.iter().find_map(|r| r.held.clone())).unwrap();
    let sent = world.server.assignment(&node, u64::from(u32::MAX), std::slice::from_ref(&one));
    assert_eq!(held.as_bytes(), sent, "byte for byte");
    agent.stop().await;
}

#[tokio::test]
async fn two_agents_never_share_a_state_directory() {
    let world = World::new().await;
    let agent = world.agent();
    let second = start(world.dir.path(), &world.server, &world.engine, &world.firewall);
    assert!(matches!(second.err(), Some(StartError::InUse { .. })));
    agent.stop().await;
    let third = world.agent();
    third.stop().await;
}

#[tokio::test]
async fn another_server_is_refused_and_containers_stay() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    agent.stop().await;

    let stranger = Server::start().await;
    let agent = start(world.dir.path(), &stranger, &world.engine, &world.firewall).unwrap();
    until("the rules are asserted again", || world.calls(Call::List) > 5).await;
    assert!(stranger.seen(|seen| seen.registrations.is_empty()), "it was not even asked");
    assert_eq!(world.running().len(), 1);
    agent.stop().await;
}
