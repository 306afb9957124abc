//! The real program with a real nats-server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::{Bus as _, BusState, NatsBus, NatsOptions};
use knit_rpc::api::{DeploymentState, NodeState};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::Format;
use knit_rpc::subject;
use knit_server::nats_server::{Addresses, Configuration, NatsServer, Place, jwt};
use nix::sys::signal::{Signal, kill};

use crate::support::agent::{Agent, Disk};
use crate::support::process::{NATS_PORT, Program, command, free_port, own_address};
use crate::support::{Home, eventually};

async fn connected(bus: &NatsBus) {
    let mut state = bus.state();
    let connected = state.wait_for(|state| *state == BusState::Connected);
    tokio::time::timeout(Duration::from_secs(20), connected).await.expect("in time").expect("open");
}

async fn deploy(program: &Program, yaml: &str) {
    program.api.deploy(yaml.to_owned(), Format::Yaml).await.expect("accepted");
}

async fn until_running(program: &Program, name: &str) {
    let name = DeploymentName::parse(name).expect("a name");
    eventually(&format!("{name} runs"), || async {
        let view = program.api.deployment(&ProjectName::default(), &name).await.ok()?;
        (view.state == DeploymentState::Running).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nats_comes_back_after_a_kill_with_all_it_kept() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    let (bus, _) = program.bus(&disk).await;
    connected(&bus).await;
    let _agent = Agent::resume(&disk, Arc::new(bus.clone()), false);
    deploy(&program, "{name: web, image: v1}").await;
    until_running(&program, "web").await;
    let tasks = subject::tasks(&disk.node);
    let before = bus.last(&tasks).await.unwrap().expect("an assignment");

    let pid = program.nats_pid().unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    eventually("another nats-server runs", || async {
        program.nats_pid().filter(|new| *new != pid)
    })
    .await;
    connected(&bus).await;
    let after =
        eventually("the stream is there", || async { bus.last(&tasks).await.ok().flatten() });
    assert_eq!(after.await, before, "it is intact");

    deploy(&program, "{name: web, image: v2}").await;
    eventually("all goes on", || async { (disk.images() == ["v2"]).then_some(()) }).await;
    program.until_healthy().await;
}

#[tokio::test]
async fn a_nats_that_hangs_loses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let mut agents = Vec::new();
    for n in 1..=2 {
        let disk = Disk::new(n);
        let (bus, _) = program.bus(&disk).await;
        connected(&bus).await;
        agents.push(Agent::resume(&disk, Arc::new(bus), false));
    }
    let api = &program.api;
    let states = || async {
        let nodes = api.nodes().await.ok()?;
        Some(nodes.into_iter().map(|node| (node.state, node.message)).collect::<Vec<_>>())
    };
    let ready = |states: &[(NodeState, Option<String>)]| {
        states.len() == 2 && states.iter().all(|(state, _)| *state == NodeState::Ready)
    };
    eventually("both are ready", || async { states().await.filter(|all| ready(all)) }).await;
    let pid = program.nats_pid().unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    // Longer than silence needs to make a node lost.
    let until = tokio::time::Instant::now() + Duration::from_secs(15);
    let mut told = false;
    while tokio::time::Instant::now() < until {
        let now = states().await.expect("an answer");
        // Stale gives nothing away, and a busy machine may notice late.
        let kept = |state| matches!(state, NodeState::Ready | NodeState::Stale);
        assert!(now.len() == 2 && now.iter().all(|(state, _)| kept(*state)), "{now:?}");
        told |= now.iter().all(|(_, message)| {
            message.as_deref() == Some("the server's own NATS connection is down")
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(told, "the reason was never said");
    eventually("both are ready again", || async { states().await.filter(|all| ready(all)) }).await;
    program.until_healthy().await;
}

#[tokio::test]
async fn a_node_can_neither_speak_nor_hear_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let (victim, thief) = (Disk::new(1), Disk::new(2));
    let (victims, _) = program.bus(&victim).await;
    let (thiefs, _) = program.bus(&thief).await;
    connected(&victims).await;
    connected(&thiefs).await;
    let own = victims.subscribe(&subject::tasks(&victim.node)).await.unwrap();
    let mut others = Vec::new();
    for heard in [
        subject::tasks(&victim.node),
        subject::ALL_TASKS.to_owned(),
        subject::ALL_HEARTBEATS.to_owned(),
        format!("{}.>", subject::inbox_prefix(&victim.node)),
        ">".to_owned(),
    ] {
        others.push((heard.clone(), thiefs.subscribe(&heard).await.unwrap()));
    }

    // Under its own name it is heard.
    let _thief = Agent::resume(&thief, Arc::new(thiefs.clone()), false);
    eventually("the thief is ready", || async {
        let nodes = program.api.nodes().await.ok()?;
        nodes.iter().any(|node| node.name == "n2" && node.state == NodeState::Ready).then_some(())
    })
    .await;
    // Under the other's name it is not: what it sends after is here before.
    let forged = Agent::resume(&victim, Arc::new(thiefs.clone()), false);
    drop(thiefs.publish(subject::BROADCAST, b"{}".to_vec()).await);
    tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.unwrap_err();
    let nodes = program.api.nodes().await.unwrap();
    let claimed = nodes.iter().find(|node| node.id.as_ref() == Some(&victim.node)).unwrap();
    assert_eq!(claimed.last_heartbeat, None, "{claimed:?}");
    drop(forged);

    // What is meant for the victim reaches it alone.
    let _victim = Agent::resume(&victim, Arc::new(victims.clone()), false);
    eventually("the victim is ready", || async {
        let nodes = program.api.nodes().await.ok()?;
        nodes.iter().any(|node| node.name == "n1" && node.state == NodeState::Ready).then_some(())
    })
    .await;
    deploy(&program, "{name: web, image: v1, replicas: 2}").await;
    until_running(&program, "web").await;
    assert!(!own.is_empty(), "the victim heard its assignment");
    for (heard, queue) in &others {
        assert!(queue.is_empty(), "{heard} was heard");
    }
    let tasks = subject::tasks(&victim.node);
    assert!(victims.last(&tasks).await.unwrap().is_some());
    assert!(thiefs.last(&tasks).await.is_err(), "the stored assignment was read");
    assert!(thiefs.put(&tasks, b"{}".to_vec()).await.is_err(), "the stream was written to");
    assert!(thiefs.ensure_tasks_stream().await.is_err(), "the stream was changed");
}

#[tokio::test]
async fn nats_moves_with_the_address_and_keeps_its_streams() {
    let home = Home::new();
    let identity = home.identity();
    let (from, to) = (own_address(), own_address());
    let monitor_port = free_port();
    let at = |client| Addresses { client, client_port: NATS_PORT, monitor_port };
    let place = Place { binary: "nats-server".into(), directory: home.dir.path().join("nats") };
    let now = knit_runtime::clock::now().as_millis() / 1000;
    let configuration = Arc::new(Configuration::new(place.directory.clone(), None));
    let nobody = BTreeMap::new();
    let server = NatsServer::start(place, configuration, &identity, at(from), &nobody, now);
    let server = server.await.unwrap();
    let user = identity.user.public_key();
    let token = jwt::server_user(&identity.account, &user, now, now + 3600).unwrap();
    let options = NatsOptions {
        name: "test".to_owned(),
        url: format!("nats://{from}:{NATS_PORT}"),
        local_address: None,
        inbox_prefix: None,
        nkey_seed: identity.user.seed().unwrap(),
        jwt: tokio::sync::watch::channel(token).1,
        ca: None,
    };
    let bus = NatsBus::connect(options).await.unwrap();
    connected(&bus).await;
    bus.ensure_tasks_stream().await.unwrap();
    bus.put("knit.tasks.a", b"kept".to_vec()).await.unwrap();

    server.readdress(&identity, at(to), &nobody, now).await.unwrap();
    bus.rebind(&format!("nats://{to}:{NATS_PORT}"), None).await.unwrap();
    let kept = eventually("the stream is there", || async {
        bus.last("knit.tasks.a").await.ok().flatten()
    })
    .await;
    assert_eq!(kept, b"kept");
    assert!(TcpStream::connect((from, NATS_PORT)).is_err(), "the old address was left");
    bus.close().await;
    server.stop().await;
    assert!(TcpStream::connect((to, NATS_PORT)).is_err(), "it stopped");
}

#[tokio::test]
async fn nobody_gets_in_without_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let mut stream = TcpStream::connect(program.nats()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").unwrap();
    let lines: Vec<String> = BufReader::new(&stream).lines().map_while(Result::ok).collect();
    assert!(lines.iter().any(|line| line.contains("Authorization Violation")), "{lines:?}");
    assert!(!lines.iter().any(|line| line == "PONG"), "{lines:?}");
    // One listener, on one address.
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, program.nats().port())).is_err());
}

