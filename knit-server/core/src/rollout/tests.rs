//! Rollouts from their first wave to their end.

use knit_rpc::api::{Cause, RolloutState};
use knit_rpc::message::{Generation, Phase};
use knit_rpc::spec::{
    Bytes, DeploymentSpec, OnFailure, Order, Span, Strategy, UpdateSpec, VolumeMount, Wave,
};

use crate::plan::Plan;
use crate::revise;
use crate::snapshot::{Deployment, Instance, Snapshot};
use crate::testing::*;

/// A cluster of three nodes where `d1` has `replicas` proven instances of `v1`.
fn proven(replicas: u32, update: UpdateSpec) -> Snapshot {
    let mut snapshot = cluster(3);
    want(&mut snapshot, "v1", replicas, update);
    run(&mut snapshot, 10);
    assert_eq!(deployment(&snapshot).stable, Some(1), "{:?}", deployment(&snapshot).rollout);
    snapshot
}

fn want(snapshot: &mut Snapshot, image: &str, replicas: u32, update: UpdateSpec) {
    let spec = DeploymentSpec { replicas, update, ..named(1, instance_spec(image)) };
    deploy_spec(snapshot, 1, spec, NOW);
}

fn deployment(snapshot: &Snapshot) -> &Deployment {
    &snapshot.deployments[&deployment_id(1)]
}

fn put(snapshot: &mut Snapshot, deployment: Deployment) {
    snapshot.deployments.insert(deployment.id.clone(), deployment);
}

/// One round: the nodes do what they were told, all of it healthy, and the server plans.
fn round(snapshot: &mut Snapshot, seconds: u64) -> Plan {
    beat_all(snapshot, after(seconds));
    obey(snapshot, seconds, |_| Phase::Running);
    settle(snapshot, after(seconds))
}

/// Nodes report exactly what they were told to run, each in the phase that it gets.
fn obey(snapshot: &mut Snapshot, seconds: u64, phase: impl Fn(&Instance) -> Phase) {
    let since = snapshot.healthy_since.clone();
    let instances: Vec<Instance> = snapshot.instances.values().cloned().collect();
    for node in snapshot.nodes.values_mut() {
        node.applied = node.generation;
    }
    snapshot.observed.clear();
    for instance in &instances {
        report(snapshot, instance, phase(instance));
    }
    snapshot.healthy_since = instances
        .iter()
        .filter(|instance| phase(instance) == Phase::Running)
        .map(|instance| {
            let healthy = since.get(&instance.id).copied().unwrap_or(after(seconds));
            (instance.id.clone(), healthy)
        })
        .collect();
}

/// Rounds a second apart, until nothing is under way or `seconds` are over.
fn run(snapshot: &mut Snapshot, seconds: u64) -> u64 {
    settle(snapshot, NOW);
    for second in 0..seconds {
        let plan = round(snapshot, second);
        if plan.unsettled.is_empty() {
            return second;
        }
    }
    seconds
}

fn images(snapshot: &Snapshot) -> Vec<String> {
    let mut found: Vec<String> = snapshot
        .instances
        .values()
        .map(|one| format!("{}:{}", one.slot, snapshot.specs[&one.spec].image))
        .collect();
    found.sort();
    found
}

#[test]
fn waves_follow_each_other_when_the_one_before_has_baked() {
    let mut snapshot = proven(8, UpdateSpec::default());
    want(&mut snapshot, "v2", 8, UpdateSpec::default());
    let mut most = 0;
    let mut seconds = 100;
    settle(&mut snapshot, NOW);
    for second in 20..120 {
        round(&mut snapshot, second);
        let new = snapshot.instances.values().filter(|one| one.revision == 2).count();
        let healthy = snapshot.instances.len();
        assert!(healthy >= 8, "never fewer than promised");
        assert!(healthy <= 8 + 2, "one wave at a time: {:?}", images(&snapshot));
        most = most.max(new);
        if deployment(&snapshot).rollout.is_none() {
            seconds = second - 20;
            break;
        }
    }
    assert_eq!(most, 8);
    // Four waves of two, each of which bakes for 5 s.
    assert!((20..=30).contains(&seconds), "{seconds} s");
    let done = deployment(&snapshot);
    assert_eq!((done.stable, done.revisions[&2].state), (Some(2), RolloutState::Succeeded));
}

