//! What the node's policy refuses is neither made nor started again.

use super::*;

fn decide(desired: &Desired, observed: &Observed) -> Vec<Action> {
    reconcile(desired, observed, &BTreeSet::new(), at(1_000))
}

fn refusal(actions: &[Action]) -> Option<&str> {
    match actions {
        [Action::Fail { reason, .. }] => Some(reason),
        _ => None,
    }
}

#[test]
fn what_is_refused_is_not_made_whatever_the_server_says() {
    let hands_on = |what: serde_json::Value| {
        let mut json = serde_json::json!({ "image": "web" });
        json.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        wanted("web", 0, 1, serde_json::from_value(json).unwrap())
    };
    let all = NodePolicy {
        privileged: true,
        host_network: true,
        cap_add: ["ALL".to_owned()].into(),
        host_paths: ["/".into()].into(),
        ..NodePolicy::default()
    };
    for (what, named) in [
        (serde_json::json!({"privileged": true}), "refuses privileged"),
        (serde_json::json!({"networks": ["host"]}), "refuses the host's network"),
        (serde_json::json!({"cap_add": ["SYS_TIME"]}), "refuses capability SYS_TIME"),
        (
            serde_json::json!({"host_mounts": [{"host_path": "/srv", "path": "/a"}]}),
            "refuses host path /srv",
        ),
    ] {
        let desired = desired([hands_on(what)]);
        let mut observed = Observed::default();
        let actions = decide(&desired, &observed);
        assert!(refusal(&actions).unwrap().contains(named), "{actions:?}");
        observed.policy = all.clone();
        assert_eq!(names(&decide(&desired, &observed)), ["pull", "create", "start"], "{named}");
    }
}

#[test]
fn what_ran_before_the_policy_changed_is_left_alone_and_not_started_again() {
    let spec = InstanceSpec { privileged: true, ..spec("web", None) };
    let web = wanted("web", 0, 1, spec);
    let desired = desired([web.clone()]);
    let mut observed = Observed::default();
    observed.images.insert("web".to_owned());
    observed.containers.push(container(&web, ContainerState::Running, 2));
    assert_eq!(names(&decide(&desired, &observed)), Vec::<&str>::new());
    observed.containers[0] = container(&web, ContainerState::Exited, 2);
    assert!(refusal(&decide(&desired, &observed)).unwrap().contains("refuses privileged"));
}
