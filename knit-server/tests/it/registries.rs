//! Registries that take a user name and a password: kept sealed, and handed out for a pull alone.

use std::path::Path;
use std::sync::Arc;

use knit_link::bus::MemoryBus;
use knit_link::http::HttpError;
use knit_rpc::api::{
    DeploymentState, NewRegistry, PullCredentials, PullRequest, PullResponse, RegisterRequest,
};
use knit_rpc::id::{InstanceId, ProjectName};
use knit_rpc::signed::{self, Context};
use knit_runtime::clock;

use crate::support::agent::{Agent, Disk};
use crate::support::registry::{Registry, Tokens, USER};
use crate::support::tls::Authority;
use crate::support::{Home, Server};

const PASSWORD: &str = "planted>~?secret/+";

fn new(host: &str, password: &str) -> NewRegistry {
    NewRegistry {
        project: ProjectName::default(),
        host: host.to_owned(),
        username: USER.to_owned(),
        password: password.to_owned(),
        ca: None,
        insecure: false,
    }
}

async fn takes(server: &Server, new: &NewRegistry) -> Result<String, String> {
    server.api.put_registry(new).await.expect("kept");
    let tested = server.api.test_registry(&new.project, &new.host).await.expect("tested");
    if tested.takes { Ok(tested.message) } else { Err(tested.message) }
}

#[tokio::test]
async fn a_real_registry_takes_the_right_password_over_tls_alone() {
    let (home, dir) = (Home::new(), tempfile::tempdir().unwrap());
    let server = Server::start(&home, &MemoryBus::new()).await;
    let (authority, other) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "x"));
    let certificate = authority.sign([127, 0, 0, 1].into());
    let registry = Registry::start(dir.path(), PASSWORD, Some(&certificate)).await;
    let pem = |authority: &Authority| std::fs::read_to_string(&authority.certificate).ok();
    let good = NewRegistry { ca: pem(&authority), ..new(&registry.host, PASSWORD) };
    let told = takes(&server, &good).await.unwrap();
    assert!(told.contains("takes the password of ci"), "{told}");
    let wrong = NewRegistry { password: "wrong".to_owned(), ..good.clone() };
    let told = takes(&server, &wrong).await.unwrap_err();
    assert!(told.contains("refuses the user name or the password"), "{told}");
    let foreign = NewRegistry { ca: pem(&other), ..good.clone() };
    let told = takes(&server, &foreign).await.unwrap_err();
    assert!(told.contains("does not answer") && told.contains("certificate"), "{told}");
    let plain = NewRegistry { insecure: true, ca: None, ..good.clone() };
    let told = takes(&server, &plain).await.unwrap_err();
    assert!(told.contains("400"), "it does not speak without TLS: {told}");
    takes(&server, &good).await.expect("what was rotated back is taken again");
    drop(registry);
    let told = takes(&server, &good).await.unwrap_err();
    assert!(told.contains("does not answer"), "{told}");
    assert!(!told.contains(PASSWORD), "{told}");
    server.stop().await;
}

#[tokio::test]
async fn a_password_goes_to_no_foreign_realm() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let registry = Tokens::start(None).await;
    let told = takes(&server, &new(&registry.host, "open")).await.unwrap();
    assert!(told.contains("a token for each pull"), "{told}");
    takes(&server, &new(&registry.host, "shut")).await.unwrap_err();
    assert_eq!(registry.asked(), ["service=tests&account=ci", "service=tests&account=ci"]);

    let elsewhere = Tokens::start(None).await;
    let port = elsewhere.host.rsplit(':').next().unwrap();
    let foreign = Tokens::start(Some(&format!("http://localhost:{port}/token"))).await;
    let told = takes(&server, &new(&foreign.host, "open")).await.unwrap_err();
    assert!(told.contains("localhost, which is not of its own domain"), "{told}");
    assert!(elsewhere.asked().is_empty(), "nothing was sent there");
    server.stop().await;
}

/// A node with one instance of an image.
async fn node(server: &Server, bus: &MemoryBus, n: u8, image: &str) -> (Agent, InstanceId) {
    let agent = Agent::join(&Disk::new(n), &server.api, Arc::new(bus.client())).await;
    server.deploy(&format!("{{name: web{n}, image: \"{image}\"}}")).await;
    server.until(&format!("web{n}"), DeploymentState::Running).await;
    let instances = server.api.instances(None).await.expect("instances");
    let name = format!("web{n}");
    let found = instances.iter().find(|one| one.deployment.as_str() == name).expect("it is there");
    let id = found.id.clone();
    (agent, id)
}

async fn pull(
    server: &Server,
    disk: &Disk,
    instance: &InstanceId,
    image: &str,
) -> Result<(PullResponse, PullRequest), HttpError> {
    let request = PullRequest {
        node: disk.node.clone(),
        nonce: "11".repeat(16),
        at: clock::now(),
        instance: instance.clone(),
        image: image.to_owned(),
    };
    send(server, &disk.key(), &request).await.map(|response| (response, request))
}

async fn send(
    server: &Server,
    key: &nkeys::KeyPair,
    request: &PullRequest,
) -> Result<PullResponse, HttpError> {
    let message = signed::sign(key, Context::Pull, request).expect("signed");
    let answer = server.api.pull_credentials(message).await?;
    let server_key = server.app.identity.public_key();
    Ok(signed::verify(&server_key, Context::Pulled, &answer).expect("the server's"))
}

