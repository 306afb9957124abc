//! Secrets as clients and nodes see them: values go in, and come out for one node alone.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use knit_link::bus::MemoryBus;
use knit_link::http::HttpError;
use knit_rpc::api::{Cause, DeploymentState, NewSecret, SECRET_BYTES_MAX};
use knit_rpc::id::{DeploymentName, ProjectName, SecretName};
use knit_rpc::message::{NodeAssignment, secret_purpose};
use knit_rpc::sealed_box::OpeningKey;
use knit_runtime::clock;
use reqwest::Method;
use serde_json::Value;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server, eventually};

const PLANTED: &str = "planted-7f3a9c51";

fn name(text: &str) -> SecretName {
    text.parse().expect("a name")
}

async fn set(server: &Server, secret: &str, value: &str) -> u64 {
    let project = ProjectName::default();
    let stored = server.api.set_secret(&project, &name(secret), value.as_bytes(), None).await;
    stored.expect("it is stored").version
}

fn refusal(error: HttpError) -> (u16, String) {
    let HttpError::Refused { status, body } = error else { panic!("{error}") };
    (status, format!("{} {:?}", body.message, body.fields))
}

async fn with_node(home: &Home) -> (Server, MemoryBus, Agent, Disk) {
    let bus = MemoryBus::new();
    let server = Server::start_on_disk(home, &bus).await;
    let disk = Disk::new(1);
    let agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    (server, bus, agent, disk)
}

/// What the node was sent of a secret.
fn opened(disk: &Disk, key: &OpeningKey, secret: &str) -> Option<(u64, Option<Vec<u8>>)> {
    let assignment: NodeAssignment = disk.held()?;
    let found = assignment.secrets.iter().find(|one| one.name.as_str() == secret)?;
    let purpose = secret_purpose(&found.project, &found.name, found.version);
    let value = key.open(&purpose, &found.sealed).ok();
    Some((found.version, value.map(|value| value.to_vec())))
}

#[tokio::test]
async fn a_value_goes_in_and_comes_out_for_its_node_alone() {
    let home = Home::new();
    let (server, _bus, _agent, disk) = with_node(&home).await;
    assert_eq!(set(&server, "db", PLANTED).await, 1);
    let accepted = server.deploy("{name: web, image: v1, secrets: [{name: db, env: PW}]}").await;
    assert!(accepted.warnings[0].contains("docker inspect"), "{accepted:?}");
    server.until("web", DeploymentState::Running).await;
    let own = disk.opening_key();
    assert_eq!(opened(&disk, &own, "db"), Some((1, Some(PLANTED.as_bytes().to_vec()))));
    let other = Disk::new(2).opening_key();
    assert_eq!(opened(&disk, &other, "db"), Some((1, None)), "another node's key");

    let sent = disk.held_bytes();
    assert!(!String::from_utf8_lossy(&sent).contains(PLANTED));
    for file in ["knit.db", "knit.db-wal"] {
        let bytes = std::fs::read(home.dir.path().join(file)).expect("it is there");
        let planted = PLANTED.as_bytes();
        assert!(!bytes.windows(planted.len()).any(|part| part == planted), "{file}");
    }
    for path in ["/v1/secrets", "/v1/secrets/db", "/v1/deployments", "/v1/deployments/web/history"]
    {
        let url = format!("{}{path}", server.url);
        let client = reqwest::Client::new().get(url).bearer_auth(server.token.expose());
        let text = client.send().await.expect("an answer").text().await.expect("a text");
        let coded = base64::engine::general_purpose::STANDARD.encode(PLANTED);
        assert!(text.contains("version") || text.contains("secrets"), "{path}: {text}");
        assert!(!text.contains(PLANTED) && !text.contains(&coded), "{path}");
    }
    let audit = server.app.audit_after(0, 100).await.expect("the audit");
    let delivered = audit.iter().find(|entry| entry.action == "got a secret").expect("noted");
    assert_eq!(delivered.subject, "secret default/db version 1");
    assert!(delivered.actor.contains("n1"), "{delivered:?}");
    assert!(audit.iter().any(|entry| entry.subject == "secret default/db version 1"));
}

