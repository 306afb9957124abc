//! What holds whatever is wanted and whatever is found.

use proptest::prelude::*;

use super::model::carry_out;
use super::*;
use crate::publish::Scope;

/// Rounds within which a node without trouble comes to rest: start, publish, and more where
/// containers were replaced or a port became free.
const ROUNDS_MAX: usize = 5;

#[derive(Debug, Clone)]
struct Case {
    desired: Desired,
    observed: Observed,
}

fn any_wanted() -> impl Strategy<Value = Wanted> {
    (0..3usize, 0..3u32, 1..3u64, 0..4u16, any::<bool>()).prop_map(
        |(deployment, slot, revision, host_port, template)| {
            let name = ["web", "api", "db"][deployment];
            let mut spec = spec(name, None);
            if host_port > 0 {
                spec.ports.push(port(8_000 + host_port));
            }
            if template {
                let json = serde_json::json!({"destination": "/x", "content": "hello"});
                spec.templates.push(serde_json::from_value(json).unwrap());
            }
            wanted(name, slot, revision, spec)
        },
    )
}

fn any_state() -> impl Strategy<Value = ContainerState> {
    prop_oneof![
        Just(ContainerState::Created),
        Just(ContainerState::Running),
        Just(ContainerState::Running),
        Just(ContainerState::Exited),
        Just(ContainerState::Dead),
    ]
}

/// Whose labels a found container carries.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Whose {
    Ours,
    OtherCluster,
    OtherNode,
    Nobody,
}

fn any_whose() -> impl Strategy<Value = Whose> {
    prop_oneof![
        6 => Just(Whose::Ours),
        1 => Just(Whose::OtherCluster),
        1 => Just(Whose::OtherNode),
        1 => Just(Whose::Nobody),
    ]
}

fn disowned(mut container: Container, whose: Whose, index: usize) -> Container {
    let other = "f".repeat(32);
    match whose {
        Whose::Ours => return container,
        Whose::OtherCluster => {
            container.labels.insert(container::LABEL_CLUSTER.to_owned(), other);
        }
        Whose::OtherNode => {
            container.labels.insert(container::LABEL_NODE.to_owned(), other);
        }
        Whose::Nobody => container.labels.clear(),
    }
    container.id = format!("foreign-{index}");
    container.name = format!("foreign-{index}");
    container
}

prop_compose! {
    fn any_case()(
        pool in proptest::collection::vec(any_wanted(), 1..10),
        choice in proptest::collection::vec(
            (any::<bool>(), any::<bool>(), any_state(), any_whose(), any::<bool>(), any::<bool>()), 10),
        listening in proptest::collection::vec(8_001..8_004u16, 0..2),
    ) -> Case {
        let pool: BTreeMap<_, _> =
            pool.into_iter().map(|one| (one.assigned.id.clone(), one)).collect();
        let mut observed = Observed::default();
        let mut chosen = Vec::new();
        for (index, (one, (is_wanted, is_found, state, whose, other_spec, cut_off))) in
            pool.into_values().zip(choice).enumerate()
        {
            if is_found {
                let host = u8::try_from(index).unwrap() + 2;
                let mut found = disowned(container(&one, state, host), whose, index);
                if other_spec && index % 3 == 0 {
                    let other = "e".repeat(32);
                    found.labels.insert(container::LABEL_SPEC_HASH.to_owned(), other);
                }
                if cut_off && index % 3 == 1 {
                    found.networks.clear();
                    found.addresses.clear();
                }
                observed.containers.push(found);
            }
            if is_wanted {
                chosen.push(one);
            }
        }
        observed.listeners = listening.into_iter().map(listener).collect();
        Case { desired: desired(chosen), observed }
    }
}

fn decide(case: &Case, now: Timestamp) -> Vec<Action> {
    reconcile(&case.desired, &case.observed, &BTreeSet::new(), now)
}

fn is_ours(container: &Container) -> bool {
    Identity::of(container, &owner()).is_some()
}

/// Whether it is the container of a wanted instance, with the right spec.
fn is_right(case: &Case, container: &Container) -> bool {
    Identity::of(container, &owner()).is_some_and(|identity| {
        case.desired
            .instances
            .get(&identity.instance)
            .is_some_and(|wanted| wanted.assigned.spec == identity.spec)
    })
}

proptest! {
    #[test]
    fn after_its_own_actions_there_is_nothing_left_to_do(mut case in any_case()) {
        let now = at(1_000_000);
        for _ in 0..ROUNDS_MAX {
            let actions = decide(&case, now);
            carry_out(&actions, &case.desired, &mut case.observed, now);
        }
        prop_assert_eq!(decide(&case, now), vec![]);

        for wanted in case.desired.instances.values() {
            let up = case.observed.containers.iter().any(|c| {
                is_right(&case, c) && c.state.is_up() && !c.is_cut_off() && c.name == container::name(wanted)
            });
            prop_assert!(up || case.observed.memory.faults.contains_key(&wanted.assigned.id));
        }
        let only_wanted =
            case.observed.containers.iter().filter(|c| is_ours(c)).all(|c| is_right(&case, c));
        prop_assert!(only_wanted);
    }

    #[test]
    fn what_is_not_ours_is_never_touched(case in any_case()) {
        for action in decide(&case, at(1_000_000)) {
            if let Action::Stop { container, .. }
            | Action::Remove { container, .. }
            | Action::Start { container, .. } = action
            {
                prop_assert!(!container.starts_with("foreign-"));
            }
        }
    }

    #[test]
    fn what_should_run_and_runs_is_never_stopped(case in any_case()) {
        let right: BTreeSet<&String> = case
            .observed
            .containers
            .iter()
            .filter(|c| c.state.is_up() && !c.is_cut_off() && is_right(&case, c))
            .map(|c| &c.id)
            .collect();
        for action in decide(&case, at(1_000_000)) {
            if let Action::Stop { container, .. } | Action::Remove { container, .. } = &action {
                prop_assert!(!right.contains(container), "{action:?}");
            }
        }
    }

    #[test]
    fn the_order_of_what_is_found_is_irrelevant(case in any_case(), by in 0..9usize) {
        let mut turned = case.clone();
        let count = turned.observed.containers.len().max(1);
        turned.observed.containers.rotate_left(by % count);
        turned.observed.containers.reverse();
        prop_assert_eq!(decide(&case, at(1_000_000)), decide(&turned, at(1_000_000)));
    }

    #[test]
    fn ports_lead_only_to_what_runs_and_leave_before_a_stop(case in any_case()) {
        let actions = decide(&case, at(1_000_000));
        let ports = match actions.first() {
            Some(Action::Publish(ports)) => ports,
            _ => &case.observed.published,
        };
        let mut unwanted = BTreeSet::new();
        for action in &actions {
            if let Action::Stop { container, instance } = action
                && !case.desired.instances.contains_key(instance)
            {
                unwanted.insert(container);
            }
        }
        for (key, target) in ports {
            prop_assert_eq!(key.scope, Scope::Mesh);
            let is_live = case.observed.containers.iter().any(|c| {
                is_ours(c)
                    && c.state.is_up()
                    && c.address() == Some(target.address)
                    && !unwanted.contains(&c.id)
            });
            prop_assert!(is_live);
        }
    }
}