#[test]
fn a_failure_brings_the_stable_revision_back_and_keeps_the_reason() {
    let mut snapshot = proven(4, UpdateSpec::default());
    want(&mut snapshot, "bad", 4, UpdateSpec::default());
    settle(&mut snapshot, NOW);
    beat_all(&mut snapshot, after(20));
    obey(&mut snapshot, 20, |one| if one.revision == 2 { Phase::Failed } else { Phase::Running });
    settle(&mut snapshot, after(20));
    for second in 21..40 {
        round(&mut snapshot, second);
        assert!(snapshot.instances.values().filter(|one| one.revision != 2).count() >= 4);
    }
    assert_eq!(images(&snapshot), ["0:v1", "1:v1", "2:v1", "3:v1"]);
    let now = deployment(&snapshot);
    assert_eq!(now.revision, 3);
    assert_eq!(now.revisions[&2].state, RolloutState::RolledBack);
    assert!(now.revisions[&2].message.as_deref().unwrap().starts_with("d1.0 on n"));
    assert_eq!(now.revisions[&3].cause, Cause::Rollback { to: 1, of: 2, automatic: true });
    assert_eq!((now.revisions[&3].state, now.stable), (RolloutState::Succeeded, Some(3)));
    let untouched = snapshot.instances.values().filter(|one| one.revision == 1).count();
    assert_eq!(untouched, 4, "what ran was not replaced");
    let view = crate::status::rollout(&snapshot, &crate::liveness::judge(&snapshot, NOW), now);
    assert_eq!(view.unwrap().state, RolloutState::RolledBack, "not shown as a success");
}

#[test]
fn with_nothing_to_go_back_to_it_fails_and_may_come_right_later() {
    let mut snapshot = cluster(1);
    want(&mut snapshot, "bad", 1, UpdateSpec::default());
    settle(&mut snapshot, NOW);
    obey(&mut snapshot, 1, |_| Phase::CrashLoop);
    settle(&mut snapshot, after(1));
    let failed = deployment(&snapshot);
    assert_eq!(failed.revisions[&1].state, RolloutState::Failed);
    assert_eq!((failed.stable, failed.rollout.clone()), (None, None));
    assert_eq!(images(&snapshot), ["0:bad"], "its agent goes on trying");
    let again = revise::again(deployment(&snapshot), after(2)).unwrap();
    assert_eq!(again.revisions[&1].state, RolloutState::Running, "asked for another try");
    round(&mut snapshot, 2);
    let late = deployment(&snapshot);
    assert_eq!(late.stable, Some(1));
    put(&mut snapshot, again);
    for second in 3..20 {
        round(&mut snapshot, second);
    }
    let done = deployment(&snapshot);
    assert_eq!(done.revisions[&1].state, RolloutState::Succeeded);
    assert_eq!(revise::again(done, after(20)), None);
}

#[test]
fn the_deadline_moves_with_every_healthy_instance_and_every_pulled_byte() {
    let update = UpdateSpec {
        deadline: Span::from_secs(10),
        bake: Span::ZERO,
        wave: Wave::Slots(1),
        ..UpdateSpec::default()
    };
    let mut snapshot = proven(3, update.clone());
    want(&mut snapshot, "v2", 3, update);
    settle(&mut snapshot, NOW);
    // Each second some more of the image is here.
    for second in 1..=30 {
        beat_all(&mut snapshot, after(second));
        obey(&mut snapshot, second, |one| {
            if one.revision == 2 { Phase::Pulling } else { Phase::Running }
        });
        let new: Vec<Instance> =
            snapshot.instances.values().filter(|one| one.revision == 2).cloned().collect();
        for one in new {
            let mut status = snapshot.observed[&one.node][&one.id].clone();
            let done = second.min(20) * 1000;
            status.pull = Some(knit_rpc::message::PullProgress { done, total: 20_000 });
            snapshot.observed.put(&one.node, status);
        }
        settle(&mut snapshot, after(second));
        if second < 30 {
            assert_eq!(deployment(&snapshot).revision, 2, "after {second} s");
        }
    }
    let given_up = &deployment(&snapshot).revisions[&2];
    assert_eq!(given_up.state, RolloutState::RolledBack);
    let message = given_up.message.as_deref().unwrap();
    assert!(
        message.starts_with("no further instance became healthy within 10s: d1.0 on "),
        "{message}"
    );
}

