//! A NATS server that is not the server's child.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use knit_link::bus::{Bus as _, BusState};
use knit_rpc::api::NodeRemoved;
use knit_rpc::subject;
use knit_server::identity::Identity;
use knit_server::nats_server::jwt;
use nkeys::KeyPair;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::agent::Disk;
use crate::support::process::{Program, free_port, own_address};

/// Ends a process that the test started, also when the test fails.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An external NATS on the configuration that the server prints, changed.
fn external(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) -> (Ended, PathBuf, String) {
    let state = dir.join("state");
    let printed = Command::new(env!("CARGO_BIN_EXE_knit-server"))
        .args(["nats-config", "--state-dir"])
        .arg(&state)
        .output()
        .expect("it runs");
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let port = free_port();
    let config = dir.join("nats.conf");
    let mut text: serde_json::Value = serde_json::from_slice(&printed.stdout).expect("json");
    text["listen"] = format!("127.0.0.1:{port}").into();
    text["jetstream"]["store_dir"] = dir.join("streams").display().to_string().into();
    change(&mut text);
    std::fs::write(&config, text.to_string()).expect("written");
    let nats = Command::new("nats-server").arg("-c").arg(&config).stderr(Stdio::null()).spawn();
    (Ended(nats.expect("nats-server")), state, format!("nats://127.0.0.1:{port}"))
}

#[tokio::test]
async fn an_external_nats_with_the_printed_configuration_serves_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (_nats, state, url) = external(dir.path(), |_| {});
    let program = Program::with_nats(&state, own_address(), &url);
    program.until_healthy().await;
    assert!(!state.join("nats").exists(), "no nats-server of its own");

    let disk = Disk::new(1);
    let (bus, response) = program.bus(&disk).await;
    assert_eq!(response.nats_url, url);
    let mut bus_state = bus.state();
    let connected = bus_state.wait_for(|state| *state == BusState::Connected);
    timeout(PATIENCE, connected).await.expect("connected in time").expect("a state");
    assert_eq!(bus.last(&subject::tasks(&disk.node)).await.unwrap(), None);

    let removed = program.api.remove_node(&disk.node, true).await.unwrap();
    assert_eq!(removed, NodeRemoved { cut_off: true, message: None });
    let dropped = bus_state.wait_for(|state| *state != BusState::Connected);
    timeout(PATIENCE, dropped).await.expect("dropped in time").expect("a state");
}

#[tokio::test]
async fn an_external_nats_that_cannot_be_told_whom_to_refuse_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // Its own business is somebody else's.
    let (_nats, state, url) = external(dir.path(), |config| {
        let identity = Identity::load_or_create(&state.join("identity.json"), &state.join("none"));
        let (operator, other) = (identity.unwrap().operator, KeyPair::new_account());
        let token = jwt::account(&operator, &other, "other", false, &BTreeMap::new(), 1).unwrap();
        config["resolver_preload"][other.public_key()] = token.into();
        let known = config["system_account"].as_str().expect("a key").to_owned();
        config["resolver_preload"].as_object_mut().expect("accounts").remove(&known);
        config["system_account"] = other.public_key().into();
    });
    let program = Program::with_nats(&state, own_address(), &url);
    program.until_healthy().await;
    let disk = Disk::new(1);
    disk.register(&program.api).await.unwrap();
    let removed = program.api.remove_node(&disk.node, true).await.unwrap();
    assert!(!removed.cut_off);
    let why = removed.message.expect("why");
    assert!(why.contains("could not be told to refuse it"), "{why}");
    assert!(why.contains("knit-server nats-config"), "and what mends it: {why}");
}