#[tokio::test]
async fn a_new_version_is_rolled_out_and_what_uses_a_secret_keeps_it() {
    let home = Home::new();
    let (server, _bus, _agent, disk) = with_node(&home).await;
    let project = ProjectName::default();
    set(&server, "db", "one").await;
    server.deploy("{name: web, image: v1, secrets: [{name: db}], update: {bake: 0s}}").await;
    server.until("web", DeploymentState::Running).await;
    let stored = server.api.set_secret(&project, &name("db"), b"two", None).await.expect("stored");
    assert_eq!((stored.version, stored.rolled_out), (2, vec!["web".to_owned()]));
    let own = disk.opening_key();
    eventually("the new version is there", || async {
        (opened(&disk, &own, "db")? == (2, Some(b"two".to_vec()))).then_some(())
    })
    .await;
    let web = DeploymentName::parse("web").expect("a name");
    let history = server.api.history(&project, &web).await.expect("a history");
    assert_eq!(history[0].cause, Cause::Secret { name: name("db"), version: 2 });
    let again = server.api.set_secret(&project, &name("db"), b"two", None).await.expect("stored");
    assert!(again.unchanged && again.version == 2);

    let (status, told) =
        refusal(server.api.remove_secret(&project, &name("db")).await.expect_err("refused"));
    assert_eq!(status, 409);
    assert!(told.contains("secret db is used by web"), "{told}");
    server.api.undeploy(&project, &web).await.expect("removed");
    server.until_gone("web").await;
    eventually("it can be removed", || async {
        server.api.remove_secret(&project, &name("db")).await.ok()
    })
    .await;
    assert!(server.api.secrets(None).await.expect("a list").is_empty());
}

#[tokio::test]
async fn a_signalled_instance_gets_the_new_version_and_stays() {
    let home = Home::new();
    let (server, _bus, _agent, disk) = with_node(&home).await;
    set(&server, "tls", "one").await;
    let secrets = "[{name: tls, on_change: signal, signal: HUP}]";
    server.deploy(&format!("{{name: web, image: v1, secrets: {secrets}}}")).await;
    server.until("web", DeploymentState::Running).await;
    let running = disk.running();
    assert_eq!(set(&server, "tls", "two").await, 2);
    let own = disk.opening_key();
    eventually("the new version is there", || async {
        (opened(&disk, &own, "tls")? == (2, Some(b"two".to_vec()))).then_some(())
    })
    .await;
    assert_eq!(disk.running(), running, "the same instance");
    assert_eq!(server.view("web").await.expect("it is there").revision, 1);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_with_a_sentence() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let project = ProjectName::default();
    let put = |path: &str, body: String| {
        let url = format!("{}{path}", server.url);
        let request = reqwest::Client::new().request(Method::PUT, url);
        let request = request.bearer_auth(server.token.expose()).body(body);
        async move {
            let response = request.send().await.expect("an answer");
            (response.status().as_u16(), response.text().await.expect("a text"))
        }
    };
    let most = SECRET_BYTES_MAX;
    let of =
        |bytes: usize| serde_json::to_string(&NewSecret::of(&vec![7; bytes], None)).expect("JSON");
    assert_eq!(put("/v1/secrets/large", of(most)).await.0, 200);
    for (path, body, status, told) in [
        ("/v1/secrets/large", of(most + 1), 400, "at most 512 KiB"),
        ("/v1/secrets/db", of(0), 400, "is empty"),
        ("/v1/secrets/db", r#"{"value": "%"}"#.to_owned(), 400, "standard base64"),
        ("/v1/secrets/db", r#"{"valeu": "aGk="}"#.to_owned(), 400, "knows no"),
        ("/v1/secrets/Db", of(1), 400, "secret name"),
        ("/v1/secrets/db?project=nowhere", of(1), 400, "nowhere"),
    ] {
        let (found, text) = put(path, body).await;
        assert_eq!(found, status, "{path}: {text}");
        assert!(text.contains(told), "{path}: {text}");
    }
    let deploy = server.api.deploy(
        "{name: web, image: v1, secrets: [{name: nobody}]}".to_owned(),
        knit_rpc::spec::Format::Yaml,
    );
    let (status, told) = refusal(deploy.await.expect_err("refused"));
    assert_eq!(status, 400);
    assert!(told.contains("there is no secret nobody in project default"), "{told}");
    server.api.set_secret(&project, &name("binary"), b"\xff\0", None).await.expect("any bytes");
    let deploy = server.api.deploy(
        "{name: web, image: v1, secrets: [{name: binary, env: B}]}".to_owned(),
        knit_rpc::spec::Format::Yaml,
    );
    let (_, told) = refusal(deploy.await.expect_err("refused"));
    assert!(told.contains("no text without NUL bytes"), "{told}");
}

#[tokio::test]
async fn of_two_who_set_at_once_both_count_unless_one_expects_otherwise() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let (project, db) = (ProjectName::default(), name("db"));
    let (one, two) = tokio::join!(
        server.api.set_secret(&project, &db, b"one", None),
        server.api.set_secret(&project, &db, b"two", None),
    );
    let mut versions = [one, two].map(|stored| stored.expect("stored").version);
    versions.sort_unstable();
    assert_eq!(versions, [1, 2]);
    let (three, four) = tokio::join!(
        server.api.set_secret(&project, &db, b"three", Some(2)),
        server.api.set_secret(&project, &db, b"four", Some(2)),
    );
    let refused = [three, four].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1, "{refused:?}");
    let (status, told) = refusal(refused.into_iter().next().expect("one"));
    assert_eq!(status, 409);
    assert!(told.contains("secret db is at version 3, not at 2"), "{told}");
}