fn opened(disk: &Disk, response: &PullResponse, request: &PullRequest) -> PullCredentials {
    let sealed = response.credentials.as_ref().expect("credentials");
    let plain = disk.opening_key().open(&request.purpose(), sealed).expect("they open");
    serde_json::from_slice(&plain).expect("json")
}

fn holds(dir: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(dir).expect("a directory").flatten();
    files
        .filter_map(|file| std::fs::read(file.path()).ok())
        .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[tokio::test]
async fn a_node_is_handed_what_its_own_pull_needs_and_nobody_else_is() {
    let (home, bus, dir) = (Home::new(), MemoryBus::new(), tempfile::tempdir().unwrap());
    let server = Server::start_on_disk(&home, &bus).await;
    let registry = Registry::start(dir.path(), PASSWORD, None).await;
    let image = format!("{}/team/web:1", registry.host);
    let (agent, instance) = node(&server, &bus, 1, &image).await;
    let disk = agent.disk.clone();
    let (none, _) = pull(&server, &disk, &instance, &image).await.unwrap();
    assert_eq!((none.credentials, none.refusal), (None, None), "the project has none");

    let kept = server.api.put_registry(&new(&registry.host, PASSWORD)).await.unwrap();
    let listed = server.api.registries(None).await.unwrap();
    assert_eq!(listed, [kept]);
    assert!(!serde_json::to_string(&listed).unwrap().contains(PASSWORD));
    let (response, request) = pull(&server, &disk, &instance, &image).await.unwrap();
    let password = PullCredentials::Password { username: USER.into(), password: PASSWORD.into() };
    assert_eq!(opened(&disk, &response, &request), password);
    assert!(!serde_json::to_string(&response).unwrap().contains(PASSWORD), "it is sealed");

    // Not for another image, another instance, another node, another key, or an old request.
    let (other, others) = node(&server, &bus, 2, "v1").await;
    let elsewhere = format!("{}/team/other:1", registry.host);
    for (disk, instance, image) in [
        (&disk, &instance, &elsewhere),
        (&disk, &others, &image),
        (&other.disk, &instance, &image),
        (&Disk::new(9), &instance, &image),
    ] {
        let error = pull(&server, disk, instance, image).await.unwrap_err();
        assert_eq!(error.status(), Some(403), "{error}");
    }
    let error = send(&server, &other.disk.key(), &request).await.unwrap_err();
    assert_eq!(error.status(), Some(403), "{error}");
    let old = PullRequest { at: knit_rpc::Timestamp::from_millis(1), ..request.clone() };
    let error = send(&server, &disk.key(), &old).await.unwrap_err();
    assert!(error.to_string().contains("the node's clock is"), "{error}");
    let as_register = signed::sign(&disk.key(), Context::Register, &request).unwrap();
    assert_eq!(server.api.pull_credentials(as_register).await.unwrap_err().status(), Some(403));

    // Each hand-out is written down, and what was handed out is not.
    let audit = server.api.audit(0).await.unwrap();
    let handed: Vec<_> = audit.iter().filter(|one| one.action.contains("was handed")).collect();
    assert_eq!(handed.len(), 1, "{audit:?}");
    assert_eq!(handed[0].action, "was handed the password");
    assert!(handed[0].subject.contains(&image), "{}", handed[0].subject);
    assert!(!holds(home.dir.path(), PASSWORD), "the database holds no password");

    // A changed password is refused by name, and the right one is handed out at the next pull.
    server.api.put_registry(&new(&registry.host, "old")).await.unwrap();
    let (refused, _) = pull(&server, &disk, &instance, &image).await.unwrap();
    let why = refused.refusal.expect("a refusal");
    let expected = format!(
        "registry {host} refused the credentials of project default (knit registry test {host})",
        host = registry.host
    );
    assert!(why.starts_with(&expected), "{why}");
    server.api.put_registry(&new(&registry.host, PASSWORD)).await.unwrap();
    let (response, request) = pull(&server, &disk, &instance, &image).await.unwrap();
    assert_eq!(opened(&disk, &response, &request), password);
    server.api.remove_registry(&ProjectName::default(), &registry.host).await.unwrap();
    let (none, _) = pull(&server, &disk, &instance, &image).await.unwrap();
    assert_eq!(none.credentials, None);
    server.stop().await;
}

#[tokio::test]
async fn where_a_registry_gives_tokens_the_password_stays_on_the_server() {
    let (home, bus) = (Home::new(), MemoryBus::new());
    let server = Server::start(&home, &bus).await;
    let registry = Tokens::start(None).await;
    server.api.put_registry(&new(&registry.host, "open")).await.unwrap();
    let image = format!("{}/team/web:1", registry.host);
    let (agent, instance) = node(&server, &bus, 1, &image).await;
    let disk = agent.disk.clone();
    let (response, request) = pull(&server, &disk, &instance, &image).await.unwrap();
    let token = PullCredentials::Token("for-minutes".to_owned());
    assert_eq!(opened(&disk, &response, &request), token);
    let asked = registry.asked();
    assert_eq!(asked, ["service=tests&scope=repository%3Ateam%2Fweb%3Apull&account=ci"]);

    // An agent without a key is handed nothing in the clear.
    let request = RegisterRequest { sealing_key: None, ..disk.request() };
    let signed = signed::sign(&disk.key(), Context::Register, &request).unwrap();
    server.api.register(signed).await.unwrap();
    let error = pull(&server, &disk, &instance, &image).await.unwrap_err();
    assert_eq!(error.status(), Some(409), "{error}");
    server.stop().await;
}
