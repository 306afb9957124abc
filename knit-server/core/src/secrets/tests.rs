use knit_rpc::api::Cause;
use knit_rpc::sealed_box::OpeningKey;
use knit_rpc::spec::{Format, parse};

use super::*;
use crate::plan::{Dirty, plan};
use crate::revise;
use crate::testing::*;

fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

/// A cluster whose agents take secrets, and which has `db` and `api`.
fn with_secrets(nodes: u8) -> Snapshot {
    let mut snapshot = cluster(nodes);
    for n in 1..=nodes {
        let key = OpeningKey::from_bytes([n; 32]).sealing_key();
        node_mut(&mut snapshot, n).sealing_key = Some(key);
    }
    set(&mut snapshot, "db", NOW);
    set(&mut snapshot, "api", NOW);
    snapshot
}

fn set(snapshot: &mut Snapshot, secret: &str, at: Timestamp) -> u64 {
    let project = ProjectName::default();
    let number = next_version(snapshot, &project, &name(secret));
    let version = Version {
        bytes: 7,
        is_text: true,
        created_at: at,
        created_by: "t".to_owned(),
        erased: false,
    };
    let known = snapshot.secrets.entry((project, name(secret))).or_default();
    known.versions.insert(number, version);
    number
}

fn read(secrets: &str) -> DeploymentSpec {
    let text = format!("{{name: d1, image: v1, secrets: [{secrets}]}}");
    parse(&text, Format::Yaml).unwrap()
}

fn deployed(snapshot: &mut Snapshot, secrets: &str) {
    let spec = resolve(snapshot, read(secrets)).unwrap();
    deploy_spec(snapshot, 1, spec, NOW);
    settle(snapshot, NOW);
    run_all(snapshot);
    settle(snapshot, after(5));
}

fn versions(snapshot: &Snapshot) -> Vec<BTreeMap<SecretName, u64>> {
    let all = snapshot.instances.values();
    all.map(|one| of_instance(snapshot.spec_of(one).unwrap(), one)).collect()
}

#[test]
fn the_revision_names_what_rolls_out_and_the_instance_the_rest() {
    let mut snapshot = with_secrets(1);
    deployed(&mut snapshot, "{name: db}, {name: api, on_change: none}");
    let instance = snapshot.instances.values().next().unwrap();
    let spec = snapshot.spec_of(instance).unwrap().clone();
    assert_eq!(spec.secret_versions, [(name("db"), 1)].into());
    assert_eq!(instance.secrets, [(name("api"), 1)].into());
    assert_eq!(versions(&snapshot), [[(name("api"), 1), (name("db"), 1)].into()]);

    set(&mut snapshot, "api", after(6));
    let again = resolve(&snapshot, read("{name: db}, {name: api, on_change: none}")).unwrap();
    assert_eq!(again.instance.hash(), spec.hash(), "nothing about the container changes");
    set(&mut snapshot, "db", after(6));
    let other = resolve(&snapshot, read("{name: db}, {name: api, on_change: none}")).unwrap();
    assert_ne!(other.instance.hash(), spec.hash());
    assert!(plan(&snapshot, &Dirty::All, after(7)).is_empty(), "a plan never picks versions up");
}

#[test]
fn a_new_instance_gets_the_newest_and_a_signalled_one_follows() {
    let mut snapshot = with_secrets(1);
    let project = ProjectName::default();
    deployed(&mut snapshot, "{name: db, on_change: none}");
    assert!(signalled(&snapshot, &project, &name("db"), 2).is_empty());
    assert!(rolled_out(&snapshot, &project, &name("db")).is_empty());
    set(&mut snapshot, "db", after(6));
    let again = resolve(&snapshot, read("{name: db, on_change: none}")).unwrap();
    beat_all(&mut snapshot, after(6));
    deploy_spec(&mut snapshot, 1, DeploymentSpec { replicas: 2, ..again }, after(6));
    settle(&mut snapshot, after(7));
    let mut found: Vec<u64> = versions(&snapshot).iter().map(|all| all[&name("db")]).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2], "the old one stays, the new one has the newest");

    let mut snapshot = with_secrets(1);
    deployed(&mut snapshot, "{name: db, on_change: signal, signal: HUP}");
    let after = signalled(&snapshot, &project, &name("db"), 2);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].secrets, [(name("db"), 2)].into());
}