#[test]
fn a_failure_pauses_when_that_is_wanted_and_goes_on_or_back_when_told() {
    let update = UpdateSpec { on_failure: OnFailure::Pause, ..UpdateSpec::default() };
    let mut snapshot = proven(2, update.clone());
    want(&mut snapshot, "bad", 2, update);
    settle(&mut snapshot, NOW);
    let fail = |snapshot: &mut Snapshot, second| {
        beat_all(snapshot, after(second));
        obey(
            snapshot,
            second,
            |one| {
                if one.revision == 2 { Phase::Failed } else { Phase::Running }
            },
        );
        settle(snapshot, after(second));
    };
    fail(&mut snapshot, 20);
    let paused = deployment(&snapshot).clone();
    assert!(paused.rollout.as_ref().unwrap().paused);
    assert_eq!(images(&snapshot), ["0:bad", "0:v1", "1:v1"], "everything stays");
    assert!(revise::promote(&paused, after(20)).is_err());

    put(&mut snapshot, revise::resume(&paused, after(21)).unwrap());
    fail(&mut snapshot, 21);
    let paused = deployment(&snapshot).clone();
    assert!(paused.rollout.as_ref().unwrap().paused, "it failed again");
    put(&mut snapshot, revise::abort(&paused, after(22)).unwrap());
    for second in 22..30 {
        round(&mut snapshot, second);
    }
    assert_eq!(images(&snapshot), ["0:v1", "1:v1"]);
    let reason = deployment(&snapshot).revisions[&2].message.clone();
    assert_eq!(reason.as_deref(), Some("aborted by a person"));
}

#[test]
fn a_canary_waits_until_it_is_promoted() {
    let update = UpdateSpec {
        strategy: Strategy::Canary,
        wave: Wave::Slots(1),
        bake: Span::from_secs(1),
        ..UpdateSpec::default()
    };
    let mut snapshot = proven(3, update.clone());
    want(&mut snapshot, "v2", 3, update);
    for second in 20..40 {
        round(&mut snapshot, second);
    }
    assert_eq!(images(&snapshot), ["0:v2", "1:v1", "2:v1"]);
    let waiting = deployment(&snapshot).clone();
    let rollout = waiting.rollout.as_ref().unwrap();
    assert!(rollout.paused && rollout.message.as_deref().unwrap().contains("promote d1"));
    put(&mut snapshot, revise::promote(&waiting, after(40)).unwrap());
    for second in 40..60 {
        round(&mut snapshot, second);
    }
    assert_eq!(images(&snapshot), ["0:v2", "1:v2", "2:v2"]);
    assert_eq!(deployment(&snapshot).stable, Some(2));
}

#[test]
fn blue_green_moves_all_ports_once_all_are_healthy() {
    let update = UpdateSpec { strategy: Strategy::BlueGreen, ..UpdateSpec::default() };
    let mut snapshot = proven(2, update.clone());
    want(&mut snapshot, "v2", 2, update);
    settle(&mut snapshot, NOW);
    settle(&mut snapshot, NOW);
    assert_eq!(images(&snapshot), ["0:v1", "0:v2", "1:v1", "1:v2"]);
    let held = |snapshot: &Snapshot| {
        let all = snapshot.nodes.keys().map(|node| {
            crate::assignment::of_node(snapshot, node, Generation::default()).assignment.instances
        });
        all.flatten().filter(|one| one.held).count()
    };
    assert_eq!(held(&snapshot), 2);
    // One of the two is healthy: nothing moves.
    beat_all(&mut snapshot, after(20));
    obey(&mut snapshot, 20, |one| {
        if one.revision == 2 && one.slot == 1 { Phase::Starting } else { Phase::Running }
    });
    settle(&mut snapshot, after(20));
    assert_eq!((held(&snapshot), images(&snapshot).len()), (2, 4));
    for second in 21..40 {
        let generations: Vec<_> = snapshot.nodes.values().map(|node| node.generation).collect();
        let held_before = held(&snapshot);
        round(&mut snapshot, second);
        if held(&snapshot) < held_before {
            assert_eq!(held(&snapshot), 0, "all at once");
            let after: Vec<_> = snapshot.nodes.values().map(|node| node.generation).collect();
            assert_ne!(generations, after, "the nodes are told");
            let rollout = deployment(&snapshot).rollout.clone();
            assert!(rollout.is_some(), "not at its end before they work on it");
        }
    }
    assert_eq!(images(&snapshot), ["0:v2", "1:v2"]);
    assert_eq!(deployment(&snapshot).stable, Some(2));
}