#[tokio::test]
async fn an_old_value_is_erased_after_thirty_days() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start_on_disk(&home, &bus).await;
    let (project, db) = (ProjectName::default(), name("db"));
    set(&server, "db", "one").await;
    set(&server, "db", "two").await;
    let days = |days: u64| clock::now().plus(Duration::from_hours(24 * days));
    assert_eq!(server.app.erase_old_secrets(days(29)).await.expect("it looks"), 0);
    assert_eq!(server.app.erase_old_secrets(days(31)).await.expect("it looks"), 1);
    let kept = |version| server.app.store.sealed_secret(&project, &db, version);
    assert_eq!(kept(1).await.expect("read"), None);
    assert!(kept(2).await.expect("read").is_some());
    let versions = server.api.secret_versions(&project, &db).await.expect("a history");
    let erased: Vec<(u64, bool)> = versions.iter().map(|one| (one.version, one.erased)).collect();
    assert_eq!(erased, [(2, false), (1, true)]);
}

#[tokio::test]
async fn a_shut_vault_takes_and_gives_nothing_and_what_runs_goes_on() {
    let home = Home::new();
    let (server, bus, agent, disk) = with_node(&home).await;
    set(&server, "db", PLANTED).await;
    server.deploy("{name: web, image: v1, secrets: [{name: db}]}").await;
    server.until("web", DeploymentState::Running).await;
    let running = disk.running();
    drop(agent);
    server.stop().await;
    std::fs::remove_file(home.dir.path().join("master.key")).expect("removed");

    let server = Server::start_on_disk(&home, &bus).await;
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    let project = ProjectName::default();
    let refused = server.api.set_secret(&project, &name("db"), b"x", None).await;
    let (status, told) = refusal(refused.expect_err("refused"));
    assert_eq!(status, 503);
    assert!(told.contains("the master key") && told.contains("is missing"), "{told}");
    assert_eq!(server.api.secrets(None).await.expect("a list").len(), 1);
    server.deploy("{name: other, image: v1}").await;
    server.until("other", DeploymentState::Running).await;
    assert!(running.iter().all(|id| disk.running().contains(id)), "what ran runs on");
    let document: Value =
        serde_json::to_value(server.api.secrets(None).await.expect("a list")).expect("JSON");
    assert_eq!(document[0]["used_by"][0], "web");
}

#[tokio::test]
async fn a_node_that_lost_its_key_is_sent_everything_anew() {
    let home = Home::new();
    let (server, bus, agent, disk) = with_node(&home).await;
    set(&server, "db", PLANTED).await;
    server.deploy("{name: web, image: v1, secrets: [{name: db}]}").await;
    server.until("web", DeploymentState::Running).await;
    drop(agent);
    disk.lose_opening_key();
    let own = disk.opening_key();
    assert_eq!(opened(&disk, &own, "db"), Some((1, None)), "the old box is of no use");
    let _agent = Agent::join(&disk, &server.api, Arc::new(bus.client())).await;
    eventually("it is sealed to the new key", || async {
        (opened(&disk, &own, "db")? == (1, Some(PLANTED.as_bytes().to_vec()))).then_some(())
    })
    .await;
}
