//! One case after another.

use std::time::Duration;

use knit_rpc::message::Phase;
use knit_rpc::spec::Protocol;

use super::model::carry_out;
use super::*;
use crate::observed::Step;
use crate::publish::{HostPort, Scope, Target};
use crate::{status, timer};

const NOTHING: [&str; 0] = [];

fn web(revision: u64) -> Wanted {
    let mut spec = spec("web", None);
    spec.ports.push(port(8080));
    wanted("web", 0, revision, spec)
}

fn decide(desired: &Desired, observed: &Observed, seconds: u64) -> Vec<Action> {
    reconcile(desired, observed, &BTreeSet::new(), at(seconds))
}

fn published(observed: &Observed) -> Vec<(u16, Ipv4Addr)> {
    observed.published.iter().map(|(key, target)| (key.port, target.address)).collect()
}

fn key(port: u16) -> HostPort {
    HostPort { scope: Scope::Mesh, protocol: Protocol::Tcp, port }
}

fn target(host: u8) -> Target {
    Target { address: Ipv4Addr::new(10, 208, 0, host), port: 80 }
}

#[test]
fn an_instance_is_brought_up_from_nothing() {
    let desired = desired([web(1)]);
    let mut observed = Observed::default();
    let actions = decide(&desired, &observed, 10);
    assert_eq!(names(&actions), ["pull", "create", "start"]);
    carry_out(&actions, &desired, &mut observed, at(10));
    assert_eq!(names(&decide(&desired, &observed, 10)), ["publish"]);
}

#[test]
fn the_newest_revision_that_runs_has_the_port_and_the_old_one_goes_after_it() {
    let (old, new) = (web(1), web(2));
    let both = desired([old.clone(), new.clone()]);
    let mut observed = Observed::default();
    observed.containers.push(container(&old, ContainerState::Running, 2));
    observed.images.insert("web".to_owned());
    carry_out(&decide(&both, &observed, 10), &both, &mut observed, at(10));
    assert_eq!(published(&observed), [(8080, Ipv4Addr::new(10, 208, 0, 2))]);

    carry_out(&decide(&both, &observed, 11), &both, &mut observed, at(11));
    assert_eq!(published(&observed), [(8080, Ipv4Addr::new(10, 208, 0, 3))]);

    assert_eq!(names(&decide(&desired([new]), &observed, 12)), ["stop", "remove"]);
}

#[test]
fn who_lost_its_port_to_another_goes_on_with_the_connections_it_has() {
    let (old, new) = (web(1), web(2));
    let mut observed = Observed::default();
    observed.containers.push(container(&old, ContainerState::Running, 2));
    observed.containers.push(container(&new, ContainerState::Running, 3));
    observed.images.insert("web".to_owned());
    observed.published.insert(key(8080), target(2));
    let only_new = desired([new]);

    let actions = decide(&only_new, &observed, 10);
    assert_eq!(names(&actions), ["publish"], "not stopped in the moment it loses the port");
    carry_out(&actions, &only_new, &mut observed, at(10));
    observed.memory.superseded.insert(old.assigned.id.clone(), at(12));
    assert_eq!(names(&decide(&only_new, &observed, 11)), NOTHING);
    assert_eq!(names(&decide(&only_new, &observed, 12)), ["stop", "remove"]);
}

#[test]
fn a_newer_one_takes_the_port_over_once_it_accepts_connections() {
    let (old, new) = (web(1), web(2));
    let both = desired([old.clone(), new.clone()]);
    let mut observed = Observed::default();
    observed.containers.push(container(&old, ContainerState::Running, 2));
    observed.containers.push(container(&new, ContainerState::Running, 3));
    observed.published.insert(key(8080), target(2));
    let ours = super::ours(&both, &observed);
    assert_eq!(publish::successors(Some(&both), &ours, &observed), BTreeSet::from([target(3)]));
    observed.deaf.insert(target(3));
    assert_eq!(names(&decide(&both, &observed, 10)), NOTHING);
    let phases = |observed: &Observed| {
        let all = status::inventory(&owner(), Some(&both), observed, at(100));
        [&old, &new].map(|one| {
            all.iter().find(|status| status.id == one.assigned.id).map(|status| status.phase)
        })
    };
    assert_eq!(phases(&observed), [Some(Phase::Running), Some(Phase::Starting)]);

    observed.deaf.clear();
    carry_out(&decide(&both, &observed, 10), &both, &mut observed, at(10));
    assert_eq!(observed.published[&key(8080)], target(3));
    assert_eq!(phases(&observed), [Some(Phase::Running), Some(Phase::Running)]);

    // With nobody to keep the port it is the newer one's, whatever it accepts.
    observed.deaf.insert(target(3));
    observed.containers.remove(0);
    assert_eq!(names(&decide(&desired([new.clone()]), &observed, 10)), NOTHING);
}

