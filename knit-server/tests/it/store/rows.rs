//! Every row comes back as it was written, and what an older program wrote is taken along.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::api::{Availability, Cause, RolloutState};
use knit_rpc::id::{ClusterId, DeploymentId, DeploymentName, InstanceId, NodeId, ProjectName};
use knit_rpc::message::{Generation, NetworkDriver, NetworkSpec};
use knit_rpc::sealed_box::OpeningKey;
use knit_rpc::spec::{DeploymentSpec, InstanceSpec, VolumeName};
use knit_server::store::{self, Store};
use knit_server_core::snapshot::{Network, Volume};
use knit_server_core::{Deployment, Instance, Node, Snapshot, revise};
use sqlx::Connection as _;
use sqlx::migrate::Migrator;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn cluster() -> ClusterId {
    ClusterId::from_bytes([9; 16])
}

fn spec(image: &str) -> DeploymentSpec {
    let instance = InstanceSpec { image: image.to_owned(), ..InstanceSpec::default() };
    DeploymentSpec::new(DeploymentName::parse("web").expect("a name"), instance)
}

fn node(n: u8) -> Node {
    let mut node = Node::new(NodeId::from_bytes([n; 16]), format!("U{n}"));
    node.number = u32::from(n);
    node.availability = Availability::Draining;
    node.label_changes = [("a".to_owned(), Some("b".to_owned())), ("c".to_owned(), None)].into();
    node.rebooted_at = Some(NOW);
    node.sealing_key = Some(OpeningKey::from_bytes([n; 32]).sealing_key());
    node.published = Generation { epoch: 1, counter: 7 };
    node.generation = Generation { epoch: 1, counter: 8 };
    node
}

async fn put(store: &Store, deployment: &Deployment) {
    let mut write = store.begin().await.expect("a write");
    store::deployments::put(&mut write, deployment).await.expect("it is written");
    store::commit(write).await.expect("it is stored");
}

async fn read(store: &Store) -> Snapshot {
    store.snapshot(cluster(), NOW).await.expect("it is read")
}

/// In the middle of the rollout of its third revision; the second was rolled back.
fn walked() -> Deployment {
    let first = revise::first(DeploymentId::from_bytes([1; 16]), spec("v1"), NOW);
    let mut second = revise::next(&first, spec("v2"), Cause::Deploy, NOW);
    let revision = second.revisions.get_mut(&2).expect("it is there");
    revision.state = RolloutState::RolledBack;
    revision.message = Some("it crashed".to_owned());
    revision.log = vec!["oh".to_owned(), "no".to_owned()];
    revision.ended_at = Some(NOW);
    second.stable = Some(1);
    second.stopped = true;
    second.restart_floor = 1;
    let cause = Cause::Rollback { to: 1, of: 2, automatic: true };
    revise::pause(&revise::next(&second, spec("v1"), cause, NOW)).expect("it has a rollout")
}

#[tokio::test]
async fn every_row_is_read_back_as_it_was_written() {
    let store = Store::in_memory(&cluster()).await.unwrap();
    let deployment = walked();
    let instance = Instance {
        id: InstanceId::derive(&deployment.id, 0, 2, 1),
        deployment: deployment.id.clone(),
        slot: 0,
        revision: 2,
        attempt: 1,
        node: node(1).id,
        spec: spec("v2").instance.hash(),
        retry: true,
        because: "its data is there".to_owned(),
        secrets: [("db".parse().expect("a name"), 3)].into(),
    };
    let volume = Volume { node: node(1).id, created_at: NOW, removing: true };
    let name = VolumeName::parse("shop/db.1").unwrap();
    let network = Network {
        spec: NetworkSpec {
            project: ProjectName::parse("shop").unwrap(),
            name: "back".to_owned(),
            driver: NetworkDriver::Bridge,
            subnet: Some("10.9.0.0/24".parse().unwrap()),
            internal: true,
        },
        created_at: NOW,
    };
    put(&store, &deployment).await;
    let mut write = store.begin().await.unwrap();
    store::nodes::put(&mut write, &node(1)).await.unwrap();
    store::deployments::put_instance(&mut write, &instance).await.unwrap();
    store::volumes::put(&mut write, &name, &volume).await.unwrap();
    store::networks::put(&mut write, &network).await.unwrap();
    let gone = DeploymentId::from_bytes([2; 16]);
    for at in [NOW, NOW.plus(std::time::Duration::from_secs(1))] {
        store::deployments::note_removed(&mut write, &gone, at).await.unwrap();
    }
    store::commit(write).await.unwrap();

    let found = read(&store).await;
    let specs = ["v1", "v2"].map(|image| spec(image).instance);
    let wanted = Snapshot {
        nodes: [(node(1).id, node(1))].into(),
        deployments: [(deployment.id.clone(), deployment)].into(),
        removed: [(gone.clone(), NOW)].into(),
        specs: specs.into_iter().map(|spec| (spec.hash(), spec)).collect(),
        instances: [(instance.id.clone(), instance)].into_iter().collect(),
        volumes: [(name.clone(), volume)].into(),
        networks: [((network.spec.project.clone(), "back".to_owned()), network)].into(),
        ..Snapshot::empty(cluster(), NOW)
    };
    assert_eq!(found, wanted);

    let mut write = store.begin().await.unwrap();
    store::volumes::remove(&mut write, &name).await.unwrap();
    store::deployments::forget_removed(&mut write, &gone).await.unwrap();
    let shop = ProjectName::parse("shop").unwrap();
    store::networks::remove(&mut write, &shop, "back").await.unwrap();
    store::commit(write).await.unwrap();
    let found = read(&store).await;
    assert_eq!((found.volumes, found.networks), (BTreeMap::new(), BTreeMap::new()));
    assert_eq!(found.removed, BTreeMap::new());
}

