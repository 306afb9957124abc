//! Deployments that files on the server's host declare.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::MemoryBus;
use knit_rpc::api::{DeploymentState, NodeState, RolloutState};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::Format;
use knit_server::loops::declared;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::agent::{Agent, Disk};
use crate::support::process::{Program, Told, command, free_port, own_address};
use crate::support::{Home, Server, eventually};

/// Long enough that a test which waits for it fails.
const NEVER: Duration = Duration::from_hours(1);

pub(crate) fn files(all: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in all {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    dir
}

/// One start: what could not be applied.
pub(crate) async fn apply(server: &Server, dir: &Path) -> Option<String> {
    let (trouble, mut told) = watch::channel(None);
    let stop = CancellationToken::new();
    let run = declared::run(&server.app, dir, &trouble, NEVER, stop);
    let first = async {
        told.changed().await.expect("it is told");
        told.borrow().clone()
    };
    tokio::select! {
        biased;
        first = first => first,
        () = run => trouble.borrow().clone(),
    }
}

pub(crate) async fn revisions(server: &Server) -> Vec<String> {
    let all = server.api.deployments(None).await.expect("deployments");
    all.iter().map(|one| format!("{}/{} {}", one.project, one.name, one.revision)).collect()
}

fn web() -> (ProjectName, DeploymentName) {
    (ProjectName::default(), "web".parse().expect("a name"))
}

#[tokio::test]
async fn what_files_declare_is_applied_once_and_again_when_it_differs() {
    let home = Home::new();
    let dir = files(&[
        ("10-web.yaml", "{name: web, image: 'a:1', replicas: 0}"),
        ("20-db.json", r#"{"name": "db", "project": "shop", "image": "pg", "replicas": 0}"#),
        ("30-job.toml", "name = 'job'\nimage = 'j'\nreplicas = 0\n"),
        (".hidden.yaml", "no manifest"),
        ("README", "no manifest"),
    ]);
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    assert_eq!(apply(&server, dir.path()).await, None);
    let first = ["default/job 1", "default/web 1", "shop/db 1"];
    assert_eq!(revisions(&server).await, first);
    let audit = server.api.audit(0).await.unwrap();
    let noted: Vec<_> = audit
        .iter()
        .map(|one| format!("{} {} {}: {}", one.actor, one.origin, one.action, one.subject))
        .collect();
    assert_eq!(
        noted,
        [
            "declared file apply 10-web.yaml: default/web revision 1",
            "declared file apply 20-db.json: project shop",
            "declared file apply 20-db.json: shop/db revision 1",
            "declared file apply 30-job.toml: default/job revision 1",
        ]
    );
    server.stop().await;

    for _ in 0..3 {
        let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
        assert_eq!(apply(&server, dir.path()).await, None);
        assert_eq!(revisions(&server).await, first, "no start makes a revision");
        server.stop().await;
    }

    let text = "{name: web, image: 'a:2', replicas: 0}";
    std::fs::write(dir.path().join("10-web.yaml"), text).unwrap();
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    let (project, name) = web();
    let job = DeploymentName::parse("job").unwrap();
    // What was stopped is not started, and what was scaled is as declared again.
    server.api.stop(&project, &job).await.unwrap();
    let db = DeploymentName::parse("db").unwrap();
    server.api.scale(&"shop".parse().unwrap(), &db, 2).await.unwrap();
    assert_eq!(apply(&server, dir.path()).await, None);
    assert_eq!(revisions(&server).await, ["default/job 1", "default/web 2", "shop/db 3"]);
    assert_eq!(server.view("web").await.unwrap().spec.instance.image, "a:2");
    assert_eq!(server.view("job").await.unwrap().state, DeploymentState::Stopped);

    // What was removed by hand is there again at the next start: its file says so.
    server.api.undeploy(&project, &name).await.unwrap();
    server.until_gone("web").await;
    assert_eq!(apply(&server, dir.path()).await, None);
    assert_eq!(revisions(&server).await, ["default/job 1", "default/web 1", "shop/db 3"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_broken_keeps_nothing_else_from_being_applied() {
    let big = format!("name: big\nimage: '{}'\n", "x".repeat(2 << 20));
    let dir = files(&[
        ("a.yaml", "name: Web\nimage: 'a:1'\nreplica: 2\n"),
        ("b.json", "{"),
        ("c.yml", "{name: web, image: 'a:1', replicas: 0}"),
        ("d.yaml", "{name: web, image: 'a:2', replicas: 0}"),
        ("e.yaml", "{name: api, image: 'a:1', replicas: 0, secrets: [{name: db, file: /db}]}"),
        ("f.yaml", ""),
        ("g.yaml", &big),
        ("z.toml", "name = 'last'\nimage = 'l'\nreplicas = 0\n"),
    ]);
    nix::unistd::mkfifo(&dir.path().join("h.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::create_dir(dir.path().join("i.yaml")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/x", dir.path().join("j.yaml")).unwrap();
    std::fs::write(dir.path().join("k.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let (trouble, mut told) = watch::channel(None);
    let (app, stop) = (Arc::clone(&server.app), CancellationToken::new());
    let (path, ended) = (dir.path().to_owned(), stop.clone());
    let running = tokio::spawn(async move {
        declared::run(&app, &path, &trouble, Duration::from_millis(50), ended).await;
        trouble.borrow().clone()
    });
    let mut until = async |words: &str| {
        let found = told.wait_for(|told| told.as_deref().is_some_and(|told| told.contains(words)));
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        found.unwrap_or_else(|_| panic!("never {words}")).unwrap().clone().unwrap()
    };
    let first = until("10 of 12 manifests in ").await;
    assert!(first.contains("not applied: a.yaml:1:7: name: deployment name"), "{first}");
    assert_eq!(revisions(&server).await, ["default/last 1", "default/web 1"]);
    assert_eq!(server.view("web").await.unwrap().spec.instance.image, "a:1", "the first has it");

    // What is mended is taken without a start, and so is what waited for a secret.
    for name in ["b.json", "d.yaml", "f.yaml", "g.yaml", "h.yaml", "j.yaml", "k.yaml"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    std::fs::remove_dir(dir.path().join("i.yaml")).unwrap();
    std::fs::write(dir.path().join("a.yaml"), "{name: cron, image: c, replicas: 0}").unwrap();
    let waits = until("1 of 4 manifests").await;
    assert!(waits.contains("e.yaml: ") && waits.contains("db"), "{waits}");
    let secret = "db".parse().unwrap();
    server.api.set_secret(&ProjectName::default(), &secret, b"x", None).await.unwrap();
    assert_eq!(running.await.unwrap(), None, "it ends when all is applied");
    let all = ["default/api 1", "default/cron 1", "default/last 1", "default/web 1"];
    assert_eq!(revisions(&server).await, all);
    let missing = apply(&server, Path::new("/nonexistent/manifests")).await.unwrap();
    assert!(missing.starts_with("/nonexistent/manifests: cannot be read: No such"), "{missing}");
    server.stop().await;
}

#[tokio::test]
async fn what_was_rolled_back_waits_for_another_file() {
    let home = Home::new();
    let dir = files(&[("web.yaml", "{name: web, image: v1}")]);
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(&home, &bus).await;
    let disk = Disk::new(1);
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    assert_eq!(apply(&server, dir.path()).await, None);
    server.until("web", DeploymentState::Running).await;
    let put = |image: &str| {
        let text = format!("{{name: web, image: {image}}}");
        std::fs::write(dir.path().join("web.yaml"), text).unwrap();
    };
    put("v2");
    assert_eq!(apply(&server, dir.path()).await, None);
    server.until_rollout("web", RolloutState::Succeeded).await;
    let (project, name) = web();
    server.api.rollback(&project, &name, Some(1)).await.unwrap();
    for _ in 0..2 {
        let told = apply(&server, dir.path()).await.expect("it is told");
        assert!(told.contains("1 of 1") && told.contains("given up as revision 2"), "{told}");
        assert_eq!(revisions(&server).await, ["default/web 3"]);
    }
    put("v3");
    assert_eq!(apply(&server, dir.path()).await, None);
    assert_eq!(revisions(&server).await, ["default/web 4"]);
    // Whoever wants it again says so by hand.
    server.deploy("{name: web, image: v2}").await;
    put("v2");
    assert_eq!(apply(&server, dir.path()).await, None);
    assert_eq!(revisions(&server).await, ["default/web 5"]);
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_gone_undeploys_nothing_and_is_told_of_once() {
    let dir = files(&[
        ("api.yaml", "{name: api, image: a, replicas: 0}"),
        ("db.yaml", "{name: db, image: a, replicas: 0}"),
        ("web.yaml", "{name: web, image: a, replicas: 0}"),
    ]);
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    assert_eq!(apply(&server, dir.path()).await, None);
    let (project, name) = web();
    server.api.undeploy(&project, &name).await.unwrap();
    std::fs::remove_file(dir.path().join("web.yaml")).unwrap();
    std::fs::remove_file(dir.path().join("db.yaml")).unwrap();
    std::fs::rename(dir.path().join("api.yaml"), dir.path().join("10-api.yaml")).unwrap();
    assert_eq!(apply(&server, dir.path()).await, None);
    let gone = server.app.store.declared().await.unwrap();
    assert_eq!(gone.into_values().collect::<Vec<_>>(), ["10-api.yaml"]);
    let nothing = server.app.no_longer_declared(|file| file == "10-api.yaml").await.unwrap();
    assert_eq!(nothing, [], "it was told");
    assert_eq!(revisions(&server).await, ["default/api 1", "default/db 1"]);
    let gone = server.app.no_longer_declared(|_| false).await.unwrap();
    let api = (ProjectName::default(), DeploymentName::parse("api").unwrap());
    assert_eq!(gone, [(api, "10-api.yaml".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_forgot_takes_in_what_runs_as_what_is_declared() {
    let home = Home::new();
    let dir = files(&[("web.yaml", "{name: web, image: v1, replicas: 2}")]);
    let (one, two) = (Disk::new(1), Disk::new(2));
    let bus = MemoryBus::new();
    let server = Server::start(&home, &bus).await;
    let agents = [
        Agent::join(&one, &server.api, Arc::new(bus.client())).await,
        Agent::join(&two, &server.api, Arc::new(bus.client())).await,
    ];
    eventually("both are ready", || async {
        let nodes = server.api.nodes().await.ok()?;
        (nodes.iter().filter(|node| node.state == NodeState::Ready).count() == 2).then_some(())
    })
    .await;
    assert_eq!(apply(&server, dir.path()).await, None);
    server.until("web", DeploymentState::Running).await;
    let before = (one.running(), two.running());
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    drop(agents);
    server.stop().await;

    // It declares before it has heard of any node.
    let bus = MemoryBus::new();
    let server = Server::start(&home, &bus).await;
    assert_eq!(apply(&server, dir.path()).await, None);
    let _a = Agent::join(&one, &server.api, Arc::new(bus.client())).await;
    eventually("the first is taken in", || async { (one.generation().epoch == 1).then_some(()) })
        .await;
    let _b = Agent::join(&two, &server.api, Arc::new(bus.client())).await;
    server.until("web", DeploymentState::Running).await;
    eventually("both are taken in", || async { (two.generation().epoch == 1).then_some(()) }).await;
    assert_eq!((one.running(), two.running()), before, "every container is the same");
    assert_eq!(one.started() + two.started(), 2, "none was started again");
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_applies_has_each_once_in_the_end() {
    const COUNT: usize = 40;
    let state = tempfile::tempdir().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for n in 0..COUNT {
        let text = format!("{{name: web-{n}, image: 'a:1', replicas: 0, project: shop}}");
        std::fs::write(dir.path().join(format!("{n:02}.yaml")), text).unwrap();
    }
    std::fs::write(dir.path().join("zz.yaml"), "name: web\nimage: x\nimag: y\n").unwrap();
    let (address, monitor) = (own_address(), free_port().to_string());
    let manifests = dir.path().to_string_lossy().into_owned();
    let extra = ["--nats-monitor-port", &monitor, "--manifests-dir", &manifests];
    // Ever later, so that it is hit before, within and after.
    for wait in [1, 5, 20, 60, 120, 250, 400] {
        let mut program = Program::spawn_with(state.path(), address, 0, &extra);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        program.kill();
    }
    let told = Told::at(&state.path().join("notify.sock"));
    let mut child = command(state.path())
        .args(["--listen", &address.to_string()])
        .args(extra)
        .env("NOTIFY_SOCKET", &told.path)
        .spawn()
        .unwrap();
    let status =
        tokio::task::spawn_blocking(move || told.until("1 of 41 manifests")).await.unwrap();
    assert!(status.contains("STATUS=running; 1 of 41 manifests in "), "{status}");
    assert!(status.contains("not applied: zz.yaml:3:1: imag: is an unknown key"), "{status}");
    let api = knit_link::http::ApiClient::on_socket(&state.path().join("api.sock")).unwrap();
    let all = api.deployments(None).await.unwrap();
    assert_eq!(all.len(), COUNT);
    assert!(all.iter().all(|one| one.revision == 1), "{all:?}");
    // What people do goes on beside a broken file.
    api.deploy("{name: other, image: 'a:1', replicas: 0}".to_owned(), Format::Yaml).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}
