//! What goes wrong around an agent, and what it makes of it.

use knit_agent::engine::fake::Call;
use knit_agent::engine::{EngineError, STOP_GRACE};
use knit_rpc::message::{AssignedInstance, Phase};
use knit_rpc::spec::InstanceSpec;
use serde_json::json;

use super::{World, web};
use crate::support::agent::instance;
use crate::support::until;

#[tokio::test]
async fn after_dying_anywhere_the_next_agent_comes_to_the_same() {
    for call in [Call::Pull, Call::Create, Call::Start] {
        let world = World::new().await;
        let one = web(1);
        let away = EngineError::Unreachable { socket: "s".into(), problem: "cut".into() };
        world.engine.fail(call, Some(away));
        let agent = world.agent();
        world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
        until("it got as far as that", || world.calls(call) > 0).await;
        agent.stop().await;
        world.engine.fail(call, None);

        let agent = world.agent();
        world.until_phase(&one, Phase::Running).await;
        assert_eq!(world.engine.containers().len(), 1, "{call:?}");
        agent.stop().await;
    }
    for call in [Call::Stop, Call::Remove] {
        let world = World::new().await;
        let one = web(1);
        let agent = world.agent();
        let node = agent.shared.identity.node.clone();
        world.server.assign(&node, 1, std::slice::from_ref(&one)).await;
        world.until_phase(&one, Phase::Running).await;
        world.engine.fail(call, Some(refused(false)));
        world.server.assign(&node, 2, &[]).await;
        until("it got as far as that", || world.calls(call) > 0).await;
        agent.stop().await;
        world.engine.fail(call, None);

        let agent = world.agent();
        until("nothing is left", || world.engine.containers().is_empty()).await;
        until("nor its files", || {
            !world.dir.path().join(format!("instances/{}", one.0.id)).exists()
        })
        .await;
        agent.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_run_is_said_in_the_engines_words_and_its_neighbour_runs() {
    let world = World::new().await;
    world.engine.add_image("good");
    let error = EngineError::Refused { words: "manifest unknown".to_owned(), permanent: true };
    world.engine.fail(Call::Pull, Some(error));
    let agent = world.agent();
    let bad = instance("bad", 1, json!({"image": "nosuch:1"}));
    let good = instance("good", 1, json!({"image": "good"}));
    let template = instance(
        "template",
        1,
        json!({"image": "good", "templates": [{"destination": "/x", "content": "{{env.NOPE}}"}]}),
    );
    let all = [bad.clone(), good.clone(), template.clone()];
    world.server.assign(&agent.shared.identity.node, 1, &all).await;
    world.until_phase(&good, Phase::Running).await;
    world.until_phase(&bad, Phase::Failed).await;
    world.until_phase(&template, Phase::Failed).await;
    let message = |one: &(AssignedInstance, InstanceSpec)| {
        world.server.seen(|seen| seen.instances[&one.0.id].message.clone().unwrap())
    };
    assert_eq!(message(&bad), "image nosuch:1 cannot be pulled: manifest unknown");
    assert!(message(&template).contains("unknown variable \"env.NOPE\""));
    assert_eq!(world.calls(Call::Pull), 1, "not again and again");
    agent.stop().await;
}

#[tokio::test]
async fn nothing_is_stopped_while_its_ports_cannot_be_led_away() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let one = web(1);
    world.server.assign(&node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    world.firewall.fail(true);
    world.server.assign(&node, 2, &[]).await;
    world.until_phase(&one, Phase::Stopping).await;
    until("the node says what is wrong", || {
        let trouble = agent.shared.engine.borrow().trouble.clone();
        trouble.is_some_and(|text| text.starts_with("ports cannot be published"))
    })
    .await;
    assert_eq!(world.calls(Call::Stop), 0);
    world.firewall.fail(false);
    until("it is gone", || world.engine.containers().is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_docker_that_is_away_is_said_and_waited_for() {
    let world = World::new().await;
    let away = EngineError::Unreachable { socket: "/s".into(), problem: "gone".into() };
    world.engine.fail(Call::Info, Some(away.clone()));
    world.engine.fail(Call::List, Some(away));
    let agent = world.agent();
    let one = web(1);
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    until("the beat says so", || {
        world.server.seen(|seen| {
            let facts = seen.beats.iter().filter_map(|(_, beat)| beat.facts.as_ref());
            facts.filter_map(|facts| facts.trouble.as_deref()).any(|text| text.contains("/s: gone"))
        })
    })
    .await;
    assert!(world.server.seen(|seen| seen.reports.is_empty()), "nobody knows what runs here");
    world.engine.fail(Call::Info, None);
    world.engine.fail(Call::List, None);
    world.until_phase(&one, Phase::Running).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_assignment_that_cannot_be_kept_is_the_nodes_trouble() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    // In its way, also for root.
    let file = world.dir.path().join("assignment.json");
    std::fs::create_dir(&file).unwrap();
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    let trouble = || {
        world.server.seen(|seen| {
            let facts = seen.beats.iter().rev().find_map(|(_, beat)| beat.facts.clone());
            facts.and_then(|facts| facts.trouble)
        })
    };
    until("the beat says so", || trouble().is_some()).await;
    let text = trouble().unwrap();
    assert!(text.starts_with("an assignment cannot be kept, so nothing changes here: "), "{text}");
    assert!(text.contains(&file.display().to_string()), "{text}");
    assert_eq!(world.calls(Call::Create), 0, "it is not worked on");

    std::fs::remove_dir(&file).unwrap();
    world.until_phase(&one, Phase::Running).await;
    until("the trouble is over", || trouble().is_none()).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_container_that_ends_is_started_again_and_counted() {
    let world = World::new().await;
    let agent = world.agent();
    let one = web(1);
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    world.engine.exit(&world.running()[0], 3, knit_runtime::clock::now());
    until("it was restarting", || {
        world.server.seen(|seen| {
            let all = seen.reports.iter().flat_map(|report| &report.instances);
            all.into_iter().any(|one| one.phase == Phase::Restarting && one.exit_code == Some(3))
        })
    })
    .await;
    world.until_phase(&one, Phase::Running).await;
    until("it is counted", || world.server.seen(|seen| seen.instances[&one.0.id].restarts == 1))
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn what_ended_before_counts_as_running_only_once_it_has_been_up_for_a_while() {
    let world = World::new().await;
    let agent = world.agent();
    let bad = instance("bad", 1, json!({"image": "bad:1"}));
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&bad)).await;
    world.until_phase(&bad, Phase::Running).await;
    world.engine.exit(&world.running()[0], 3, knit_runtime::clock::now());
    world.until_phase(&bad, Phase::Starting).await;
    world.engine.exit(&world.running()[0], 3, knit_runtime::clock::now());
    let why = Some("up for less than 5 s after it ended with code 3");
    until("it says why it does not run yet", || {
        world.server.seen(|seen| seen.instances[&bad.0.id].message.as_deref() == why)
    })
    .await;
    world.until_phase(&bad, Phase::Running).await;
    let mut phases: Vec<Phase> = world.server.seen(|seen| {
        let all = seen.reports.iter().flat_map(|report| &report.instances);
        all.filter(|status| status.id == bad.0.id).map(|status| status.phase).collect()
    });
    phases.dedup();
    let running = phases.iter().filter(|phase| **phase == Phase::Running).count();
    assert_eq!(running, 2, "at first, and at last: {phases:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_first_start_counts_at_once() {
    let world = World::new().await;
    let agent = world.agent();
    let one = instance("web", 1, json!({"image": "web:1"}));
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    world.until_phase(&one, Phase::Running).await;
    let started = world.engine.containers()[0].started_at.unwrap();
    let took = knit_runtime::clock::now().since(started);
    assert!(took < std::time::Duration::from_millis(500), "{took:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_report_is_repeated_until_it_is_answered() {
    let world = World::new().await;
    world.server.seen(|seen| seen.deaf = true);
    let agent = world.agent();
    let one = web(1);
    world.server.assign(&agent.shared.identity.node, 1, std::slice::from_ref(&one)).await;
    until("it runs", || world.running().len() == 1).await;
    assert_eq!(world.phase(&one), None);
    world.server.seen(|seen| seen.deaf = false);
    world.until_phase(&one, Phase::Running).await;
    agent.stop().await;
}

#[tokio::test]
async fn containers_that_take_their_time_to_end_keep_no_other_from_starting() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    let many: Vec<_> =
        (0..20).map(|n| instance(&format!("old-{n}"), 1, json!({"image": "old:1"}))).collect();
    world.server.assign(&node, 1, &many).await;
    until("all run", || world.running().len() == many.len()).await;
    world.engine.harden(true);
    let next = instance("next", 1, json!({"image": "next:1"}));
    world.server.assign(&node, 2, std::slice::from_ref(&next)).await;
    let start = std::time::Instant::now();
    until("all are asked to end", || world.calls(Call::Stop) == many.len()).await;
    until("the next one runs", || world.running().iter().any(|name| name.contains(".next."))).await;
    assert!(start.elapsed() < STOP_GRACE, "beside the stops, not after them");
    world.engine.harden(false);
    agent.stop().await;
}

fn refused(permanent: bool) -> EngineError {
    EngineError::Refused { words: "failed on command".to_owned(), permanent }
}

#[tokio::test]
async fn what_came_and_went_while_no_answer_came_does_not_stay_with_the_server() {
    let world = World::new().await;
    let agent = world.agent();
    let node = agent.shared.identity.node.clone();
    world.server.assign(&node, 1, &[]).await;
    until("it reported", || world.server.seen(|seen| !seen.reports.is_empty())).await;
    world.server.seen(|seen| seen.mute = true);
    let one = web(1);
    world.server.assign(&node, 2, std::slice::from_ref(&one)).await;
    until("the server knows of it", || {
        world.server.seen(|seen| seen.instances.contains_key(&one.0.id))
    })
    .await;
    world.server.assign(&node, 3, &[]).await;
    until("it is gone", || world.engine.containers().is_empty()).await;
    world.server.seen(|seen| seen.mute = false);
    until("the server knows that it is gone", || {
        world.server.seen(|seen| !seen.instances.contains_key(&one.0.id))
    })
    .await;
    agent.stop().await;
}
