//! Who is ready, who is started again, and what is said of it.

use std::time::{Duration, Instant};

use knit_agent::agent::Agent;
use knit_agent::engine::fake::Call;
use knit_agent_core::observed::{HealthState, Healthcheck};
use knit_agent_core::probe::Answer;
use knit_rpc::message::{AssignedInstance, InstanceStatus, Phase};
use knit_rpc::spec::{InstanceSpec, RunPolicy};
use serde_json::json;

use super::{World, web};
use crate::support::agent::instance;
use crate::support::until;

type Instance = (AssignedInstance, InstanceSpec);

fn policy(health: &serde_json::Value) -> RunPolicy {
    serde_json::from_value(json!({"health": health, "drain": "0"})).unwrap()
}

fn ready() -> RunPolicy {
    policy(&json!({"ready": {"http": {"path": "/ready", "port": 80}, "interval": "200ms"}}))
}

fn ill(words: &str) -> Answer {
    Answer::Ill(words.to_owned())
}

impl World {
    /// Assigns instances that are all kept by one policy.
    async fn assign(
        &self,
        agent: &Agent,
        counter: u64,
        instances: &[Instance],
        policy: &RunPolicy,
    ) {
        let kept: Vec<Instance> = instances
            .iter()
            .cloned()
            .map(|(mut assigned, spec)| {
                assigned.policy = Some(policy.hash());
                (assigned, spec)
            })
            .collect();
        let node = &agent.shared.identity.node;
        let policies = [(policy.hash(), policy.clone())].into();
        self.server.assign_with(node, counter, &kept, |one| one.policies = policies).await;
    }

    fn status(&self, (assigned, _): &Instance) -> Option<InstanceStatus> {
        self.server.seen(|seen| seen.instances.get(&assigned.id).cloned())
    }

    fn message(&self, one: &Instance) -> String {
        self.status(one).and_then(|status| status.message).unwrap_or_default()
    }

    fn is_published(&self) -> bool {
        self.firewall.rules().is_some_and(|rules| !rules.ports.is_empty())
    }
}

#[tokio::test]
async fn only_what_is_ready_is_published() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    world.engine.answer("web", "/ready", Some(ill("status 503")));
    world.assign(&agent, 1, std::slice::from_ref(&one), &ready()).await;
    let waits = "not ready yet: GET /ready on port 80: status 503";
    until("it says what it waits for", || world.message(&one) == waits).await;
    assert_eq!((world.phase(&one), world.is_published()), (Some(Phase::Starting), false));

    world.engine.answer("web", "/ready", Some(Answer::Well));
    world.until_phase(&one, Phase::Running).await;
    assert!(world.is_published());
    world.engine.answer("web", "/ready", None);
    world.until_phase(&one, Phase::Unready).await;
    until("nobody has the port", || !world.is_published()).await;
    assert!(world.message(&one).ends_with("no answer within 1000 ms"), "{}", world.message(&one));
    world.engine.answer("web", "/ready", Some(Answer::Well));
    world.until_phase(&one, Phase::Running).await;
    assert!(world.is_published());
    assert_eq!(
        (world.calls(Call::Stop), world.calls(Call::Start)),
        (0, 1),
        "only `alive` restarts"
    );
    agent.stop().await;
}

#[tokio::test]
async fn a_newer_one_takes_over_once_it_is_ready_and_not_while_it_is_held() {
    let world = World::new().await;
    let agent = world.agent();
    let (old, mut new) = (web(1), web(2));
    world.assign(&agent, 1, std::slice::from_ref(&old), &ready()).await;
    world.until_phase(&old, Phase::Running).await;
    world.engine.answer(new.0.id.as_str(), "/ready", Some(ill("status 503")));
    new.0.held = true;
    world.assign(&agent, 2, &[old.clone(), new.clone()], &ready()).await;
    world.until_phase(&new, Phase::Starting).await;
    world.engine.answer(new.0.id.as_str(), "/ready", Some(Answer::Well));
    world.until_phase(&new, Phase::Running).await;
    assert_eq!(world.history().len(), 2, "nobody, then the old one: {:?}", world.history());
    new.0.held = false;
    world.assign(&agent, 3, &[old.clone(), new.clone()], &ready()).await;
    until("the port moves", || world.history().len() == 3).await;
    world.assign(&agent, 4, std::slice::from_ref(&new), &ready()).await;
    until("the old one is gone", || world.phase(&old).is_none()).await;
    assert!(world.history().iter().skip(1).all(Option::is_some), "it never led nowhere");
    agent.stop().await;
}