#[test]
fn recreate_stops_all_before_it_starts_any() {
    let update = UpdateSpec { strategy: Strategy::Recreate, ..UpdateSpec::default() };
    let mut snapshot = proven(3, update.clone());
    want(&mut snapshot, "v2", 3, update);
    beat_all(&mut snapshot, after(20));
    let plan = settle(&mut snapshot, after(20));
    assert_eq!(plan.removed.len(), 3);
    assert!(snapshot.instances.is_empty(), "the old ones are still seen: {:?}", images(&snapshot));
    assert!(plan.unplaced[&deployment_id(1)][0].summary.contains("stops first"));
    // Two are gone.
    let nodes: Vec<_> = snapshot.observed.keys().cloned().collect();
    for node in &nodes[1..] {
        snapshot.observed.remove(node);
    }
    settle(&mut snapshot, after(20));
    assert!(snapshot.instances.is_empty());
    snapshot.observed.clear();
    settle(&mut snapshot, after(20));
    assert_eq!(images(&snapshot), ["0:v2", "1:v2", "2:v2"]);
}

#[test]
fn a_volume_has_one_writer_and_stays_where_it_is() {
    let with_volume = |image: &str| {
        let mut spec = named(1, instance_spec(image));
        let mount = VolumeMount {
            name: "data".to_owned(),
            path: "/data".to_owned(),
            read_only: false,
            shared: false,
        };
        spec.instance.volumes = vec![mount];
        spec
    };
    let mut snapshot = cluster(3);
    deploy_spec(&mut snapshot, 1, with_volume("v1"), NOW);
    run(&mut snapshot, 10);
    let home = snapshot.instances.values().next().unwrap().node.clone();
    assert_eq!(snapshot.volumes.values().map(|one| &one.node).collect::<Vec<_>>(), [&home]);

    deploy_spec(&mut snapshot, 1, with_volume("v2"), NOW);
    beat_all(&mut snapshot, after(20));
    settle(&mut snapshot, after(20));
    assert!(snapshot.instances.is_empty(), "the old one goes first: {:?}", images(&snapshot));
    snapshot.observed.clear();
    settle(&mut snapshot, after(20));
    assert_eq!(snapshot.instances.values().map(|one| &one.node).collect::<Vec<_>>(), [&home]);
    for second in 21..30 {
        round(&mut snapshot, second);
    }

    // Its node dies: it waits for its data.
    beat_all(&mut snapshot, after(60));
    snapshot.nodes.get_mut(&home).unwrap().last_beat = Some(after(30));
    let key = snapshot.nodes[&home].facts.wg_pubkey.clone();
    for node in snapshot.nodes.values_mut() {
        node.facts.unheard.insert(key.clone());
    }
    let plan = settle(&mut snapshot, after(60));
    assert!(moves_nothing(&plan), "{plan:?}");
    let waiting = &plan.unplaced[&deployment_id(1)][0].summary;
    assert!(waiting.starts_with("waiting for its data on n"), "{waiting}");
}

#[test]
fn stop_first_waits_until_the_old_one_is_gone() {
    let update = UpdateSpec { order: Order::StopFirst, ..UpdateSpec::default() };
    let mut snapshot = proven(1, update.clone());
    want(&mut snapshot, "v2", 1, update);
    beat_all(&mut snapshot, after(20));
    settle(&mut snapshot, after(20));
    assert!(snapshot.instances.is_empty());
    let plan = settle(&mut snapshot, after(21));
    assert!(plan.unplaced[&deployment_id(1)][0].summary.contains("stops first"));
    snapshot.observed.clear();
    settle(&mut snapshot, after(21));
    assert_eq!(images(&snapshot), ["0:v2"]);
}

