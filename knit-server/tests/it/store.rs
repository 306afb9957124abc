//! What the database refuses, and that it keeps what it is given.

mod rows;

use std::path::Path;

use knit_link::bus::MemoryBus;
use knit_rpc::Timestamp;
use knit_server::identity::Identity;
use knit_server::store::{Store, StoreError};
use sqlx::Connection as _;

use crate::support::{Home, Server};

async fn open(path: &Path, identity: &Identity) -> Result<Store, StoreError> {
    Store::open(path, &identity.cluster).await
}

#[tokio::test]
async fn a_damaged_database_is_refused_with_what_to_do() {
    let home = Home::new();
    let path = home.dir.path().join("knit.db");
    std::fs::write(&path, "this is no database, and it is long enough to be looked at").unwrap();
    let error = open(&path, &home.identity()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("restore a backup"), "{error}");

    // Pages in the middle that were overwritten.
    std::fs::remove_file(&path).unwrap();
    open(&path, &home.identity()).await.unwrap().close().await;
    empty_log(&path).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let size = bytes.len();
    bytes[4096..size].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let error = open(&path, &home.identity()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
}

/// Has all pages in the file itself: who closes last may have been a reader, which leaves the log.
async fn empty_log(path: &Path) {
    let mut raw = sqlx::SqliteConnection::connect(&path.display().to_string()).await.expect("open");
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut raw).await.expect("emptied");
    raw.close().await.expect("closed");
}

#[tokio::test]
async fn a_newer_database_is_refused_with_what_to_do() {
    let home = Home::new();
    let path = home.dir.path().join("knit.db");
    open(&path, &home.identity()).await.unwrap().close().await;
    let mut raw = sqlx::SqliteConnection::connect(&path.display().to_string()).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from tomorrow', TRUE, x'00', 0)",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    raw.close().await.unwrap();
    let error = open(&path, &home.identity()).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { version: 999, .. }), "{error:?}");
    assert!(error.to_string().contains("newer knit-server"), "{error}");
}

#[tokio::test]
async fn a_database_of_another_cluster_is_refused() {
    let (home, other) = (Home::new(), Home::new());
    let path = home.dir.path().join("knit.db");
    open(&path, &home.identity()).await.unwrap().close().await;
    let error = open(&path, &other.identity()).await.unwrap_err();
    assert!(matches!(error, StoreError::Cluster { .. }), "{error:?}");
}

#[test]
fn an_identity_is_made_once_and_never_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (path, database) = (dir.path().join("identity.json"), dir.path().join("knit.db"));
    let load = || Identity::load_or_create(&path, &database);
    let first = load().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(load().unwrap().public_key(), first.public_key());

    std::fs::write(&path, "{").unwrap();
    let error = load().err().unwrap().to_string();
    assert!(error.contains("is damaged"), "{error}");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&database, "").unwrap();
    let error = load().err().unwrap().to_string();
    assert!(error.contains("a database but no identity"), "{error}");
    std::fs::create_dir(&path).unwrap();
    let error = load().err().unwrap().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[tokio::test]
async fn everything_is_read_back_as_it_was() {
    use std::sync::Arc;

    use knit_rpc::api::DeploymentState;

    use crate::support::agent::{Agent, Disk};
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let agent = Agent::join(&Disk::new(1), &server.api, Arc::new(bus.client())).await;
    server
        .deploy("{name: web, image: v1, replicas: 3, ports: [{container_port: 80}], env: {A: b}}")
        .await;
    server.until("web", DeploymentState::Unplaced).await;
    crate::support::eventually("it was observed", || async {
        let world = server.app.world().await;
        (!world.snapshot.observed.values().next()?.is_empty()).then_some(())
    })
    .await;
    drop(agent);
    let app = Arc::clone(&server.app);
    server.stop().await;
    let mut memory = app.world().await.snapshot.clone();

    let store = open(&home.dir.path().join("knit.db"), &home.identity()).await.unwrap();
    let mut read = store.snapshot(memory.cluster.clone(), Timestamp::from_millis(1)).await.unwrap();
    // What belongs to one life of the server only.
    for snapshot in [&mut memory, &mut read] {
        (snapshot.started, snapshot.first_beat) = (Timestamp::default(), None);
        snapshot.healthy_since.clear();
        for node in snapshot.nodes.values_mut() {
            (node.last_beat, node.lives) = (None, knit_server_core::liveness::Lives::default());
            (node.applied, node.inventory) = Default::default();
        }
    }
    assert_eq!(memory, read);
    assert_eq!(store.last_reports().await.unwrap().len(), 1);
    store.close().await;
}