#[test]
fn an_agent_that_cannot_take_secrets_gets_no_instance_with_any() {
    let mut snapshot = with_secrets(2);
    node_mut(&mut snapshot, 1).sealing_key = None;
    deployed(&mut snapshot, "{name: db}");
    assert_eq!(placed(&snapshot), ["d1.0 r1 a0 on n2"]);
    node_mut(&mut snapshot, 2).sealing_key = None;
    amend(&mut snapshot, 1, |spec| spec.replicas = 2);
    let plan = plan(&snapshot, &Dirty::All, after(9));
    let unplaced = &plan.unplaced[&deployment_id(1)][0];
    assert!(unplaced.reasons[0].contains("its agent cannot take secrets"), "{unplaced:?}");
}

#[test]
fn what_is_unknown_is_named_by_its_field() {
    let snapshot = with_secrets(1);
    let text = "{name: d1, image: v1, secrets: [{name: nope}, {name: db}],
        templates: [{destination: /x, content: '{{secret.gone}} {{secret.db}}'}]}";
    let problems = resolve(&snapshot, parse(text, Format::Yaml).unwrap()).unwrap_err();
    let told: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(told, ["secrets[0].name", "templates[0].content"]);
    assert!(problems[0].message.contains("no secret nope in project default"));
    assert!(problems[1].message.contains("no secret gone in project default"));
}

#[test]
fn a_secret_is_used_by_what_names_it_and_by_the_way_back() {
    let mut snapshot = with_secrets(1);
    let project = ProjectName::default();
    deployed(&mut snapshot, "{name: db}");
    assert_eq!(users(&snapshot, &project, &name("db")), ["d1"]);
    assert!(users(&snapshot, &project, &name("api")).is_empty());
    let other = resolve(&snapshot, read("{name: api}")).unwrap();
    deploy_spec(&mut snapshot, 1, other, after(6));
    let told = users(&snapshot, &project, &name("db"));
    assert_eq!(told, ["d1 (revision 1, to which it may go back)"]);
}

#[test]
fn a_version_is_erased_after_its_time_unless_somebody_needs_it() {
    let mut snapshot = with_secrets(1);
    deployed(&mut snapshot, "{name: db}");
    let later = NOW.plus(KEPT).plus(Duration::from_hours(1));
    set(&mut snapshot, "db", after(6));
    set(&mut snapshot, "api", after(6));
    let erased = |snapshot: &Snapshot, now| -> Vec<(String, u64)> {
        let found = to_erase(snapshot, now).into_iter();
        found.map(|(_, name, version)| (name.to_string(), version)).collect()
    };
    assert!(erased(&snapshot, after(7)).is_empty(), "not before its time");
    assert_eq!(erased(&snapshot, later), [("api".to_owned(), 1)], "db's first is running");
}

#[test]
fn a_server_that_forgot_a_version_does_not_give_its_number_again() {
    let mut snapshot = with_secrets(1);
    set(&mut snapshot, "db", NOW);
    set(&mut snapshot, "db", NOW);
    deployed(&mut snapshot, "{name: db}");
    let key = (ProjectName::default(), name("db"));
    snapshot.secrets.get_mut(&key).unwrap().versions.remove(&3);
    assert_eq!(next_version(&snapshot, &key.0, &key.1), 4);
}

#[test]
fn an_earlier_revision_comes_back_with_its_version_or_with_the_newest_when_that_is_gone() {
    let mut snapshot = with_secrets(1);
    let first = resolve(&snapshot, read("{name: db}")).unwrap();
    set(&mut snapshot, "db", NOW);
    assert_eq!(revived(&snapshot, first.clone()).unwrap(), first);
    let key = (ProjectName::default(), name("db"));
    let known = snapshot.secrets.get_mut(&key).unwrap();
    known.versions.get_mut(&1).unwrap().erased = true;
    let back = revived(&snapshot, first.clone()).unwrap();
    assert_eq!(back.instance.secret_versions, [(name("db"), 2)].into());
    snapshot.secrets.remove(&key);
    assert!(revived(&snapshot, first).is_err());
}

#[test]
fn a_new_version_does_not_start_what_is_stopped() {
    let mut snapshot = with_secrets(1);
    deployed(&mut snapshot, "{name: db}");
    let stopped = revise::stop(&snapshot.deployments[&deployment_id(1)], after(6));
    let version = set(&mut snapshot, "db", after(6));
    let spec = resolve(&snapshot, stopped.spec.clone()).unwrap();
    let cause = Cause::Secret { name: name("db"), version };
    let changed = revise::with_secret(&stopped, spec, cause, after(7));
    assert!(changed.stopped);
    assert_eq!(changed.revision, stopped.revision + 1);
}
