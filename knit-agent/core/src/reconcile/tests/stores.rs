//! Networks and volumes: made before what needs them, gone after it.

use knit_rpc::message::{NetworkDriver, NetworkSpec, NodeAssignment};
use knit_rpc::spec::{VolumeMount, VolumeName};

use super::model::carry_out;
use super::*;
use crate::network::{Network, Route};

fn volume(name: &str) -> VolumeName {
    VolumeName::parse(name).unwrap()
}

fn database(revision: u64) -> Wanted {
    let mut spec = spec("db", None);
    spec.volumes.push(VolumeMount {
        name: "data".to_owned(),
        path: "/data".to_owned(),
        read_only: false,
        shared: false,
    });
    wanted("db", 0, revision, spec)
}

fn network(name: &str, subnet: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        project: knit_rpc::id::ProjectName::default(),
        name: name.to_owned(),
        driver: NetworkDriver::Bridge,
        subnet: subnet.map(|subnet| subnet.parse().unwrap()),
        internal: false,
    }
}

/// One instance on these networks, as an assignment brings it.
fn assigned(networks: &[&str], known: Vec<NetworkSpec>) -> Desired {
    let mut spec = spec("web", None);
    spec.networks = networks.iter().map(|name| (*name).to_owned()).collect();
    let one = wanted("web", 0, 1, spec);
    let owner = owner();
    let assignment = NodeAssignment {
        cluster: owner.cluster,
        node: owner.node,
        generation: knit_rpc::message::Generation::default(),
        specs: [(one.assigned.spec.clone(), (*one.spec).clone())].into(),
        instances: vec![one.assigned],
        policies: BTreeMap::new(),
        networks: known,
        remove_volumes: BTreeSet::new(),
        keep_images: BTreeSet::new(),
        secrets: Vec::new(),
    };
    Desired::of(&assignment).unwrap()
}

fn decide(desired: &Desired, observed: &Observed) -> Vec<Action> {
    reconcile(desired, observed, &BTreeSet::new(), at(10))
}

fn reason(actions: &[Action]) -> &str {
    let [Action::Fail { reason, .. }] = actions else { panic!("{actions:?}") };
    reason
}

#[test]
fn a_volume_is_made_before_its_container_and_outlives_it() {
    let with = desired([database(1)]);
    let mut observed = Observed::default();
    let actions = decide(&with, &observed);
    let is_made = |action: &Action| matches!(action, Action::EnsureVolume { .. });
    let made = actions.iter().position(is_made).unwrap();
    assert!(matches!(actions[made + 1], Action::Create { .. }), "{actions:?}");
    carry_out(&actions, &with, &mut observed, at(10));
    assert_eq!(observed.volumes, [volume("default/data.0")].into());

    let without = desired([]);
    carry_out(&decide(&without, &observed), &without, &mut observed, at(11));
    assert_eq!((observed.containers.len(), observed.volumes.len()), (0, 1));
    assert_eq!(decide(&without, &observed), []);
}

#[test]
fn a_volume_is_removed_when_somebody_asked_and_nobody_has_it() {
    let mut with = desired([database(1)]);
    with.remove_volumes = [volume("default/data.0"), volume("default/never.0")].into();
    let volumes = [volume("default/data.0"), volume("default/other.0")].into();
    let mut observed = Observed { volumes, ..Observed::default() };
    let is_removal = |action: &Action| matches!(action, Action::RemoveVolume(_));
    let actions = decide(&with, &observed);
    assert!(!actions.iter().any(is_removal), "an instance is about to use it");
    carry_out(&actions, &with, &mut observed, at(10));

    let without = Desired { remove_volumes: with.remove_volumes, ..desired([]) };
    let actions = decide(&without, &observed);
    assert!(!actions.iter().any(is_removal), "its container is still there: {actions:?}");
    carry_out(&actions, &without, &mut observed, at(11));
    assert_eq!(decide(&without, &observed), [Action::RemoveVolume(volume("default/data.0"))]);

    observed.memory.tidying.done(true, at(9));
    assert_ne!(decide(&without, &observed), [], "a second after it failed");
    observed.memory.tidying.done(true, at(10));
    assert_eq!(decide(&without, &observed), []);
}

