//! A NATS server that is not the server's child.

use std::process::{Command, Stdio};

use knit_link::bus::{Bus as _, BusState};
use knit_rpc::subject;
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

#[tokio::test]
async fn an_external_nats_with_the_printed_configuration_serves_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let printed = Command::new(env!("CARGO_BIN_EXE_knit-server"))
        .args(["nats-config", "--state-dir"])
        .arg(&state)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));

    let port = free_port();
    let config = dir.path().join("nats.conf");
    let mut text: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    text["listen"] = format!("127.0.0.1:{port}").into();
    text["jetstream"]["store_dir"] = dir.path().join("streams").display().to_string().into();
    std::fs::write(&config, text.to_string()).unwrap();
    let nats = Command::new("nats-server").arg("-c").arg(&config).stderr(Stdio::null()).spawn();
    let _nats = Ended(nats.unwrap());

    let url = format!("nats://127.0.0.1:{port}");
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
}