#[test]
fn a_later_deploy_supersedes_the_one_under_way() {
    let mut snapshot = proven(4, UpdateSpec::default());
    want(&mut snapshot, "v2", 4, UpdateSpec::default());
    settle(&mut snapshot, after(20));
    round(&mut snapshot, 20);
    want(&mut snapshot, "v3", 4, UpdateSpec::default());
    for second in 21..80 {
        round(&mut snapshot, second);
    }
    assert_eq!(images(&snapshot), ["0:v3", "1:v3", "2:v3", "3:v3"]);
    let done = deployment(&snapshot);
    assert_eq!(done.revisions[&2].state, RolloutState::Superseded);
    assert_eq!(done.stable, Some(3));
}

#[test]
fn a_healthy_first_revision_is_gone_back_to_before_it_has_baked() {
    let mut snapshot = cluster(3);
    want(&mut snapshot, "v1", 2, UpdateSpec::default());
    settle(&mut snapshot, NOW);
    round(&mut snapshot, 0);
    round(&mut snapshot, 1);
    assert_eq!(deployment(&snapshot).stable, None, "it bakes");
    want(&mut snapshot, "v2", 2, UpdateSpec::default());
    let next = deployment(&snapshot);
    assert_eq!((next.stable, next.rollout.as_ref().unwrap().from), (Some(1), Some(1)));
}

#[test]
fn what_needs_no_new_container_recreates_nothing() {
    let mut snapshot = proven(2, UpdateSpec::default());
    let before: Vec<_> = snapshot.instances.keys().cloned().collect();
    let generation = snapshot.nodes[&node_id(1)].generation;
    let mut spec = deployment(&snapshot).spec.clone();
    spec.replicas = 3;
    spec.health.start_within = Span::from_secs(7);
    deploy_spec(&mut snapshot, 1, spec, NOW);
    for second in 20..40 {
        round(&mut snapshot, second);
    }
    assert!(before.iter().all(|id| snapshot.instances.contains_key(id)));
    assert_eq!(snapshot.instances.len(), 3);
    assert!(snapshot.nodes[&node_id(1)].generation > generation, "its node learns the new policy");
    let sent = crate::assignment::of_node(&snapshot, &node_id(1), Generation::default()).assignment;
    let policy = sent.instances[0].policy.clone().unwrap();
    assert_eq!(sent.policies[&policy].health.start_within, Span::from_secs(7));
    assert_eq!(deployment(&snapshot).stable, Some(2));
}

#[test]
fn nodes_learn_a_policy_even_when_its_rollout_ends_at_once() {
    let mut snapshot = proven(1, UpdateSpec::default());
    let home = snapshot.instances.values().next().unwrap().node.clone();
    let generation = snapshot.nodes[&home].generation;
    let mut spec = deployment(&snapshot).spec.clone();
    spec.health.start_within = Span::from_secs(7);
    deploy_spec(&mut snapshot, 1, spec, NOW);
    beat_all(&mut snapshot, after(30));
    settle(&mut snapshot, after(30));
    assert_eq!(deployment(&snapshot).stable, Some(2));
    assert!(snapshot.nodes[&home].generation > generation);
}

#[test]
fn a_rollout_waits_for_nodes_that_have_yet_to_show_what_they_hold() {
    let update =
        UpdateSpec { deadline: Span::from_secs(10), wave: Wave::Slots(1), ..UpdateSpec::default() };
    let mut snapshot = proven(3, update.clone());
    want(&mut snapshot, "v2", 3, update);
    for second in 20..24 {
        round(&mut snapshot, second);
    }
    assert_eq!(deployment(&snapshot).rollout.as_ref().unwrap().healthy, 1);
    // A backup of this moment is restored much later.
    snapshot.healthy_since.clear();
    for node in snapshot.nodes.values_mut() {
        node.adopting = true;
    }
    let before = placed(&snapshot);
    for second in 1000..1030 {
        beat_all(&mut snapshot, after(second));
        settle(&mut snapshot, after(second));
        assert!(moves_nothing(&settle(&mut snapshot, after(second))));
        assert!(deployment(&snapshot).rollout.is_some(), "after {second} s");
    }
    assert_eq!((deployment(&snapshot).revision, placed(&snapshot)), (2, before));
    for node in snapshot.nodes.values_mut() {
        node.adopting = false;
    }
    for second in 1030..1060 {
        round(&mut snapshot, second);
    }
    assert_eq!(images(&snapshot), ["0:v2", "1:v2", "2:v2"]);
    assert_eq!(deployment(&snapshot).stable, Some(2));
}

