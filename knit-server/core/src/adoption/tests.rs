mod late;

use knit_rpc::message::Phase;
use knit_rpc::spec::DeploymentSpec;

use super::*;
use crate::testing::*;
use crate::{assignment, revise};

/// A cluster of two nodes that ran for a while, and what its nodes hold.
fn lived() -> (Snapshot, Vec<SentAssignment>) {
    let mut snapshot = cluster(2);
    deploy_on(&mut snapshot, 1, 3, instance_spec("a"), &[]);
    deploy(&mut snapshot, 2, 1, instance_spec("b"));
    settle(&mut snapshot, NOW);
    run_all(&mut snapshot);
    let ids: Vec<_> = snapshot.instances.keys().cloned().collect();
    for id in &ids {
        let because = "taken in from its node".to_owned();
        snapshot.instances.update(id, |instance| instance.because = because);
    }
    let held = (1..=2)
        .map(|n| {
            let generation = snapshot.nodes[&node_id(n)].generation;
            assignment::of_node(&snapshot, &node_id(n), generation)
        })
        .collect();
    (snapshot, held)
}

#[test]
fn a_server_that_forgot_everything_gets_it_back_from_its_nodes() {
    let (lived, held) = lived();
    let mut forgot = cluster(2);
    forgot.epoch = 1;
    adopt(&forgot, &held[0], NOW).apply(&mut forgot);
    let plan = crate::plan(&forgot, &crate::Dirty::All, NOW);
    assert!(plan.is_empty(), "the slots of the other node are waited for: {plan:?}");

    adopt(&forgot, &held[1], NOW).apply(&mut forgot);
    assert_eq!(forgot.instances, lived.instances);
    assert_eq!(forgot.specs, lived.specs);
    for (id, deployment) in &lived.deployments {
        assert_eq!(forgot.deployments[id].spec, deployment.spec);
    }
    run_all(&mut forgot);
    beat_all(&mut forgot, after(60));
    assert!(settle(&mut forgot, after(60)).unplaced.is_empty());
    assert_eq!(forgot.instances, lived.instances, "nothing moved");
}

#[test]
fn slots_that_nobody_claims_are_filled_after_a_while() {
    let (_, held) = lived();
    let mut forgot = cluster(2);
    forgot.epoch = 1;
    adopt(&forgot, &held[0], NOW).apply(&mut forgot);
    run_all(&mut forgot);
    beat_all(&mut forgot, NOW.plus(HOLD));
    settle(&mut forgot, NOW.plus(HOLD));
    assert!(placed(&forgot).contains(&"d1.1 r1 a1024 on n2".to_owned()), "{:?}", placed(&forgot));
}

#[test]
fn an_older_database_learns_the_newer_revision() {
    let (older, _) = lived();
    let mut newer = older.clone();
    deploy(&mut newer, 2, 1, instance_spec("b2"));
    settle(&mut newer, NOW);
    let moved = newer.instances.values().find(|i| i.revision == 2).unwrap().clone();
    report(&mut newer, &moved, Phase::Running);
    settle(&mut newer, NOW);
    let held = assignment::of_node(&newer, &moved.node, Generation::default());

    let mut restored = older;
    adopt(&restored, &held, NOW).apply(&mut restored);
    assert_eq!(restored.deployments[&deployment_id(2)].revision, 2);
    assert_eq!(restored.deployments[&deployment_id(2)].spec.instance.image, "b2");
    assert!(restored.instances.contains_key(&moved.id));
    assert_eq!(restored.deployments[&deployment_id(1)].hold_until, None, "it is known");
}

#[test]
fn a_name_that_lives_anew_takes_the_old_instance_over() {
    let (_, held) = lived();
    let mut forgot = cluster(2);
    deploy(&mut forgot, 7, 1, instance_spec("new"));
    let name = knit_rpc::id::DeploymentName::parse("d2").unwrap();
    forgot.deployments.get_mut(&deployment_id(7)).unwrap().spec.name = name;
    for held in &held {
        adopt(&forgot, held, NOW).apply(&mut forgot);
    }
    assert!(!forgot.deployments.contains_key(&deployment_id(2)));
    assert!(forgot.instances.values().any(|i| i.deployment == deployment_id(7)));
}

