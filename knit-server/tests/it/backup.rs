//! Backups and what comes of them: the program beside a server in this process, on its very files.

mod cut_off;
mod declared;
mod files;
mod names;
mod rollout;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::MemoryBus;
use knit_rpc::api::DeploymentState;
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::join::{JoinToken, NewJoinToken};
use knit_server::identity::Identity;
use knit_server::store::Store;
use sqlx::Connection as _;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

/// The program on a state directory without a server of its own.
fn command(state: &Path, what: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knit-server"));
    command.arg(what).arg("--state-dir").arg(state);
    command.arg("--socket").arg(state.with_extension("sock")).args(args).stdin(Stdio::null());
    command
}

/// Runs it; what it said.
fn run(state: &Path, what: &str, args: &[&str]) -> Result<String, String> {
    said(&command(state, what, args).output().map_err(|error| error.to_string())?)
}

fn said(output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// Two nodes of a server, and what each keeps.
async fn two_nodes(server: &Server, bus: &MemoryBus) -> ([Disk; 2], Vec<Agent>) {
    let disks = [Disk::new(1), Disk::new(2)];
    let mut agents = Vec::new();
    for disk in &disks {
        agents.push(Agent::join(disk, &server.api, Arc::new(bus.client())).await);
    }
    (disks, agents)
}

/// A backup of a home, beside it.
fn back_up(home: &Home) -> PathBuf {
    let file = home.dir.path().with_extension("backup");
    let told = run(home.dir.path(), "backup", &["--out", text(&file), "--force"]);
    assert!(told.as_ref().is_ok_and(|told| told.contains("backed up cluster")), "{told:?}");
    file
}

/// Everything of a home is lost, and comes from a backup.
fn set_back(home: &Home, backup: &Path) -> String {
    for entry in std::fs::read_dir(home.dir.path()).expect("it is there") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("it goes");
    }
    run(home.dir.path(), "restore", &[text(backup)]).expect("restored")
}

/// Changes the database by hand.
async fn execute(home: &Home, statement: &'static str) {
    let path = home.dir.path().join("knit.db").display().to_string();
    let mut raw = sqlx::SqliteConnection::connect(&path).await.expect("open");
    sqlx::query(statement).execute(&mut raw).await.expect("done");
    raw.close().await.expect("closed");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let name = |name: &OsStr| name.to_string_lossy().into_owned();
    let mut names: Vec<String> =
        entries.map(|entry| name(&entry.expect("an entry").file_name())).collect();
    names.sort();
    names
}

async fn undeploy(server: &Server, name: &str) {
    let name = DeploymentName::parse(name).expect("a name");
    server.api.undeploy(&ProjectName::default(), &name).await.expect("accepted");
    server.until_gone(name.as_str()).await;
}

async fn until_stopped(server: &Server, name: &str) {
    server.until(name, DeploymentState::Stopped).await;
}

