//! A node that is removed is cut off from NATS at once, and stays so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use knit_link::bus::{Bus as _, BusState};
use knit_rpc::api::{NodeRemoved, NodeState};
use knit_rpc::signed::{self, Context};
use knit_rpc::spec::Format;
use knit_rpc::subject;
use nix::sys::signal::{Signal, kill};

use crate::support::agent::{Agent, Disk};
use crate::support::eventually;
use crate::support::process::Program;
use crate::support::raw_nats::RawNats;

async fn until_ready(program: &Program, disk: &Disk) {
    eventually(&format!("{} is ready", disk.name), || async {
        let nodes = program.api.nodes().await.ok()?;
        let is_it = |node: &knit_rpc::api::NodeView| {
            node.id.as_ref() == Some(&disk.node) && node.state == NodeState::Ready
        };
        nodes.iter().any(is_it).then_some(())
    })
    .await;
}

#[track_caller]
fn refusal(program: &Program, disk: &Disk, token: &str) -> String {
    RawNats::connect(program.nats(), &disk.key(), token).map(drop).expect_err("it is refused")
}

#[tokio::test]
async fn a_removed_node_gets_its_farewell_and_is_cut_off_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(dir.path()).await;
    let (kept, gone) = (Disk::new(1), Disk::new(2));
    let (bus, response) = program.bus(&gone).await;
    let agent = Agent::resume(&gone, Arc::new(bus.clone()), false);
    until_ready(&program, &gone).await;
    program.api.deploy("{name: web, image: v1}".to_owned(), Format::Yaml).await.unwrap();
    eventually("it runs", || async { (gone.images() == ["v1"]).then_some(()) }).await;
    let (keeps, _) = program.bus(&kept).await;
    let _kept = Agent::resume(&kept, Arc::new(keeps.clone()), false);
    until_ready(&program, &kept).await;

    let begun = Instant::now();
    let removed = program.api.remove_node(&gone.node, true).await.unwrap();
    assert_eq!(removed, NodeRemoved { cut_off: true, message: None });
    assert!(begun.elapsed() < Duration::from_secs(4), "it did not wait for the bound");
    assert!(gone.images().is_empty(), "its farewell came first");
    eventually("the connection was dropped", || async {
        (*bus.state().borrow() != BusState::Connected).then_some(())
    })
    .await;
    let token = response.user_jwt;
    assert!(refusal(&program, &gone, &token).contains("Authorization Violation"));
    assert_eq!(*keeps.state().borrow(), BusState::Connected, "nobody else was dropped");

    // A nats-server that starts again, and a server that does.
    let pid = program.nats_pid().unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    eventually("another nats-server runs", || async {
        (program.nats_pid()? != pid && std::net::TcpStream::connect(program.nats()).is_ok())
            .then_some(())
    })
    .await;
    assert!(refusal(&program, &gone, &token).contains("Authorization Violation"));
    program.kill();
    program = program.start_again().await;
    eventually("NATS is there", || async {
        std::net::TcpStream::connect(program.nats()).is_ok().then_some(())
    })
    .await;
    assert!(refusal(&program, &gone, &token).contains("Authorization Violation"));

    // Let in anew, it is a node like any other, and what it held before stays worth nothing.
    assert!(gone.register(&program.api).await.is_err(), "not by itself");
    program.api.approve_node(&gone.node).await.unwrap();
    let (bus, _) = program.bus(&gone).await;
    drop(agent);
    let _agent = Agent::resume(&gone, Arc::new(bus.clone()), false);
    until_ready(&program, &gone).await;
    assert!(refusal(&program, &gone, &token).contains("Authorization Violation"));
    let again = program.api.remove_node(&gone.node, true).await.unwrap();
    assert!(again.cut_off, "and it can be removed again: {again:?}");
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_cut_off_all_the_same_and_finds_its_farewell() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    let (bus, response) = program.bus(&disk).await;
    let agent = Agent::resume(&disk, Arc::new(bus.clone()), false);
    until_ready(&program, &disk).await;
    program.api.deploy("{name: web, image: v1}".to_owned(), Format::Yaml).await.unwrap();
    eventually("it runs", || async { (disk.images() == ["v1"]).then_some(()) }).await;
    // Its agent is dead, its key is in other hands.
    drop(agent);
    let held = RawNats::connect(program.nats(), &disk.key(), &response.user_jwt).unwrap();

    let removed = program.api.remove_node(&disk.node, true).await.unwrap();
    assert!(removed.cut_off, "{removed:?}");
    let heard = tokio::task::spawn_blocking(|| held.until_closed()).await.unwrap();
    assert!(heard.iter().any(|line| line.contains("Authentication Revoked")), "{heard:?}");

    // Back again, it is told over HTTP that it runs nothing.
    let request = signed::sign(&disk.key(), Context::Register, &disk.request()).unwrap();
    let farewell = program.api.farewell(request).await.unwrap();
    let assignment: knit_rpc::message::NodeAssignment =
        signed::verify(&response.server_key, Context::Assignment, &farewell).unwrap();
    assert_eq!((assignment.node, assignment.instances.len()), (disk.node.clone(), 0));
    assert!(assignment.generation > disk.generation());
    let other = Disk::new(2);
    let request = signed::sign(&other.key(), Context::Register, &other.request()).unwrap();
    assert_eq!(program.api.farewell(request).await.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn a_node_that_is_in_can_be_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    let (bus, response) = program.bus(&disk).await;
    let _agent = Agent::resume(&disk, Arc::new(bus.clone()), false);
    until_ready(&program, &disk).await;
    let error = program.api.reject_node(&disk.node, false).await.unwrap_err();
    assert!(error.to_string().contains("its agent is at work"), "{error}");
    let removed = program.api.reject_node(&disk.node, true).await.unwrap().expect("it was in");
    assert!(removed.cut_off, "{removed:?}");
    assert!(refusal(&program, &disk, &response.user_jwt).contains("Authorization Violation"));
    let error = disk.register(&program.api).await.unwrap_err();
    assert!(error.to_string().contains("somebody rejected this host"), "{error}");
    assert!(bus.last(&subject::tasks(&disk.node)).await.is_err());
}