#[test]
fn the_epoch_rises_above_what_an_agent_holds() {
    let at = |epoch, counter| Generation { epoch, counter };
    let mut node = Node::new(node_id(1), String::new());
    node.published = at(1, 5);
    for (applied, forgotten) in [(at(1, 5), false), (at(0, 9), false), (at(1, 6), true)] {
        assert_eq!(is_forgotten(&node, applied), forgotten, "{applied}");
    }
    for (epoch, applied, believable) in [
        (0, 0, true),
        (0, EPOCHS_AHEAD_MAX, true),
        (0, EPOCHS_AHEAD_MAX + 1, false),
        (1, EPOCHS_AHEAD_MAX + 1, true),
        (7, u64::MAX, false),
        (9, 2, true),
    ] {
        assert_eq!(is_believable(epoch, at(applied, 1)), believable, "{epoch} {applied}");
    }
    assert_eq!(epoch_above(0, at(0, 7)), 1);
    assert_eq!(epoch_above(5, at(1, 7)), 5);
}

/// What both nodes of a snapshot hold, at a generation above all that was sent before.
fn held_by_both(snapshot: &Snapshot) -> Vec<SentAssignment> {
    let ahead = Generation { epoch: 0, counter: 1000 };
    (1..=2).map(|n| assignment::of_node(snapshot, &node_id(n), ahead)).collect()
}

/// Goes on from what was restored, with all that nodes hold.
fn learned(restored: &Snapshot, held: &[SentAssignment]) -> Snapshot {
    let mut learned = restored.clone();
    for held in held {
        adopt(&learned, held, NOW).apply(&mut learned);
    }
    learned
}

#[test]
fn what_was_removed_after_the_backup_does_not_come_back() {
    let (older, _) = lived();
    let mut newer = older.clone();
    newer.deployments.get_mut(&deployment_id(1)).unwrap().removed_at = Some(after(5));
    settle(&mut newer, after(5));
    let leaving = held_by_both(&newer);
    // The same once nothing of it is left.
    newer.deployments.remove(&deployment_id(1));
    newer.removed.insert(deployment_id(1), after(5));
    for held in [leaving, held_by_both(&newer)] {
        let mut back = learned(&older, &held);
        assert!(back.deployments[&deployment_id(1)].removed_at.is_some());
        assert!(back.removed.contains_key(&deployment_id(1)));
        beat_all(&mut back, after(60));
        settle(&mut back, after(60));
        assert!(back.instances.values().all(|one| one.deployment == deployment_id(2)));
        assert_eq!(back.instances.values().count(), 1, "the other one runs on");
        // A node that was away when it was removed shows it again.
        let late = assignment::of_node(&older, &node_id(1), Generation { epoch: 0, counter: 999 });
        assert!(adopt(&back, &late, after(60)).instances.is_empty());
    }
    let mut empty = cluster(2);
    empty.epoch = 1;
    let both = [held_by_both(&newer), held_by_both(&older)].concat();
    assert!(!learned(&empty, &both).deployments.contains_key(&deployment_id(1)), "unknown as well");
}

#[test]
fn a_name_that_was_given_anew_after_the_backup_is_its_new_holders() {
    let (older, _) = lived();
    for anew in [0, 9] {
        let mut newer = older.clone();
        newer.deployments.get_mut(&deployment_id(1)).unwrap().removed_at = Some(after(5));
        settle(&mut newer, after(5));
        newer.deployments.remove(&deployment_id(1));
        newer.removed.insert(deployment_id(1), after(5));
        run_all(&mut newer);
        let spec = DeploymentSpec { replicas: 3, ..named(1, instance_spec("anew")) };
        deploy_spec(&mut newer, anew, spec, after(6));
        beat_all(&mut newer, after(6));
        settle(&mut newer, after(6));
        let [one, two] = [0, 1].map(|n| held_by_both(&newer)[n].clone());
        for held in [[one.clone(), two.clone()], [two, one]] {
            let mut back = learned(&older, &held);
            beat_all(&mut back, after(60));
            settle(&mut back, after(60));
            assert_eq!(placed(&newer).len(), 1 + 3);
            assert_eq!(placed(&back), placed(&newer), "nothing is started or stopped");
            let holder = back.named(&ProjectName::default(), &"d1".parse().unwrap());
            assert_eq!(holder.map(|holder| &holder.id), Some(&deployment_id(anew)));
            let ids = |of: &Snapshot| of.instances.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(ids(&back), ids(&newer));
        }
    }
}