#[tokio::test]
async fn what_came_after_the_backup_stays_and_what_ended_after_it_stays_so() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let disks = [Disk::new(1), Disk::new(2)];
    disks[0].label("role", "db");
    let mut agents = Vec::new();
    for disk in &disks {
        agents.push(Agent::join(disk, &server.api, Arc::new(bus.client())).await);
    }
    for name in ["changed", "scaled", "gone", "halted", "same"] {
        server.deploy(&format!("{{name: {name}, image: v1, replicas: 2}}")).await;
        server.until(name, DeploymentState::Running).await;
    }
    let minted = server.api.create_join_token(&NewJoinToken::default()).await.unwrap();
    let join = JoinToken::parse(&minted.token).unwrap().public_key();
    let backup = back_up(&home);

    server.deploy("{name: changed, image: v2, replicas: 2}").await;
    server.deploy("{name: scaled, image: v1, replicas: 1}").await;
    server.deploy("{name: new, image: v1, node_selector: {role: db}}").await;
    for name in ["changed", "scaled", "new"] {
        server.until(name, DeploymentState::Running).await;
    }
    undeploy(&server, "gone").await;
    let halted = DeploymentName::parse("halted").unwrap();
    server.api.stop(&ProjectName::default(), &halted).await.unwrap();
    until_stopped(&server, "halted").await;
    // A host that joined since.
    let third = Disk::new(3);
    agents.push(Agent::join(&third, &server.api, Arc::new(bus.client())).await);
    server.deploy("{name: late, image: v1, replicas: 3, update: {strategy: recreate}}").await;
    server.until("late", DeploymentState::Running).await;
    let all = || [&disks[0], &disks[1], &third];
    eventually("the removed are gone from the nodes", || async {
        let images: Vec<_> = all().iter().flat_map(|disk| disk.images()).collect();
        (images.len() == 2 + 1 + 2 + 1 + 3).then_some(())
    })
    .await;
    let running = all().map(Disk::running);
    let started = all().map(Disk::started);
    drop(agents);
    server.stop().await;

    let told = set_back(&home, &backup);
    assert!(told.contains("5 deployments, 10 instances, 2 nodes"), "{told}");
    assert!(told.contains("API tokens that were revoked since are valid"), "{told}");
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    let _agents = all().map(|disk| Agent::resume(disk, Arc::new(bus.client()), false));
    for name in ["changed", "scaled", "same", "new", "late"] {
        server.until(name, DeploymentState::Running).await;
    }
    until_stopped(&server, "halted").await;
    server.until_gone("gone").await;
    let changed = server.view("changed").await.unwrap();
    assert_eq!((changed.image.as_str(), changed.revision), ("v2", 2));
    assert_eq!(server.view("scaled").await.unwrap().replicas, 1);
    eventually("the risen epoch is everywhere", || async {
        all().iter().all(|disk| disk.generation().epoch >= 1).then_some(())
    })
    .await;
    // Longer than slots are held back for other nodes.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(32);
    while tokio::time::Instant::now() < deadline {
        assert_eq!(all().map(Disk::running), running, "every container is the same");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(all().map(Disk::started), started, "none was started again");

    let audit = server.app.check_audit().await.unwrap();
    assert_eq!(audit.broken, None);
    let entries = server.app.audit_after(0, 1000).await.unwrap();
    assert!(entries.iter().any(|entry| {
        entry.action == "restored" && entry.subject.contains("from the backup of")
    }));
    let gone = server.api.revoke_join_token(&join).await.unwrap_err();
    assert_eq!(gone.status(), Some(404), "it may have been spent since");

    server.deploy("{name: new, image: v2, node_selector: {role: db}}").await;
    eventually("all goes on", || async {
        disks[0].images().contains(&"v2".to_owned()).then_some(())
    })
    .await;
    undeploy(&server, "late").await;
    server.stop().await;
}

#[tokio::test]
async fn one_backup_restored_twice_ends_as_well() {
    let (home, mut bus) = (Home::new(), MemoryBus::new());
    let mut server = Server::start_on_disk(&home, &bus).await;
    let disk = Disk::new(1);
    let mut agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    let backup = back_up(&home);
    for round in 1..=2_u64 {
        let name = format!("after-{round}");
        server.deploy(&format!("{{name: {name}, image: v1}}")).await;
        server.until(&name, DeploymentState::Running).await;
        let running = disk.running();
        drop(agent);
        server.stop().await;
        set_back(&home, &backup);
        bus = MemoryBus::new();
        server = Server::start_on_disk(&home, &bus).await;
        agent = Agent::resume(&disk, Arc::new(bus.client()), false);
        for n in 1..=round {
            server.until(&format!("after-{n}"), DeploymentState::Running).await;
        }
        eventually(&format!("the epoch is above the one before in round {round}"), || async {
            (disk.generation().epoch >= round).then_some(())
        })
        .await;
        assert_eq!(disk.running(), running);
    }
    drop(agent);
    server.stop().await;
}