#[test]
fn an_unwanted_container_loses_its_ports_first_and_its_files_last() {
    let old = web(1);
    let mut observed = Observed::default();
    observed.containers.push(container(&old, ContainerState::Running, 2));
    observed.files.insert(old.assigned.id.clone());
    observed.published.insert(key(8080), target(2));
    let actions = decide(&desired([]), &observed, 10);
    assert_eq!(names(&actions), ["publish", "stop", "remove", "remove-files"]);
    assert_eq!(actions[0], Action::Publish(crate::publish::PortMap::new()));
}

#[test]
fn a_container_that_ended_is_started_again_after_a_growing_pause() {
    let one = web(1);
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    observed.containers.push(container(&one, ContainerState::Exited, 2));
    let finished = 2;
    for (streak, pause) in [(0, 1), (1, 2), (2, 4), (9, 60)] {
        let restarts = observed.memory.restarts.entry(one.assigned.id.clone()).or_default();
        restarts.streak = streak;
        assert_eq!(names(&decide(&desired, &observed, finished + pause - 1)), NOTHING, "{streak}");
        assert_eq!(names(&decide(&desired, &observed, finished + pause)), ["start"], "{streak}");
    }
    observed.containers[0].finished_at = Some(at(500));
    assert_eq!(names(&decide(&desired, &observed, 501)), ["start"], "it had run well");
}

#[test]
fn a_container_that_docker_could_not_start_is_made_anew_after_the_pause() {
    let one = web(1);
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    observed.images.insert("web".to_owned());
    let mut broken = container(&one, ContainerState::Created, 2);
    broken.error = "exec: no such file".to_owned();
    observed.containers.push(broken);
    observed.memory.failed(&one.assigned.id, "bad command".to_owned(), true, at(10));
    let clearing = decide(&desired, &observed, 39);
    assert_eq!(names(&clearing), ["remove"]);
    observed.memory.succeeded(&one.assigned.id, &clearing, false);
    assert_eq!(names(&decide(&desired, &observed, 40)), ["remove", "create", "start"]);
    observed.containers.clear();
    assert_eq!(names(&decide(&desired, &observed, 39)), NOTHING, "clearing away mended nothing");
}

#[test]
fn half_made_containers_are_started_and_busy_instances_left_alone() {
    let one = web(1);
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    observed.containers.push(container(&one, ContainerState::Created, 2));
    assert_eq!(names(&decide(&desired, &observed, 10)), ["start"]);
    observed.memory.busy.insert(one.assigned.id.clone(), Step::Starting);
    assert_eq!(names(&decide(&desired, &observed, 10)), NOTHING);
}

