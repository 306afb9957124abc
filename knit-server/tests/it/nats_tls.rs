//! NATS that demands TLS, with an authority of the test's own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knit_link::bus::{Bus as _, BusState, NatsBus, NatsOptions};
use knit_rpc::api::RegisterResponse;
use knit_rpc::subject;
use tokio::sync::watch;

use crate::support::agent::Disk;
use crate::support::eventually;
use crate::support::process::{NATS_PORT, Program, free_port, own_address};
use crate::support::tls::Authority;

async fn bus(disk: &Disk, response: &RegisterResponse, url: &str, ca: Option<PathBuf>) -> NatsBus {
    let options = NatsOptions {
        name: disk.name.clone(),
        url: url.to_owned(),
        local_address: None,
        inbox_prefix: Some(subject::inbox_prefix(&disk.node)),
        nkey_seed: disk.key().seed().expect("a seed"),
        jwt: watch::channel(response.user_jwt.clone()).1,
        ca,
    };
    NatsBus::connect(options).await.expect("a bus")
}

async fn is_connected(bus: &NatsBus) -> bool {
    let mut state = bus.state();
    let connected = state.wait_for(|state| *state == BusState::Connected);
    tokio::time::timeout(Duration::from_secs(5), connected).await.is_ok()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[tokio::test]
async fn nats_speaks_tls_alone_when_it_is_told_to_and_agents_learn_whom_to_believe() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "x"));
    let (address, monitor) = (own_address(), free_port().to_string());
    let certificate = authority.sign(address);
    let state = dir.path().join("state");
    let program = Program::spawn_with(
        &state,
        address,
        0,
        &[
            "--nats-monitor-port",
            &monitor,
            "--nats-tls-cert",
            path(&certificate.cert),
            "--nats-tls-key",
            path(&certificate.key),
            "--nats-tls-ca",
            path(&authority.certificate),
        ],
    );
    program.until_healthy().await;
    let disk = Disk::new(1);
    let response = disk.register(&program.api).await.unwrap();
    assert_eq!(response.nats_url, format!("tls://{address}:{NATS_PORT}"));
    let told = response.nats_ca.clone().expect("whom to believe");
    assert_eq!(told, std::fs::read_to_string(&authority.certificate).unwrap());

    let kept = dir.path().join("kept.pem");
    std::fs::write(&kept, &told).unwrap();
    let good = bus(&disk, &response, &response.nats_url, Some(kept)).await;
    assert!(is_connected(&good).await);
    assert_eq!(good.last(&subject::tasks(&disk.node)).await.unwrap(), None);
    let wrong = bus(&disk, &response, &response.nats_url, Some(other.certificate)).await;
    let none = bus(&disk, &response, &response.nats_url, None).await;
    assert!(!is_connected(&wrong).await, "another authority's word");
    assert!(!is_connected(&none).await, "what the system trusts");

    // In plain text nobody is heard, whatever he knows.
    let mut stream = TcpStream::connect((address, NATS_PORT)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let connect = format!("CONNECT {{\"jwt\":\"{}\"}}\r\nPING\r\n", response.user_jwt);
    stream.write_all(connect.as_bytes()).unwrap();
    let lines: Vec<String> = BufReader::new(&stream).lines().map_while(Result::ok).collect();
    assert!(!lines.iter().any(|line| line == "PONG"), "{lines:?}");

    // The server itself goes the same way: it says whom to refuse.
    let removed = program.api.remove_node(&disk.node, true).await.unwrap();
    assert!(removed.cut_off, "{removed:?}");
    eventually("the connection was dropped", || async {
        (*good.state().borrow() != BusState::Connected).then_some(())
    })
    .await;
}