#[tokio::test]
async fn what_dies_of_its_alive_probe_is_soon_up_again_with_its_last_lines() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    let alive = policy(&json!({"alive": {"exec": {"command": ["check"]}}}));
    world.assign(&agent, 1, std::slice::from_ref(&one), &alive).await;
    world.until_phase(&one, Phase::Running).await;
    until("it was well at least once", || world.engine.probed("web", "`check`") > 0).await;
    let name = world.running().remove(0);
    world.engine.write_log(&name, "everything hangs");
    world.engine.harden(true);
    world.engine.answer("web", "`check`", None);
    let died = Instant::now();
    world.until_phase(&one, Phase::Restarting).await;
    let status = world.status(&one).unwrap();
    assert_eq!(status.message.unwrap(), "not alive: `check`: no answer within 1000 ms");
    assert_eq!(status.log, ["everything hangs"], "with the first that is said of it");
    world.engine.answer("web", "`check`", Some(Answer::Well));
    until("it was started again", || world.calls(Call::Start) == 2).await;
    assert!(died.elapsed() < Duration::from_secs(10), "{:?}", died.elapsed());
    world.until_phase(&one, Phase::Running).await;
    let status = world.status(&one).unwrap();
    assert_eq!((status.restarts, status.log.len()), (1, 0));
    agent.stop().await;
}

#[tokio::test]
async fn what_ends_three_times_in_a_row_is_in_a_crash_loop() {
    let world = World::new().await;
    let agent = world.agent();
    let one = instance("bad", 1, json!({"image": "bad:1"}));
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    for end in 1..=3 {
        until("it is up", || world.running().len() == 1).await;
        let name = world.running().remove(0);
        world.engine.write_log(&name, &format!("end {end}"));
        world.engine.exit(&name, 3, knit_runtime::clock::now());
        until("that was seen", || world.status(&one).is_some_and(|status| status.log.len() == end))
            .await;
    }
    world.until_phase(&one, Phase::CrashLoop).await;
    let why = "ended 3 times in a row, last with code 3; tried again in 4 s";
    assert_eq!(world.message(&one), why);
    let reports = world.server.seen(|seen| seen.reports.clone());
    let all = reports.iter().flat_map(|report| &report.instances);
    let mut loops = all.filter(|status| status.phase == Phase::CrashLoop);
    assert!(loops.all(|status| status.log.last().is_some_and(|line| line == "end 3")));
    agent.stop().await;
}

#[tokio::test]
async fn the_time_to_get_ready_begins_when_the_image_is_there() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    world.engine.slow_pulls(Some(Duration::from_secs(3)));
    world.engine.answer("web", "/ready", Some(ill("status 500")));
    let mut hurried = ready();
    hurried.health.start_within = knit_rpc::spec::Span::from_secs(2);
    world.assign(&agent, 1, std::slice::from_ref(&one), &hurried).await;
    world.until_phase(&one, Phase::Pulling).await;
    until("it says how far it is", || {
        world.status(&one).and_then(|status| status.pull).is_some_and(|pull| pull.total == 200)
    })
    .await;
    until("it runs", || world.running().len() == 1).await;
    let started = Instant::now();
    world.engine.write_log(&world.running()[0], "no database");
    world.until_phase(&one, Phase::Failed).await;
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1_500), "all of its time: {took:?}");
    let status = world.status(&one).unwrap();
    let why = "not ready within 2 s: GET /ready on port 80: status 500";
    assert_eq!(status.message.as_deref(), Some(why));
    assert_eq!(status.log, ["no database"]);
    until("it is stopped", || world.running().is_empty()).await;
    assert_eq!(world.calls(Call::Start), 1, "and not tried again at once");
    agent.stop().await;
}