#[test]
fn two_instances_of_a_slot_never_write_to_its_volume_at_once() {
    let (old, new) = (database(1), database(2));
    let mut observed = Observed::default();
    observed.containers.push(container(&old, ContainerState::Running, 2));
    observed.images.insert("db".to_owned());
    let desired = desired([new]);
    let actions = decide(&desired, &observed);
    let stops = |action: &Action| matches!(action, Action::Stop { .. } | Action::Remove { .. });
    assert!(actions.iter().all(stops), "{actions:?}");
    carry_out(&actions, &desired, &mut observed, at(10));
    let actions = decide(&desired, &observed);
    assert!(matches!(actions.last(), Some(Action::Start { .. })), "{actions:?}");
}

#[test]
fn a_network_goes_by_dockers_name_and_is_made_first_and_removed_last() {
    let desired = assigned(&["backend", "host-made"], vec![network("backend", None)]);
    let joined = &desired.instances.values().next().unwrap().spec.networks;
    assert_eq!(*joined, ["knit.default.backend", "host-made"]);
    let mut observed = Observed::default();
    let actions = decide(&desired, &observed);
    let made: Vec<&Action> =
        actions.iter().filter(|one| matches!(one, Action::EnsureNetwork { .. })).collect();
    assert_eq!(made.len(), 1, "what is not ours is the user's to make: {actions:?}");
    carry_out(&actions, &desired, &mut observed, at(10));

    let none = Desired { instances: BTreeMap::new(), ..desired };
    let first = decide(&none, &observed);
    let removal = Action::RemoveNetwork("knit.default.backend".to_owned());
    assert!(!first.contains(&removal), "a container is on it");
    carry_out(&first, &none, &mut observed, at(11));
    observed.networks.push(Network { name: "knit.default.x".to_owned(), ..Network::default() });
    assert_eq!(decide(&none, &observed), [removal], "and not the one without our labels");
}

#[test]
fn the_hosts_own_network_may_have_a_name() {
    let host = NetworkSpec { driver: NetworkDriver::Host, ..network("outside", None) };
    let desired = assigned(&["outside"], vec![host]);
    assert!(desired.instances.values().next().unwrap().spec.uses_host_network());
    let actions = decide(&desired, &Observed::default());
    assert!(!actions.iter().any(|one| matches!(one, Action::EnsureNetwork { .. })));
}

#[test]
fn a_subnet_that_the_host_knows_is_refused_with_both_names() {
    let desired = assigned(&["backend"], vec![network("backend", Some("10.1.0.0/16"))]);
    let mut observed = Observed::default();
    let route = |network: &str, interface: &str| Route {
        network: network.parse().unwrap(),
        interface: interface.to_owned(),
    };
    observed.routes = vec![route("10.2.0.0/24", "eth1"), route("10.1.2.0/24", "eth0")];
    assert_eq!(
        reason(&decide(&desired, &observed)),
        "network backend: 10.1.0.0/16 overlaps 10.1.2.0/24 of eth0"
    );
    observed.networks.push(Network {
        name: "other".to_owned(),
        subnets: ["10.0.0.0/8".parse().unwrap()].into(),
        ..Network::default()
    });
    assert_eq!(
        reason(&decide(&desired, &observed)),
        "network backend: 10.1.0.0/16 overlaps 10.0.0.0/8 of the Docker network \"other\""
    );
    observed.networks.clear();
    observed.routes.pop();
    let actions = decide(&desired, &observed);
    assert!(matches!(actions.last(), Some(Action::Start { .. })), "the way is free: {actions:?}");
    carry_out(&actions, &desired, &mut observed, at(10));

    // Its own bridge is not in its way, neither as it is nor when it is to be made anew.
    observed.routes.push(route("10.1.0.0/16", "br-knit.default.backend"));
    observed.containers.clear();
    for subnet in ["10.1.0.0/16", "10.1.0.0/17"] {
        let desired = assigned(&["backend"], vec![network("backend", Some(subnet))]);
        let actions = decide(&desired, &observed);
        assert!(matches!(actions.last(), Some(Action::Start { .. })), "{actions:?}");
    }
}
