//! Nodes that show what they hold when the restored server has gone on long since.

use super::*;

/// Goes on until nothing is under way.
fn live_on(snapshot: &mut Snapshot, from: u64) {
    for seconds in from..from + 30 {
        beat_all(snapshot, after(seconds));
        settle(snapshot, after(seconds));
        run_all(snapshot);
    }
}

#[test]
fn a_node_that_returns_late_overrides_nothing_that_was_deployed_since_the_restore() {
    let (older, _) = lived();
    let change = |snapshot: &mut Snapshot, image: &str, at: u64| {
        let spec = DeploymentSpec { replicas: 3, ..named(1, instance_spec(image)) };
        deploy_spec(snapshot, 1, spec, after(at));
        live_on(snapshot, at);
    };
    for lost in [1, 2] {
        let mut former = older.clone();
        for n in 1..=lost {
            change(&mut former, &format!("lost{n}"), 100 * n);
        }
        let mut back = older.clone();
        back.epoch = 1;
        change(&mut back, "wanted", 1000);
        assert_eq!(back.deployments[&deployment_id(1)].revision, 2);
        let held = held_by_both(&former);
        for held in [&held[0], &held[1], &held[0]] {
            adopt(&back, held, after(1100)).apply(&mut back);
        }
        let known = &back.deployments[&deployment_id(1)];
        assert_eq!((known.spec.instance.image.as_str(), known.revision), ("wanted", lost + 2));
        assert_eq!(known.updated_at, after(1000));
        live_on(&mut back, 1100);
        let known = &back.deployments[&deployment_id(1)];
        assert_eq!((known.stable, &known.rollout), (Some(known.revision), &None));
        let of_it: Vec<_> = back.instances.of_deployment(&deployment_id(1)).collect();
        assert!(of_it.len() == 3 && of_it.iter().all(|one| one.spec == known.spec_hash));
    }
}
