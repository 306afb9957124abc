use knit_rpc::api::Unplaced;
use knit_rpc::message::PullProgress;

use super::*;
use crate::commands::testing::{deployment, instance, rollout};

fn with(rollout: RolloutView) -> DeploymentView {
    let mut view = deployment();
    view.revision = rollout.revision;
    view.rollout = Some(rollout);
    view
}

fn way_back_from_2(state: RolloutState) -> DeploymentView {
    let mut back = rollout(state);
    back.revision = 3;
    back.cause = Cause::Rollback { to: 1, of: 2, automatic: true };
    back.message = Some("web.0 on fra-1: exited with code 1".to_owned());
    back.log = vec!["panic".to_owned()];
    with(back)
}

#[test]
fn success_counts_when_the_replicas_run() {
    let mut view = with(rollout(RolloutState::Running));
    assert_eq!(judge(&view, 2), Judgement::Waiting);
    view.running = 1;
    assert_eq!(judge(&view, 2), Judgement::Waiting, "they have to stay healthy for a while");
    let mut view = with(rollout(RolloutState::Succeeded));
    assert_eq!(judge(&view, 2), Judgement::Waiting, "started again after a stop");
    view.running = 1;
    assert_eq!(judge(&view, 2), Judgement::Over(Outcome::Running(1)));
}

#[test]
fn a_first_revision_that_runs_is_not_waited_for_until_its_rollout_has_ended() {
    let mut first = rollout(RolloutState::Running);
    first.from = None;
    let mut view = with(first);
    view.state = DeploymentState::Running;
    assert_eq!(judge(&view, 2), Judgement::FirstRuns);
}

#[test]
fn a_rollout_that_is_rolled_back_ends_when_the_old_revision_is_there_again() {
    assert_eq!(judge(&way_back_from_2(RolloutState::Running), 2), Judgement::Waiting);
    let Judgement::Over(outcome) = judge(&way_back_from_2(RolloutState::RolledBack), 2) else {
        panic!("it is over");
    };
    assert_eq!(outcome.code(), 6);
    assert_eq!(
        outcome.describe("web"),
        "web was rolled back to revision 1: web.0 on fra-1: exited with code 1\n\
         its last lines:\n  | panic"
    );
    let failed = judge(&way_back_from_2(RolloutState::Failed), 2);
    assert!(matches!(failed, Judgement::Over(Outcome::Impossible(..))), "{failed:?}");
    // Whoever gave it up by hand follows the way back itself.
    let asked = judge(&way_back_from_2(RolloutState::RolledBack), 3);
    assert_eq!(asked, Judgement::Over(Outcome::WentBack(1)));
    // Whoever follows an older revision sees others at work.
    let other = judge(&way_back_from_2(RolloutState::Running), 1);
    assert_eq!(other, Judgement::Over(Outcome::Superseded(3)));
}

#[test]
fn a_canary_says_how_it_is_promoted() {
    let mut canary = rollout(RolloutState::Paused);
    canary.message = Some("the canary is healthy: `knit rollout promote web` goes on".to_owned());
    let Judgement::Over(outcome) = judge(&with(canary), 2) else { panic!("it waits") };
    assert_eq!(outcome.code(), 7);
    let text = outcome.describe("web");
    assert!(text.ends_with("`knit rollout promote web` goes on"), "{text}");
    let mut failed = rollout(RolloutState::Paused);
    failed.message = Some("web.0 on fra-1: exited with code 1".to_owned());
    let Judgement::Over(outcome) = judge(&with(failed), 2) else { panic!("it waits") };
    assert!(outcome.describe("web").contains("`knit rollout resume web` goes on"));
}

#[test]
fn what_failed_for_good_says_why() {
    let mut failed = rollout(RolloutState::Failed);
    failed.from = None;
    failed.message = Some("web.0 on fra-1: no such image".to_owned());
    let Judgement::Over(outcome) = judge(&with(failed), 2) else { panic!("it is over") };
    assert_eq!(outcome.code(), 3);
    assert_eq!(outcome.describe("web"), "web cannot run: web.0 on fra-1: no such image");
    // A rollout of long ago succeeded, and what it made has broken since.
    let mut view = with(rollout(RolloutState::Succeeded));
    let mut broken = instance(0, Phase::CrashLoop);
    broken.message = Some("exited with code 1".to_owned());
    view.instances = vec![broken];
    let Judgement::Over(outcome) = judge(&view, 2) else { panic!("it is over") };
    assert_eq!(outcome.describe("web"), "web cannot run: web.0 on fra-1: exited with code 1");
}

#[test]
fn a_slot_without_a_node_is_waited_for_while_others_could_make_room() {
    let mut first = rollout(RolloutState::Running);
    first.from = None;
    let mut view = with(first);
    view.unplaced = vec![Unplaced { slot: 0, summary: "no node".to_owned(), reasons: Vec::new() }];
    assert_eq!(judge(&view, 2), Judgement::NoPlace);
    view.rollout = Some(rollout(RolloutState::Running));
    view.replicas = 3;
    assert_eq!(judge(&view, 2), Judgement::Waiting, "two others are not there yet");
    view.running = 2;
    assert_eq!(judge(&view, 2), Judgement::NoPlace);
}

#[test]
fn a_later_revision_and_a_removal_end_it() {
    let mut later = rollout(RolloutState::Running);
    later.revision = 4;
    assert_eq!(judge(&with(later), 2), Judgement::Over(Outcome::Superseded(4)));
    let superseded = judge(&with(rollout(RolloutState::Superseded)), 2);
    assert_eq!(superseded, Judgement::Over(Outcome::Superseded(2)));
    let mut view = deployment();
    view.state = DeploymentState::Removing;
    assert_eq!(judge(&view, 2), Judgement::Over(Outcome::Removed));
}

#[test]
fn what_happens_meanwhile_is_told_by_instance_and_in_steps() {
    let mut view = with(rollout(RolloutState::Running));
    let mut pulling = instance(0, Phase::Pulling);
    pulling.pull = Some(PullProgress { done: 30, total: 100 });
    view.instances = vec![pulling];
    let lines = tell::lines(&view);
    assert_eq!(lines[0].1, "web.0            pulling    on fra-1, 25%");
    let rollout = view.rollout.as_mut().unwrap();
    rollout.healthy = 1;
    let lines = tell::lines(&view);
    assert_eq!(lines.last().unwrap().1, "all 1 are healthy; they have to stay so for 5s");
    let lines = tell::lines(&way_back_from_2(RolloutState::Running));
    assert_eq!(lines[0].1, "revision 2 is given up, back to 1: web.0 on fra-1: exited with code 1");
}