#[test]
fn a_port_of_the_hosts_is_refused_by_name() {
    let desired = desired([web(1)]);
    let mut observed = Observed { listeners: vec![listener(8080)], ..Observed::default() };
    let actions = decide(&desired, &observed, 10);
    let [Action::Fail { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(reason, "port 8080/tcp on mesh is taken: nginx (pid 812) listens on it");
    carry_out(&actions, &desired, &mut observed, at(10));
    assert_eq!(names(&decide(&desired, &observed, 20)), NOTHING);

    // On another address than ours it is nobody's business, and the way is free at once.
    observed.listeners[0].address = Some(Ipv4Addr::LOCALHOST);
    assert_eq!(names(&decide(&desired, &observed, 20)), ["pull", "create", "start"]);
}

#[test]
fn a_port_on_an_interface_that_is_not_there_is_refused() {
    let mut spec = spec("web", None);
    spec.ports.push(
        serde_json::from_value(
            serde_json::json!({"container_port": 80, "host_port": 80, "host_ip": "iface:eth7"}),
        )
        .unwrap(),
    );
    let one = wanted("web", 0, 1, spec);
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    let actions = decide(&desired, &observed, 10);
    let [Action::Fail { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("no interface \"eth7\""), "{reason}");

    let address = Ipv4Addr::new(192, 0, 2, 9);
    observed.interfaces.insert("eth7".to_owned(), BTreeSet::from([address]));
    observed.containers.push(container(&one, ContainerState::Running, 2));
    carry_out(&decide(&desired, &observed, 10), &desired, &mut observed, at(10));
    let keys: Vec<Scope> = observed.published.keys().map(|key| key.scope).collect();
    assert_eq!(keys, [Scope::Address(address)]);
}

#[test]
fn knits_own_ports_are_refused_even_where_nothing_listens_on_them() {
    for (own, refused) in [(7400, true), (7422, true), (7423, false)] {
        let mut spec = spec("web", None);
        spec.ports.push(port(own));
        let desired = desired([wanted("web", 0, 1, spec)]);
        let actions = decide(&desired, &Observed::default(), 10);
        assert_eq!(names(&actions) == ["fail"], refused, "{own}");
    }
}

#[test]
fn the_second_holder_of_a_port_is_told_who_the_first_is() {
    let web = web(1);
    let mut other = spec("api", None);
    other.ports.push(port(8080));
    let api = wanted("api", 0, 1, other);
    let desired = desired([web.clone(), api.clone()]);
    let mut observed = Observed::default();
    observed.containers.push(container(&web, ContainerState::Running, 2));
    let actions = decide(&desired, &observed, 10);
    let Some(Action::Fail { instance, reason }) = actions.last() else { panic!("{actions:?}") };
    assert_eq!(*instance, api.assigned.id);
    assert!(reason.contains("is held by default/web.0"), "{reason}");
}

#[test]
fn the_status_says_running_only_once_the_ports_lead_there() {
    let one = web(1);
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    let phase = |observed: &Observed| {
        let all = status::inventory(&owner(), Some(&desired), observed, at(100));
        (all[0].phase, all[0].message.clone())
    };
    assert_eq!(phase(&observed), (Phase::Pending, None));
    observed.memory.busy.insert(one.assigned.id.clone(), Step::Pulling);
    assert_eq!(phase(&observed).0, Phase::Pulling);
    observed.memory.busy.clear();
    observed.containers.push(container(&one, ContainerState::Running, 2));
    assert_eq!(phase(&observed).0, Phase::Starting);
    observed.published.insert(key(8080), target(2));
    assert_eq!(phase(&observed), (Phase::Running, None));
    observed.containers[0] = container(&one, ContainerState::Exited, 2);
    assert_eq!(phase(&observed), (Phase::Restarting, Some("exited with code 1".to_owned())));
    observed.memory.failed(&one.assigned.id, "no such image".to_owned(), true, at(10));
    assert_eq!(phase(&observed), (Phase::Failed, Some("no such image".to_owned())));
}

#[test]
fn on_the_hosts_network_nothing_is_mapped_and_nothing_refused() {
    let mut spec = spec("web", None);
    spec.ports.push(port(8080));
    spec.networks.push("host".to_owned());
    let one = wanted("web", 0, 1, spec);
    let desired = desired([one.clone()]);
    let mut observed = Observed { listeners: vec![listener(8080)], ..with_its_network() };
    assert_eq!(names(&decide(&desired, &observed, 10)), ["pull", "create", "start"]);
    let mut found = container(&one, ContainerState::Running, 2);
    found.addresses.clear();
    found.networks.clear();
    observed.containers.push(found);
    assert_eq!(names(&decide(&desired, &observed, 10)), NOTHING);
    let all = status::inventory(&owner(), Some(&desired), &observed, at(100));
    assert_eq!(all[0].phase, Phase::Running);
}

#[test]
fn what_nobody_wants_is_stopping_and_what_nobody_knows_runs_on() {
    let one = web(1);
    let mut observed = Observed::default();
    observed.containers.push(container(&one, ContainerState::Running, 2));
    let phase = |desired: Option<&Desired>| {
        status::inventory(&owner(), desired, &observed, at(100))[0].phase
    };
    assert_eq!(phase(Some(&desired([]))), Phase::Stopping);
    assert_eq!(phase(None), Phase::Running);
}

#[test]
fn an_instance_runs_at_once_but_after_an_end_only_once_it_has_been_up_for_a_while() {
    let one = wanted("worker", 0, 1, spec("worker", None));
    let desired = desired([one.clone()]);
    let started = at(100);
    let mut found = container(&one, ContainerState::Running, 2);
    found.started_at = Some(started);
    let mut again = found.clone();
    again.finished_at = Some(at(98));
    let why = "up for less than 5 s after it ended with code 3";
    // What it is, milliseconds since its start, what is left.
    let cases = [
        (&found, 0, None, None),
        (&again, 1_000, Some(4_000), Some(why)),
        (&again, 4_999, Some(1), Some(why)),
        (&again, 5_000, None, None),
        (&again, 86_400_000, None, None),
    ];
    for (container, up, left, message) in cases {
        let mut observed = Observed { containers: vec![container.clone()], ..Observed::default() };
        observed.memory.exits.insert(one.assigned.id.clone(), 3);
        let now = started.plus(Duration::from_millis(up));
        let left = left.map(|left| now.plus(Duration::from_millis(left)));
        let ours = super::ours(&desired, &observed);
        assert_eq!(timer::next(&desired, &ours, &observed, now), left, "{up}");
        let phase = if left.is_some() { Phase::Starting } else { Phase::Running };
        let all = status::inventory(&owner(), Some(&desired), &observed, now);
        assert_eq!((all[0].phase, all[0].message.as_deref()), (phase, message), "{up}");
        let leftover = status::inventory(&owner(), None, &observed, now);
        assert_eq!(leftover[0].phase, phase, "{up}");
    }
    assert_eq!(again.settles_in(at(40)), None, "the clock was set back");
    again.state = ContainerState::Exited;
    assert_eq!(again.settles_in(started), None);
}

#[test]
fn the_code_that_a_container_ended_with_is_remembered_while_it_is_up_again() {
    let one = web(1);
    let id = &one.assigned.id;
    let mut observed = Observed::default();
    observed.memory.saw(id, &container(&one, ContainerState::Exited, 2));
    let mut up = container(&one, ContainerState::Running, 2);
    up.exit_code = Some(0);
    observed.memory.saw(id, &up);
    assert_eq!(observed.memory.exits.get(id), Some(&1));
    observed.memory.keep(&BTreeSet::new());
    assert!(observed.memory.exits.is_empty());
}

#[test]
fn a_paused_container_does_not_run_and_is_left_alone() {
    let one = web(1);
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    observed.containers.push(container(&one, ContainerState::Paused, 2));
    observed.published.insert(key(8080), target(2));
    assert_eq!(names(&decide(&desired, &observed, 100)), NOTHING);
    for desired in [Some(&desired), None] {
        let status = status::inventory(&owner(), desired, &observed, at(100)).remove(0);
        assert_eq!(status.phase, Phase::Failed);
        let message = status.message.unwrap();
        assert!(message.starts_with("paused: somebody paused its container"), "{message}");
        assert!(message.contains(&format!("`docker unpause {}`", container::name(&one))));
    }
}

#[test]
fn a_container_that_was_taken_off_its_network_is_replaced_after_a_growing_pause() {
    let one = web(1);
    let id = &one.assigned.id;
    let desired = desired([one.clone()]);
    let mut observed = Observed::default();
    observed.images.insert("web".to_owned());
    let mut cut_off = container(&one, ContainerState::Running, 2);
    (cut_off.started_at, cut_off.networks) = (Some(at(100)), BTreeSet::new());
    cut_off.addresses.clear();
    observed.containers.push(cut_off);
    let status = status::inventory(&owner(), Some(&desired), &observed, at(200)).remove(0);
    assert_eq!(status.phase, Phase::Restarting);
    assert_eq!(
        status.message.unwrap(),
        "its container is on no network any more: it is replaced by a new one"
    );
    for (streak, due) in [(0, 101), (1, 102), (4, 116), (9, 160)] {
        observed.memory.restarts.entry(id.clone()).or_default().streak = streak;
        assert_eq!(names(&decide(&desired, &observed, due - 1)), NOTHING, "{streak}");
        let actions = decide(&desired, &observed, due);
        assert_eq!(names(&actions), ["stop", "remove", "create", "start"], "{streak}");
        assert!(matches!(actions.last(), Some(Action::Start { again: true, .. })), "counted");
    }
    observed.memory.failed_to_go(id, "Docker would not".to_owned(), false, at(200));
    assert_eq!(
        names(&decide(&desired, &observed, 200)),
        NOTHING,
        "a failed attempt is not hurried"
    );

    // Somebody who pauses it is let alone, whatever it hangs on.
    observed.memory.faults.clear();
    observed.containers[0].state = ContainerState::Paused;
    assert_eq!(names(&decide(&desired, &observed, 200)), NOTHING);
}

#[test]
fn what_was_wrong_with_its_start_keeps_no_instance_from_going() {
    let one = web(1);
    let id = &one.assigned.id;
    let mut observed = Observed::default();
    observed.containers.push(container(&one, ContainerState::Running, 2));
    observed.memory.failed(id, "not ready within 60 s".to_owned(), true, at(100));
    let gone = desired([]);
    assert_eq!(names(&decide(&gone, &observed, 101)), ["stop", "remove"]);
    observed.memory.failed_to_go(id, "Docker would not".to_owned(), false, at(101));
    assert_eq!(names(&decide(&gone, &observed, 101)), NOTHING, "it is tried again later");
}
