//! What NATS lets in, and what a node may say and hear there: asked from outside, with another
//! node's key.

use std::sync::Arc;

use knit_link::bus::{Bus as _, BusState, NatsBus, NatsOptions};
use knit_rpc::api::DeploymentState;
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::message::Generation;
use knit_rpc::spec::Format;
use knit_rpc::subject;
use knit_runtime::clock;
use knit_server::nats_server::jwt;
use nkeys::KeyPair;
use serde_json::json;
use tokio::sync::watch;

use crate::support::agent::{Agent, Disk};
use crate::support::eventually;
use crate::support::process::Program;
use crate::support::raw_nats::RawNats;

fn now() -> u64 {
    clock::now().as_millis() / 1000
}

async fn deploy(program: &Program, image: &str) {
    let yaml = format!("{{name: web, image: {image}}}");
    program.api.deploy(yaml, Format::Yaml).await.expect("accepted");
    let name = DeploymentName::parse("web").expect("a name");
    eventually("it runs", || async {
        let view = program.api.deployment(&ProjectName::default(), &name).await.ok()?;
        (view.state == DeploymentState::Running && view.image == image).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_nodes_key_opens_its_own_subjects_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let (victim, thief) = (Disk::new(1), Disk::new(2));
    let (victims, _) = program.bus(&victim).await;
    let _victim = Agent::resume(&victim, Arc::new(victims.clone()), false);
    deploy(&program, "v1").await;
    let tasks = subject::tasks(&victim.node);
    let stored = victims.last(&tasks).await.unwrap().expect("an assignment");
    let token = thief.register(&program.api).await.unwrap().user_jwt;
    let mut raw = RawNats::connect(program.nats(), &thief.key(), &token).unwrap();

    let (own, other) = (&thief.node, &victim.node);
    let foreign_inbox = format!("{}.>", subject::inbox_prefix(other));
    for (n, heard) in [
        tasks.as_str(),
        "knit.tasks.*",
        "knit.tasks.>",
        "knit.>",
        ">",
        "*.>",
        "knit.agent.heartbeat.*",
        &subject::heartbeat(other),
        "knit.task.status.*",
        &subject::status(other),
        &foreign_inbox,
        "_INBOX.>",
        "*.*",
        "$SYS.>",
        "$JS.>",
        "$JS.EVENT.ADVISORY.>",
        "knit.server.probe",
    ]
    .into_iter()
    .enumerate()
    {
        let answer = raw.say(&format!("SUB {heard} {n}")).unwrap();
        assert!(answer.starts_with("-ERR 'Permissions Violation for Sub"), "{heard}: {answer}");
        let answer = raw.say(&format!("SUB {heard} queue {n}")).unwrap();
        assert!(answer.starts_with("-ERR 'Permissions Violation for Sub"), "{heard}: {answer}");
    }
    let own_inbox = format!("{}.x", subject::inbox_prefix(own));
    let account = program.identity().account.public_key();
    for said in [
        tasks.clone(),
        subject::tasks(own),
        subject::BROADCAST.to_owned(),
        subject::heartbeat(other),
        subject::status(other),
        subject::direct_get(other),
        "$JS.API.DIRECT.GET.KNIT_TASKS".to_owned(),
        "$JS.API.INFO".to_owned(),
        "$JS.API.STREAM.INFO.KNIT_TASKS".to_owned(),
        "$JS.API.STREAM.MSG.GET.KNIT_TASKS".to_owned(),
        "$JS.API.STREAM.UPDATE.KNIT_TASKS".to_owned(),
        "$JS.API.STREAM.PURGE.KNIT_TASKS".to_owned(),
        "$JS.API.STREAM.DELETE.KNIT_TASKS".to_owned(),
        "$JS.API.STREAM.CREATE.MINE".to_owned(),
        "$JS.API.CONSUMER.CREATE.KNIT_TASKS".to_owned(),
        "$JS.API.CONSUMER.CREATE.KNIT_TASKS.x".to_owned(),
        "$JS.API.CONSUMER.DURABLE.CREATE.KNIT_TASKS.x".to_owned(),
        "$SYS.REQ.SERVER.PING".to_owned(),
        format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.UPDATE"),
        format!("{}.x", subject::inbox_prefix(other)),
        "_INBOX.x".to_owned(),
        "knit.server.probe".to_owned(),
    ] {
        let body = json!({"last_by_subj": tasks}).to_string();
        let answer = raw.publish(&said, &own_inbox, &body);
        assert!(answer.starts_with("-ERR 'Permissions Violation for Pub"), "{said}: {answer}");
    }
    assert_eq!(victims.last(&tasks).await.unwrap(), Some(stored));
    assert_eq!(raw.say("PING").unwrap(), "PONG", "its own connection lives, for its own subjects");
    assert_eq!(raw.say(&format!("SUB {} 99", subject::tasks(own))).unwrap(), "+OK");
}

#[tokio::test]
async fn the_server_does_not_answer_where_a_node_may_not_speak_itself() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let (victim, thief) = (Disk::new(1), Disk::new(2));
    let (victims, _) = program.bus(&victim).await;
    let agent = Agent::resume(&victim, Arc::new(victims.clone()), false);
    deploy(&program, "v1").await;
    let tasks = subject::tasks(&victim.node);
    let stored = victims.last(&tasks).await.unwrap().expect("an assignment");
    drop(agent);

    let token = thief.register(&program.api).await.unwrap().user_jwt;
    let mut raw = RawNats::connect(program.nats(), &thief.key(), &token).unwrap();
    let inbox = format!("{}.answer", subject::inbox_prefix(&thief.node));
    assert_eq!(raw.say(&format!("SUB {inbox} 1")).unwrap(), "+OK");
    let beat = thief.heartbeat();
    let mut report = |sequence: u64, reply: &str| {
        let body = json!({
            "cluster": beat.cluster, "node": thief.node, "agent_start": 1, "sequence": sequence,
            "full": true, "applied": beat.applied, "instances": [],
        });
        let said = raw.publish(&subject::status(&thief.node), reply, &body.to_string());
        assert_eq!(said, "+OK");
    };
    report(1, "$JS.API.STREAM.PURGE.KNIT_TASKS");
    report(2, "$JS.API.STREAM.DELETE.KNIT_TASKS");
    report(3, &tasks);
    report(4, &inbox);
    let answered = raw.line().unwrap();
    assert!(answered.starts_with(&format!("MSG {inbox}")), "its own inbox alone: {answered}");
    assert_eq!(raw.line().unwrap(), r#"{"sequence":4}"#);
    assert_eq!(victims.last(&tasks).await.unwrap(), Some(stored));
}

/// A node may have JetStream answer on any subject, and what it has answered is its own assignment:
/// signed, and refused by every other node.
#[tokio::test]
async fn what_is_written_over_a_stored_assignment_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let (victim, thief) = (Disk::new(1), Disk::new(2));
    let (victims, _) = program.bus(&victim).await;
    let (thiefs, response) = program.bus(&thief).await;
    let agents = [(&victim, &victims), (&thief, &thiefs)]
        .map(|(disk, bus)| Agent::resume(disk, Arc::new(bus.clone()), false));
    let both = "{name: both, image: v1, replicas: 2}".to_owned();
    program.api.deploy(both, Format::Yaml).await.unwrap();
    eventually("each runs one", || async {
        (victim.running().len() == 1 && thief.running().len() == 1).then_some(())
    })
    .await;
    drop(agents);
    let tasks = subject::tasks(&victim.node);
    let stored = victims.last(&tasks).await.unwrap().expect("an assignment");
    let thiefs_own = thiefs.last(&subject::tasks(&thief.node)).await.unwrap();

    let mut raw = RawNats::connect(program.nats(), &thief.key(), &response.user_jwt).unwrap();
    assert_eq!(raw.publish(&subject::direct_get(&thief.node), &tasks, ""), "+OK");
    eventually("it is written over", || async {
        (victims.last(&tasks).await.ok()? == thiefs_own).then_some(())
    })
    .await;
    // The victim comes back without it, and says so.
    victim.claim(Generation::default());
    let beat = serde_json::to_vec(&victim.heartbeat()).unwrap();
    victims.publish(&subject::heartbeat(&victim.node), beat).await.unwrap();
    eventually("it is there again", || async {
        (victims.last(&tasks).await.ok()?? == stored).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_but_a_token_of_this_cluster_that_holds_lets_in() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    let token = disk.register(&program.api).await.unwrap().user_jwt;
    let (key, user, node) = (disk.key(), disk.key().public_key(), &disk.node);
    let account = program.identity().account;
    let (at, now) = (program.nats(), now());
    RawNats::connect(at, &key, &token).map(drop).expect("its own token lets it in");
    let made = |account: &KeyPair, expires| {
        jwt::node_user(account, &user, node, now - 3600, expires).unwrap()
    };
    let mut forged = token.clone();
    forged.replace_range(token.len() - 4.., "AAAA");
    for (what, key, token) in [
        ("nothing", &key, String::new()),
        ("another's token", &KeyPair::new_user(), token.clone()),
        ("a token that was changed", &key, forged),
        ("one that has expired", &key, made(&account, now - 1)),
        ("another account's", &key, made(&KeyPair::new_account(), now + 3600)),
        ("one that it made itself", &key, made(&key, now + 3600)),
    ] {
        let refused = RawNats::connect(at, key, &token).map(drop).unwrap_err();
        assert!(refused.contains("Authorization Violation"), "{what}: {refused}");
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    disk.register(&program.api).await.unwrap();
    let account = program.identity().account;
    let user = disk.key().public_key();
    let brief = jwt::node_user(&account, &user, &disk.node, now(), now() + 2).unwrap();
    let raw = RawNats::connect(program.nats(), &disk.key(), &brief).unwrap();
    let heard = tokio::task::spawn_blocking(|| raw.until_closed()).await.unwrap();
    assert!(heard.iter().any(|line| line.contains("User Authentication Expired")), "{heard:?}");
    // Its last second is not over for NATS before the next has begun.
    eventually("it lets nobody in any more", || async {
        RawNats::connect(program.nats(), &disk.key(), &brief).err()
    })
    .await;
}

#[tokio::test]
async fn a_token_that_is_renewed_in_time_loses_no_assignment_and_no_report() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    let response = disk.register(&program.api).await.unwrap();
    let account = program.identity().account;
    let user = disk.key().public_key();
    let brief = |secs| jwt::node_user(&account, &user, &disk.node, now(), now() + secs).unwrap();
    let token = watch::Sender::new(brief(3));
    let bus = NatsBus::connect(NatsOptions {
        name: disk.name.clone(),
        url: response.nats_url,
        local_address: None,
        inbox_prefix: Some(subject::inbox_prefix(&disk.node)),
        nkey_seed: disk.key().seed().unwrap(),
        jwt: token.subscribe(),
        ca: None,
    })
    .await
    .unwrap();
    let mut state = bus.state();
    state.wait_for(|state| *state == BusState::Connected).await.map(drop).unwrap();
    state.mark_unchanged();
    // The connection was made with the brief one: it is dropped, and comes back with the other.
    token.send_replace(brief(3600));
    let _agent = Agent::resume(&disk, Arc::new(bus.clone()), false);
    // What is decided meanwhile comes before, in between or after.
    let mut rounds = 0;
    while !state.has_changed().unwrap() {
        deploy(&program, &format!("round{rounds}")).await;
        rounds += 1;
        assert!(rounds < 100, "the brief token never expired");
    }
    deploy(&program, "last").await;
    assert_eq!(disk.images(), ["last"]);
    assert_eq!(*bus.state().borrow(), BusState::Connected);
}