#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_deploy_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(dir.path()).await;
    let disk = Disk::new(1);
    let (bus, _) = program.bus(&disk).await;
    connected(&bus).await;
    let _agent = Agent::resume(&disk, Arc::new(bus.clone()), false);
    for (round, pause) in [0, 3, 10, 40, 150].into_iter().enumerate() {
        deploy(&program, &format!("{{name: web, image: v{round}, replicas: 3}}")).await;
        std::thread::sleep(Duration::from_millis(pause));
        program.kill();
        program = program.start_again().await;
        until_running(&program, "web").await;
        assert_eq!(disk.images(), vec![format!("v{round}"); 3], "killed after {pause} ms");
    }
    assert_eq!(disk.generation().epoch, 0, "the server never mistook itself for one that forgot");
}

#[tokio::test]
async fn it_stops_in_order_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let mut events = program.api.events(None).await.unwrap();
    let nats = program.nats_pid().unwrap();
    let status = program.terminate().await;
    assert!(status.success(), "{status:?}");
    assert_eq!(events.next().await.ok().flatten(), None, "who watched was let go");
    assert!(kill(nats, None).is_err(), "its nats-server has stopped too");
}

#[tokio::test]
async fn without_a_mesh_it_serves_loopback_and_says_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut child = command(dir.path()).args(["--port", &port.to_string()]).spawn().unwrap();
    let url = format!("http://127.0.0.1:{port}/healthz");
    let told =
        eventually("it serves", || async { reqwest::get(&url).await.ok()?.text().await.ok() })
            .await;
    assert!(told.contains("the mesh address is awaited"), "{told}");
    assert!(!dir.path().join("nats").exists(), "NATS waits for its address");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_it_cannot_start_on_is_said_and_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let run = |extra: &[&str]| {
        let mut command = command(&state);
        let command = command.args(extra).env("RUST_BACKTRACE", "1");
        let output = command.stderr(std::process::Stdio::piped()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, told) = run(&["--config", "/nonexistent/knit.toml"]);
    assert!(!good && told.contains("/nonexistent/knit.toml"), "{told}");
    assert!(told.starts_with("error: ") && told.lines().count() == 1, "one line: {told}");

    std::fs::create_dir(&state).unwrap();
    let identity = state.join("identity.json");
    std::fs::write(&identity, "{\"cluster\":").unwrap();
    let (good, told) = run(&[]);
    assert!(!good && told.contains("is damaged"), "{told}");
    assert_eq!(std::fs::read_to_string(&identity).unwrap(), "{\"cluster\":");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);

    std::fs::remove_file(&identity).unwrap();
    std::fs::write(state.join("knit.db"), "rubbish that is no database at all").unwrap();
    let (good, told) = run(&[]);
    assert!(!good && told.contains("no identity file"), "{told}");
}