#[test]
fn what_was_stopped_or_started_last_is_so_whoever_is_heard_first() {
    let (older, _) = lived();
    let mut stopped = older.clone();
    let known = &stopped.deployments[&deployment_id(1)];
    let stop = revise::stop(known, after(5));
    stopped.deployments.insert(deployment_id(1), stop);
    settle(&mut stopped, after(5));
    let mut started = stopped.clone();
    let start = revise::start(&started.deployments[&deployment_id(1)], after(9));
    started.deployments.insert(deployment_id(1), start);
    beat_all(&mut started, after(9));
    settle(&mut started, after(9));
    assert!(started.instances.values().any(|one| one.deployment == deployment_id(1)));

    let stop = held_by_both(&stopped);
    assert!(learned(&older, &stop).deployments[&deployment_id(1)].stopped);
    let start = held_by_both(&started);
    assert!(!learned(&stopped, &start).deployments[&deployment_id(1)].stopped);
    for held in [[&stop[0], &start[1]], [&start[1], &stop[0]]] {
        let back = learned(&older, &held.map(Clone::clone));
        assert!(!back.deployments[&deployment_id(1)].stopped, "it was started last");
    }
}

#[test]
fn an_instance_that_moved_is_given_up_where_it_was_and_its_slot_waits_for_the_other_node() {
    let (older, _) = lived();
    let mut newer = older.clone();
    node_mut(&mut newer, 1).availability = knit_rpc::api::Availability::Draining;
    for seconds in 0..20 {
        beat_all(&mut newer, after(seconds));
        settle(&mut newer, after(seconds));
        run_all(&mut newer);
    }
    assert_eq!(newer.instances.on_node(&node_id(1)).count(), 0, "{:?}", placed(&newer));
    let held = held_by_both(&newer);

    let mut back = learned(&older, &held[..1]);
    assert_eq!(back.instances.on_node(&node_id(1)).count(), 0);
    beat_all(&mut back, after(1));
    settle(&mut back, after(1));
    assert_eq!(back.instances.on_node(&node_id(1)).count(), 0, "nothing starts there again");
    let back = learned(&back, &held[1..]);
    assert_eq!(placed(&back), placed(&newer));
}

#[test]
fn an_instance_that_was_made_again_elsewhere_by_the_same_id_is_there() {
    let (older, _) = lived();
    let mut newer = older.clone();
    let (from, to) = (node_id(2), node_id(1));
    let moved: Vec<_> = newer.instances.on_node(&from).cloned().collect();
    assert!(!moved.is_empty());
    newer.nodes.remove(&from);
    for instance in &moved {
        newer.instances.insert(Instance { node: to.clone(), ..instance.clone() });
    }
    let ahead = Generation { epoch: 0, counter: 1000 };
    let back = learned(&older, &[assignment::of_node(&newer, &to, ahead)]);
    assert_eq!(back.instances.count_on(&from), 0);
    assert_eq!(placed(&back), placed(&newer));
}

#[test]
fn a_slot_of_a_newer_revision_waits_for_the_node_that_has_not_shown_it_yet() {
    let (older, _) = lived();
    let mut newer = older.clone();
    deploy_on(&mut newer, 1, 3, instance_spec("a2"), &[]);
    for seconds in 0..60 {
        beat_all(&mut newer, after(seconds));
        settle(&mut newer, after(seconds));
        run_all(&mut newer);
    }
    let held = held_by_both(&newer);
    let mut restored = older;
    restored.epoch = 1;
    for n in [1, 2] {
        node_mut(&mut restored, n).adopting = true;
    }
    for order in [[1, 2], [2, 1]] {
        let mut back = restored.clone();
        for (shown, second) in order.into_iter().zip([60, 70]) {
            adopt(&back, &held[shown - 1], after(second)).apply(&mut back);
            node_mut(&mut back, u8::try_from(shown).unwrap()).adopting = false;
            for later in second..second + 5 {
                beat_all(&mut back, after(later));
                settle(&mut back, after(later));
            }
        }
        assert_eq!(placed(&back), placed(&newer), "nothing else was made");
    }
}

