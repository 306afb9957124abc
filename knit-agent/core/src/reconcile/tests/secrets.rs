//! When files of secrets are written, and when a running container is told of new ones.

use knit_rpc::id::SecretName;

use super::*;
use crate::secrets::Held;

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn with_secret(secret: &serde_json::Value, version: u64) -> Wanted {
    let json = serde_json::json!({ "image": "web", "secrets": [secret] });
    let mut wanted = wanted("web", 0, 1, serde_json::from_value(json).unwrap());
    wanted.secrets = Arc::new([(name("db"), Held { version, sealed: None })].into());
    wanted
}

/// What is done for an instance whose container is in this state, and whose files hold `version`.
fn decided(
    secret: &serde_json::Value,
    state: Option<ContainerState>,
    version: Option<u64>,
) -> Vec<Action> {
    let wanted = with_secret(secret, 2);
    let id = wanted.assigned.id.clone();
    let mut observed = Observed::default();
    observed.containers.extend(state.map(|state| container(&wanted, state, 2)));
    observed.images.insert("web".to_owned());
    if let Some(version) = version {
        observed.secrets.insert(id, [(name("db"), version)].into());
    }
    reconcile(&desired([wanted]), &observed, &BTreeSet::new(), at(1_000))
}

#[test]
fn files_are_there_before_a_container_is_made_or_started() {
    let file = serde_json::json!({ "name": "db" });
    let variable = serde_json::json!({ "name": "db", "env": "DB" });
    let (running, exited) = (Some(ContainerState::Running), Some(ContainerState::Exited));
    for (secret, state, version, expected) in [
        (&file, None, None, &["write", "create", "start"][..]),
        (&variable, None, None, &["create", "start"]),
        // After a reboot.
        (&file, exited, None, &["write", "start"]),
        // Half written, or of another version.
        (&file, exited, Some(1), &["write", "start"]),
        (&file, exited, Some(2), &["start"]),
        (&variable, exited, None, &["start"]),
        (&file, running, Some(2), &[]),
        // Nobody asked to be told.
        (&file, running, Some(1), &[]),
    ] {
        let actions = decided(secret, state, version);
        assert_eq!(names(&actions), expected, "{secret} {state:?} {version:?}");
    }
}

#[test]
fn a_running_container_is_told_by_its_signal_once() {
    let secret = serde_json::json!({ "name": "db", "on_change": "signal", "signal": "SIGHUP" });
    let running = Some(ContainerState::Running);
    assert_eq!(names(&decided(&secret, running, Some(2))), Vec::<&str>::new());
    let actions = decided(&secret, running, Some(1));
    let [Action::RefreshSecrets { signals, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(signals, &["SIGHUP"]);
}

#[test]
fn files_of_an_instance_that_is_gone_are_removed() {
    let gone = with_secret(&serde_json::json!({ "name": "db" }), 1).assigned.id;
    let mut observed = Observed::default();
    observed.secrets.insert(gone.clone(), BTreeMap::new());
    let actions = reconcile(&desired([]), &observed, &BTreeSet::new(), at(1_000));
    assert_eq!(actions, [Action::RemoveFiles { instance: gone }]);
}