#[test]
fn a_restart_replaces_every_container_wave_by_wave() {
    let update = UpdateSpec { bake: Span::ZERO, wave: Wave::Slots(1), ..UpdateSpec::default() };
    let mut snapshot = proven(3, update);
    let before: Vec<_> = snapshot.instances.keys().cloned().collect();
    let restarted = revise::restart(deployment(&snapshot), after(20));
    put(&mut snapshot, restarted);
    for second in 20..40 {
        round(&mut snapshot, second);
        assert!((3..=4).contains(&snapshot.instances.len()));
    }
    assert!(before.iter().all(|id| !snapshot.instances.contains_key(id)));
    assert_eq!(snapshot.instances.len(), 3);
    assert_eq!(deployment(&snapshot).stable, Some(2));
}

#[test]
fn what_is_stopped_runs_nothing_and_starts_again() {
    let mut snapshot = proven(2, UpdateSpec::default());
    let stopped = revise::stop(deployment(&snapshot), after(20));
    put(&mut snapshot, stopped);
    round(&mut snapshot, 20);
    assert!(snapshot.instances.is_empty());
    let scaled = revise::scale(deployment(&snapshot), 3, after(20));
    assert!(scaled.stopped, "scaling starts nothing");
    let again = revise::next(&scaled, scaled.spec.clone(), Cause::Deploy, after(20));
    assert!(!again.stopped, "deploying does");
    let started = revise::start(deployment(&snapshot), after(21));
    put(&mut snapshot, started);
    round(&mut snapshot, 21);
    assert_eq!(images(&snapshot), ["0:v1", "1:v1"]);
}

#[test]
fn a_rollback_by_hand_goes_to_the_revision_that_was_asked_for() {
    let quick = UpdateSpec { bake: Span::ZERO, ..UpdateSpec::default() };
    let mut snapshot = proven(1, quick.clone());
    for image in ["v2", "v3"] {
        want(&mut snapshot, image, 1, quick.clone());
        for second in 20..30 {
            round(&mut snapshot, second);
        }
    }
    let now = deployment(&snapshot).clone();
    let back = revise::rollback(&now, None, false, NOW).unwrap();
    assert_eq!(back.spec.instance.image, "v2", "the last stable one before");
    let far_back = revise::rollback(&now, Some(1), false, NOW).unwrap();
    assert_eq!((far_back.spec.instance.image.as_str(), far_back.revision), ("v1", 4));
    assert!(revise::rollback(&now, Some(3), false, NOW).unwrap_err().contains("already"));
    assert!(revise::rollback(&now, Some(9), false, NOW).unwrap_err().contains("1, 2, 3"));
}

#[test]
fn revisions_are_forgotten_but_never_the_stable_one() {
    let mut snapshot = proven(1, UpdateSpec::default());
    for n in 0..40 {
        want(&mut snapshot, &format!("never-ready-{n}"), 1, UpdateSpec::default());
    }
    let kept = &deployment(&snapshot).revisions;
    assert!(kept.len() <= revise::REVISIONS_KEPT + 1, "{}", kept.len());
    assert!(kept.contains_key(&1), "it is what a rollback leads to");
    assert!(kept.contains_key(&41));
}

#[test]
fn resources_are_part_of_the_container() {
    let mut snapshot = proven(1, UpdateSpec::default());
    let mut spec = deployment(&snapshot).spec.clone();
    spec.instance.resources.memory_max = Some(Bytes(64 << 20));
    deploy_spec(&mut snapshot, 1, spec, NOW);
    for second in 20..40 {
        round(&mut snapshot, second);
    }
    assert!(snapshot.instances.values().all(|one| one.revision == 2));
}
