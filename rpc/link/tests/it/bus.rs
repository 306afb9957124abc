//! What server and agents count on when NATS comes and goes.

use std::net::Ipv4Addr;
use std::time::Duration;

use knit_link::bus::{Bus, BusError, BusState, NatsBus, NatsOptions};
use nkeys::KeyPair;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::nats_server::NatsServer;

const SOON: Duration = Duration::from_secs(10);

async fn connect(url: &str, local_address: Option<Ipv4Addr>) -> NatsBus {
    let options = NatsOptions {
        name: "test".to_owned(),
        url: url.to_owned(),
        local_address,
        inbox_prefix: None,
        nkey_seed: KeyPair::new_user().seed().expect("a seed"),
        jwt: watch::channel(String::new()).1,
        ca: None,
    };
    NatsBus::connect(options).await.expect("a bus")
}

async fn wait_for(bus: &NatsBus, what: impl Fn(&BusState) -> bool) {
    let mut state = bus.state();
    let reached = timeout(SOON, state.wait_for(|state| what(state))).await;
    drop(reached.expect("the state in time").expect("a state"));
}

async fn connected(bus: &NatsBus) {
    wait_for(bus, |state| *state == BusState::Connected).await;
}

#[tokio::test]
async fn messages_requests_and_the_newest_of_a_subject() {
    let server = NatsServer::start();
    let bus = connect(&server.url(), None).await;
    connected(&bus).await;
    bus.ensure_tasks_stream().await.unwrap();
    bus.ensure_tasks_stream().await.unwrap();

    let mut asked = bus.subscribe("ask.*").await.unwrap();
    let answering = bus.clone();
    tokio::spawn(async move {
        while let Some(message) = asked.recv().await {
            let reply = message.reply.expect("a reply subject");
            answering.publish(&reply, [b"re: ", &message.payload[..]].concat()).await.unwrap();
        }
    });
    assert_eq!(bus.request("ask.1", b"x".to_vec(), SOON).await.unwrap(), b"re: x");
    let nobody = bus.request("nobody", Vec::new(), SOON).await.unwrap_err();
    assert!(matches!(nobody, BusError::NoResponders { .. }), "{nobody}");

    assert_eq!(bus.last("knit.tasks.a").await.unwrap(), None);
    for body in [b"1", b"2"] {
        bus.put("knit.tasks.a", body.to_vec()).await.unwrap();
    }
    assert_eq!(bus.last("knit.tasks.a").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(bus.last("knit.tasks.b").await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_is_killed_is_found_again_and_has_lost_nothing() {
    let mut server = NatsServer::start();
    let bus = connect(&server.url(), None).await;
    connected(&bus).await;
    bus.ensure_tasks_stream().await.unwrap();
    bus.put("knit.tasks.a", b"kept".to_vec()).await.unwrap();
    let mut messages = bus.subscribe("hello").await.unwrap();

    server.kill();
    wait_for(&bus, |state| matches!(state, BusState::Disconnected { .. })).await;
    let refused = timeout(Duration::from_millis(100), bus.publish("hello", Vec::new())).await;
    assert!(matches!(refused, Ok(Err(BusError::NotConnected { .. }))), "fails at once");

    server.kill_and_restart();
    connected(&bus).await;
    assert_eq!(bus.last("knit.tasks.a").await.unwrap().as_deref(), Some(&b"kept"[..]));
    bus.publish("hello", b"again".to_vec()).await.unwrap();
    assert_eq!(timeout(SOON, messages.recv()).await.unwrap().unwrap().payload, b"again");
}

#[tokio::test]
async fn a_bus_that_moves_takes_its_subscriptions_along_and_leaves_from_its_new_address() {
    let (first, second) = (NatsServer::start(), NatsServer::start());
    let bus = connect(&first.url(), Some(Ipv4Addr::new(127, 0, 0, 77))).await;
    connected(&bus).await;
    let mut messages = bus.subscribe("moved").await.unwrap();

    bus.rebind(&second.url(), Some(Ipv4Addr::new(127, 0, 0, 78))).await.unwrap();
    connected(&bus).await;
    let from = std::process::Command::new("ss")
        .args(["-Htn", "state", "established", "dport", &format!(":{}", second.port)])
        .output()
        .expect("ss (Debian's package iproute2)");
    let from = String::from_utf8_lossy(&from.stdout).into_owned();
    assert!(from.contains("127.0.0.78:"), "{from}");

    let other = connect(&second.url(), None).await;
    connected(&other).await;
    other.publish("moved", b"here".to_vec()).await.unwrap();
    assert_eq!(timeout(SOON, messages.recv()).await.unwrap().unwrap().payload, b"here");
}

#[tokio::test]
async fn an_address_that_the_host_has_not_yet_is_waited_for() {
    let server = NatsServer::start();
    let bus = connect(&server.url(), Some(Ipv4Addr::new(203, 0, 113, 9))).await;
    assert!(bus.publish("x", Vec::new()).await.is_err());
    bus.rebind(&server.url(), None).await.unwrap();
    connected(&bus).await;
    bus.close().await;
    assert!(matches!(bus.subscribe("x").await, Err(BusError::Closed)));
}