#[tokio::test]
async fn the_time_without_a_server_does_not_count_for_a_rollout() {
    let store = Store::in_memory(&cluster()).await.unwrap();
    let deployment = walked();
    put(&store, &deployment).await;
    let later = NOW.plus(std::time::Duration::from_hours(1));
    let found = store.snapshot(cluster(), later).await.unwrap();
    let rollout = found.deployments[&deployment.id].rollout.clone().unwrap();
    assert_eq!(rollout.progress_at, later);
    assert_eq!(rollout.started_at, NOW);
}

#[tokio::test]
async fn a_revision_that_is_no_longer_remembered_is_forgotten_with_its_spec() {
    let store = Store::in_memory(&cluster()).await.unwrap();
    let mut deployment = walked();
    put(&store, &deployment).await;
    assert_eq!(read(&store).await.specs.len(), 2);
    deployment.revisions.remove(&2);
    put(&store, &deployment).await;
    let found = read(&store).await;
    assert_eq!(found.deployments[&deployment.id], deployment);
    let left: Vec<&str> = found.specs.values().map(|spec| spec.image.as_str()).collect();
    assert_eq!(left, ["v1"]);
}

#[tokio::test]
async fn a_removed_node_leaves_its_newest_generation_until_it_is_back() {
    let store = Store::in_memory(&cluster()).await.unwrap();
    let last = Generation { epoch: 1, counter: 9 };
    let mut write = store.begin().await.unwrap();
    store::nodes::put(&mut write, &node(1)).await.unwrap();
    store::nodes::remove(&mut write, &node(1).id, last, NOW).await.unwrap();
    store::commit(write).await.unwrap();
    assert!(read(&store).await.nodes.is_empty());
    assert_eq!(store.removed_nodes().await.unwrap(), [(node(1).id, last)].into());
    let mut write = store.begin().await.unwrap();
    store::nodes::welcome_back(&mut write, &node(1).id).await.unwrap();
    store::commit(write).await.unwrap();
    assert!(store.removed_nodes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_brought_up_to_date_with_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("knit.db");
    let all = Migrator::new(std::path::Path::new("migrations")).await.unwrap();
    let first: Vec<_> = all.iter().filter(|migration| migration.version == 1).cloned().collect();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    Migrator::with_migrations(first).run(&mut raw).await.unwrap();
    let hash = spec("v1").instance.hash();
    let json = serde_json::to_string(&spec("v1")).unwrap();
    let instance = serde_json::to_string(&spec("v1").instance).unwrap();
    let (a, b) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
    for statement in [
        format!("INSERT INTO nodes (id, nkey, facts) VALUES ('{b}', 'U2', '{{}}')"),
        format!("INSERT INTO nodes (id, nkey, facts) VALUES ('{a}', 'U1', '{{}}')"),
        format!("INSERT INTO specs VALUES ('{hash}', '{instance}')"),
        format!(
            "INSERT INTO deployments VALUES ('{}', 'default', 'web', 3, 5, 6, NULL, NULL)",
            "01".repeat(16)
        ),
        format!("INSERT INTO revisions VALUES ('{}', 3, '{json}', '{hash}', 6)", "01".repeat(16)),
        format!(
            "INSERT INTO instances VALUES ('00ff00ff00ff00ff', '{}', 0, 3, 0, '{a}', '{hash}', 0)",
            "01".repeat(16)
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut raw).await.unwrap();
    }
    raw.close().await.unwrap();

    let store = Store::open(&path, &cluster()).await.unwrap();
    let found = read(&store).await;
    let numbers: Vec<u32> = found.nodes.values().map(|node| node.number).collect();
    assert_eq!(numbers, [0, 1], "each has its own");
    let deployment = &found.deployments[&DeploymentId::from_bytes([1; 16])];
    assert_eq!((deployment.stable, deployment.rollout.is_none()), (Some(3), true));
    let revision = &deployment.revisions[&3];
    assert_eq!((revision.state, &revision.cause), (RolloutState::Succeeded, &Cause::Deploy));
    assert_eq!(revision.created_at, Timestamp::from_millis(6));
    assert_eq!(found.instances.len(), 1);
    store.close().await;
}