#[test]
fn a_change_that_makes_no_new_container_is_learned_with_what_was_known_kept() {
    let (older, _) = lived();
    let mut newer = older.clone();
    let scaled = revise::scale(&newer.deployments[&deployment_id(1)], 2, after(5));
    newer.deployments.insert(deployment_id(1), scaled);
    settle(&mut newer, after(5));
    let mut back = learned(&older, &held_by_both(&newer));
    let known = &back.deployments[&deployment_id(1)];
    assert_eq!((known.revision, known.spec.replicas), (2, 2));
    assert_eq!(known.revisions.keys().copied().collect::<Vec<_>>(), [1, 2]);
    beat_all(&mut back, after(60));
    settle(&mut back, after(60));
    assert_eq!(placed(&back), placed(&newer), "the third is not started again");
}

#[test]
fn networks_and_the_numbers_of_secrets_are_learned() {
    let (older, _) = lived();
    let mut newer = older.clone();
    let mut held = held_by_both(&newer);
    let name: SecretName = "db".parse().unwrap();
    let project = ProjectName::default();
    let network = knit_rpc::message::NetworkSpec {
        project: project.clone(),
        name: "back".to_owned(),
        driver: knit_rpc::message::NetworkDriver::Bridge,
        subnet: None,
        internal: false,
    };
    held[0].assignment.networks.push(network);
    for one in &mut held[0].assignment.instances {
        one.secrets.insert(name.clone(), 5);
    }
    newer = learned(&newer, &held);
    assert!(newer.networks.contains_key(&(project.clone(), "back".to_owned())));
    let secret = &newer.secrets[&(project, name)];
    let (number, version) = secret.newest().unwrap();
    assert_eq!((number, version.erased), (5, true), "the next one is 6");
    assert_eq!(adopt(&newer, &held[0], NOW).secrets.len(), 0, "once");
}

#[test]
fn a_revision_that_no_instance_has_yet_is_sent_with_those_that_are_made() {
    let (older, _) = lived();
    let mut newer = older.clone();
    // Nothing of it was made yet where the first node is told of it.
    deploy_on(&mut newer, 1, 3, instance_spec("a2"), &[]);
    let mut back = learned(&older, &held_by_both(&newer));
    beat_all(&mut back, after(60));
    settle(&mut back, after(60));
    let made: Vec<_> = back.instances.values().filter(|one| one.revision == 2).cloned().collect();
    assert_eq!(made.len(), 3, "{:?}", placed(&back));
    for one in made {
        let sent = assignment::of_node(&back, &one.node, Generation::default()).assignment;
        assert_eq!(sent.specs.get(&one.spec).map(|spec| spec.image.as_str()), Some("a2"));
        assert!(sent.instances.iter().any(|sent| sent.id == one.id));
    }
}

#[test]
fn a_container_that_follows_a_secret_keeps_the_newest_version_that_it_got() {
    let (mut older, _) = lived();
    let name: SecretName = "db".parse().unwrap();
    let version = |older: &mut Snapshot, version| {
        let ids: Vec<_> = older.instances.keys().cloned().collect();
        for id in ids {
            let secrets = BTreeMap::from([(name.clone(), version)]);
            older.instances.update(&id, |one| one.secrets = secrets);
        }
    };
    version(&mut older, 2);
    let mut other = older.clone();
    for (held, wanted) in [(3, 3), (1, 2)] {
        version(&mut other, held);
        let back = learned(&older, &held_by_both(&other));
        assert_eq!(placed(&back), placed(&older));
        assert!(back.instances.values().all(|one| one.secrets[&name] == wanted), "of {held}");
    }
}