#[tokio::test]
async fn a_node_that_was_removed_after_the_backup_shows_its_farewell_and_is_none_again() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let (disks, agents) = two_nodes(&server, &bus).await;
    server.deploy("{name: web, image: v1, replicas: 4}").await;
    server.until("web", DeploymentState::Running).await;
    let backup = back_up(&home);
    server.api.remove_node(&disks[1].node, true).await.unwrap();
    eventually("all runs on the other one", || async {
        (disks[0].running().len() == 4 && disks[1].running().is_empty()).then_some(())
    })
    .await;
    server.until("web", DeploymentState::Running).await;
    let running = disks[0].running();
    drop(agents);
    server.stop().await;

    set_back(&home, &backup);
    let full = "CREATE TRIGGER full BEFORE DELETE ON nodes
                BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END";
    execute(&home, full).await;
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    assert_eq!(server.app.world().await.snapshot.nodes.len(), 2, "it was one in the backup");
    let mut agents = Vec::new();
    for disk in &disks {
        agents.push(Agent::join(disk, &server.api, Arc::new(bus.client())).await);
    }
    eventually("it showed its farewell", || async {
        server.app.world().await.reported.contains(&disks[1].node).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let known = server.app.world().await.snapshot.nodes.get(&disks[1].node).cloned();
    assert!(known.is_some_and(|node| node.adopting), "it could not be removed, and is not let in");
    execute(&home, "DROP TRIGGER full").await;
    eventually("it is out again", || async {
        let world = server.app.world().await;
        let is_out = world.removed.contains_key(&disks[1].node);
        (is_out && !world.snapshot.nodes.contains_key(&disks[1].node)).then_some(())
    })
    .await;
    server.until("web", DeploymentState::Running).await;
    assert_eq!((disks[0].running(), disks[1].running().len()), (running, 0));
    let told = server.app.world().await.revocations.contains_key(&disks[1].key().public_key());
    assert!(told, "and NATS is told to refuse it");
    drop(agents);
    server.stop().await;
}

#[tokio::test]
async fn a_secret_that_was_set_after_the_backup_keeps_its_number_and_its_value_on_the_node() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let disk = Disk::new(1);
    let agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    let (project, name) = (ProjectName::default(), "db".parse().unwrap());
    server.api.set_secret(&project, &name, b"first", None).await.unwrap();
    server.deploy("{name: web, image: v1, secrets: [{name: db}]}").await;
    let signalled = "{name: db, on_change: signal, signal: SIGHUP}";
    server.deploy(&format!("{{name: live, image: v1, secrets: [{signalled}]}}")).await;
    server.until("web", DeploymentState::Running).await;
    server.until("live", DeploymentState::Running).await;
    let backup = back_up(&home);
    server.api.set_secret(&project, &name, b"second", None).await.unwrap();
    let have_second = || {
        let held = disk.held().map(|held| held.instances).unwrap_or_default();
        held.len() == 2 && held.iter().all(|one| one.secrets.get(&name) == Some(&2))
    };
    eventually("the node has it", || async { have_second().then_some(()) }).await;
    server.until("web", DeploymentState::Running).await;
    drop(agent);
    server.stop().await;

    set_back(&home, &backup);
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    assert_eq!(server.app.vault.shut(), None, "its key came back with it");
    let _agent = Agent::resume(&disk, Arc::new(bus.client()), false);
    server.until("web", DeploymentState::Running).await;
    eventually("version 2 is known", || async {
        let secrets = server.api.secrets(Some(&project)).await.ok()?;
        secrets.iter().any(|secret| secret.version == 2).then_some(())
    })
    .await;
    eventually("the node is told anew", || async { (disk.generation().epoch >= 1).then_some(()) })
        .await;
    assert!(have_second(), "what runs keeps it: {:?}", disk.held());
    let set = server.api.set_secret(&project, &name, b"third", None).await.unwrap();
    assert_eq!(set.version, 3, "no node mistakes it for the lost one");
    server.stop().await;
}

#[tokio::test]
async fn each_backup_under_load_is_one_moment_also_when_two_are_made_at_once() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let disk = Disk::new(1);
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    let api = server.api.clone();
    let load = tokio::spawn(async move {
        for n in 0_u32.. {
            let yaml = format!("{{name: load-{}, image: v{n}, replicas: 2}}", n % 7);
            api.deploy(yaml, knit_rpc::spec::Format::Yaml).await.expect("accepted");
        }
    });
    let out = tempfile::tempdir().unwrap();
    let mut sizes = Vec::new();
    for round in 0..4 {
        let state = home.dir.path();
        let files = [0, 1].map(|n| out.path().join(format!("{round}-{n}.tar")));
        let mut both = Vec::new();
        for file in &files {
            let mut one = command(state, "backup", &["--out", text(file)]);
            both.push(one.stderr(Stdio::piped()).spawn().unwrap());
        }
        for one in both {
            let output = tokio::task::spawn_blocking(|| one.wait_with_output()).await.unwrap();
            said(&output.unwrap()).unwrap();
        }
        for file in &files {
            sizes.push(whole(file).await);
        }
    }
    load.abort();
    assert!(sizes.last() > sizes.first(), "it was written to all the while: {sizes:?}");
    assert_eq!(names(out.path()).len(), 8, "nothing else is left");
    server.stop().await;
}

/// Restores a backup elsewhere, and looks whether all of it fits; how long its audit is.
async fn whole(file: &Path) -> u64 {
    let into = tempfile::tempdir().expect("as it should be");
    let state = into.path().join("state");
    run(&state, "restore", &[text(file)]).expect("as it should be");
    let identity = Identity::load_or_create(&state.join("identity.json"), &state.join("none"));
    let store = Store::open(&state.join("knit.db"), &identity.expect("as it should be").cluster)
        .await
        .expect("as it should be");
    let snapshot = store
        .snapshot("0".repeat(32).parse().expect("as it should be"), knit_runtime::clock::now());
    let snapshot = snapshot.await.expect("as it should be");
    for instance in snapshot.instances.values() {
        assert!(snapshot.deployments.contains_key(&instance.deployment), "{instance:?}");
        assert!(snapshot.specs.contains_key(&instance.spec), "{instance:?}");
    }
    for deployment in snapshot.deployments.values() {
        assert!(deployment.revisions.contains_key(&deployment.revision), "{deployment:?}");
    }
    let head = store.audit_head().await.expect("as it should be");
    store.close().await;
    head.map_or(0, |entry| entry.sequence)
}