#[tokio::test]
async fn dockers_own_healthcheck_says_who_is_ready_and_alive() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    let check = |state| Healthcheck {
        state,
        first_within: Duration::from_mins(1),
        answer: "exit code 1: no".to_owned(),
    };
    world.engine.give_healthcheck(Some(check(HealthState::Starting)));
    world.assign(&agent, 1, std::slice::from_ref(&one), &policy(&json!({}))).await;
    world.until_phase(&one, Phase::Starting).await;
    assert!(!world.is_published());
    let name = world.running().remove(0);
    world.engine.check(&name, Some(check(HealthState::Healthy)));
    world.until_phase(&one, Phase::Running).await;
    assert!(world.is_published());
    world.engine.check(&name, Some(check(HealthState::Unhealthy)));
    until("it was started again", || world.calls(Call::Start) == 2).await;
    let said = world.server.seen(|seen| {
        let all = seen.reports.iter().flat_map(|report| &report.instances);
        all.filter_map(|status| status.message.clone()).collect::<Vec<_>>()
    });
    let dead = "not alive: Docker's HEALTHCHECK: exit code 1: no".to_owned();
    assert!(said.contains(&dead), "{said:?}");
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_anew_assumes_nobody_unready_who_serves() {
    let world = World::new().await;
    let agent = world.agent();
    let (old, new) = (web(1), web(2));
    world.assign(&agent, 1, std::slice::from_ref(&old), &ready()).await;
    world.until_phase(&old, Phase::Running).await;
    world.engine.answer(new.0.id.as_str(), "/ready", Some(ill("status 503")));
    world.assign(&agent, 2, &[old.clone(), new.clone()], &ready()).await;
    world.until_phase(&new, Phase::Starting).await;
    agent.stop().await;
    let before = world.history();
    let reports = world.server.seen(|seen| seen.reports.len());

    // Nobody answers for a while: neither does the one lose its port, nor the other get it.
    world.engine.answer("web", "/ready", None);
    let agent = world.agent();
    until("it reported", || world.server.seen(|seen| seen.reports.len()) > reports).await;
    assert_eq!(world.history(), before);
    world.engine.answer("web", "/ready", Some(Answer::Well));
    world.until_phase(&new, Phase::Running).await;
    let phases = world.server.seen(|seen| {
        let all = seen.reports[reports..].iter().flat_map(|report| &report.instances);
        all.filter(|status| status.id == old.0.id).map(|status| status.phase).collect::<Vec<_>>()
    });
    assert!(phases.iter().all(|phase| *phase == Phase::Running), "{phases:?}");
    assert!(world.history().iter().skip(1).all(Option::is_some));
    agent.stop().await;
}

#[tokio::test]
async fn an_image_that_must_be_here_is_not_pulled_and_one_that_must_be_new_is() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    let with = |pull_policy: &str| -> RunPolicy {
        serde_json::from_value(json!({"pull_policy": pull_policy})).unwrap()
    };
    world.assign(&agent, 1, std::slice::from_ref(&one), &with("never")).await;
    world.until_phase(&one, Phase::Failed).await;
    assert_eq!(world.message(&one), "image web:1 is not here and pull_policy is never");
    assert_eq!(world.calls(Call::Pull), 0);
    world.engine.add_image("web:1");
    world.until_phase(&one, Phase::Running).await;
    let two = web(2);
    world.assign(&agent, 2, &[one.clone(), two.clone()], &with("always")).await;
    world.until_phase(&two, Phase::Running).await;
    assert_eq!((world.calls(Call::Pull), world.calls(Call::Create)), (1, 2));
    agent.stop().await;
}
