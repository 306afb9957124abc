//! Bodies that nobody would send: from a node that was taken over, and over HTTP.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Uri};
use knit_fuzz::Fuzz;
use knit_link::bus::MemoryBus;
use knit_rpc::api::NodeState;
use knit_rpc::id::NodeId;
use knit_server::app::AppError;
use knit_server::app::reports::Received;
use knit_server::http::access::Origin;
use knit_server::http::{Shared, router};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::support::agent::{Agent, Disk};
use crate::support::{Home, Server};

const INPUT_MAX_BYTES: usize = 8_192;
/// What one request may take on a machine that has other things to do.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const SHOWN_BYTES_MAX: usize = 256 * 1024;
const WORDS: [&str; 26] = [
    "?project=",
    "&revision=0",
    "default",
    "%2e%2e%2f",
    "%00",
    "%ff",
    "/v1/",
    "POST ",
    "DELETE ",
    "\"name\":",
    "\"facts\":",
    "\"labels\":{\"a\":null}",
    "\"phase\":\"failed\"",
    "\"revision\":18446744073709551615",
    "\"epoch\":18446744073709551615",
    "\"counter\":18446744073709551615",
    "\"sequence\":18446744073709551615",
    "\"at\":18446744073709551615",
    "CLUSTER",
    "NODE",
    "INSTANCE",
    "DEPLOYMENT",
    "\"slot\":4294967295",
    "10.208.0.0/14",
    "255.255.255.255",
    "\"full\":true",
];

fn fuzz(name: &str, runs: u32, target: impl FnMut(&[u8]) -> String) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    Fuzz { corpus: &corpus, words: &WORDS, runs, input_max: INPUT_MAX_BYTES }.run(target);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A server with an honest node that runs `web`, and one that was taken over.
struct Scene {
    server: Server,
    _agents: Vec<Agent>,
    bad: NodeId,
    honest: NodeId,
    /// What stands in for the words of the corpus.
    ids: [(&'static str, String); 4],
}

impl Scene {
    async fn new() -> Self {
        let bus = MemoryBus::new();
        let server = Server::start(&Home::new(), &bus).await;
        let (bad, honest) = (Disk::new(1), Disk::new(2));
        let mut agents = Vec::new();
        for disk in [&bad, &honest] {
            agents.push(Agent::join(disk, &server.api, Arc::new(bus.client())).await);
        }
        server.deploy("{name: web, image: v1, where: name == \"n2\"}").await;
        let web = server.until("web", knit_rpc::api::DeploymentState::Running).await;
        let instance = web.instances[0].id.to_string();
        let deployment = server.app.world().await.snapshot.deployments.keys().next().cloned();
        let ids = [
            ("CLUSTER", server.app.identity.cluster.to_string()),
            ("NODE", bad.node.to_string()),
            ("INSTANCE", instance),
            ("DEPLOYMENT", deployment.expect("web").to_string()),
        ];
        Self { server, _agents: agents, bad: bad.node, honest: honest.node, ids }
    }

    fn parse<T: DeserializeOwned>(&self, input: &[u8]) -> Option<T> {
        let mut text = String::from_utf8_lossy(input).into_owned();
        for (word, id) in &self.ids {
            text = text.replace(word, id);
        }
        serde_json::from_str(&text).ok()
    }

    /// Whether the honest node and what runs on it are as they were, and all can still be shown.
    async fn is_unharmed(&self) {
        let world = self.server.app.world().await;
        let honest = &world.snapshot.nodes[&self.honest];
        assert_eq!(honest.name(), "n2");
        let bad = serde_json::to_vec(&world.snapshot.nodes[&self.bad].facts).expect("JSON");
        assert!(bad.len() < SHOWN_BYTES_MAX, "{} bytes of one node", bad.len());
        drop(world);
        let web = self.server.view("web").await.expect("web");
        assert_eq!(web.instances.len(), 1, "{web:?}");
        assert_eq!(web.instances[0].node_name, "n2");
    }
}

#[test]
fn what_a_node_beats_harms_nobody_else() {
    let runtime = runtime();
    let scene = runtime.block_on(Scene::new());
    let (mut runs, mut taken) = (0, 0);
    fuzz("heartbeat", 8_000, |input| {
        let Some(beat) = scene.parse(input) else { return "no heartbeat".to_owned() };
        runs += 1;
        let heard = runtime.block_on(scene.server.app.beat(&scene.bad, beat));
        if runs % 64 == 0 {
            runtime.block_on(scene.is_unharmed());
        }
        taken += u32::from(heard.is_ok());
        outcome(heard)
    });
    assert!(taken > 50, "only {taken} were taken: the corpus is no good");
    runtime.block_on(async {
        scene.is_unharmed().await;
        let nodes = scene.server.api.nodes().await.expect("nodes");
        assert!(nodes.iter().any(|node| node.state == NodeState::Ready), "{nodes:?}");
        scene.server.stop().await;
    });
}

#[test]
fn what_a_node_reports_harms_nobody_else() {
    let runtime = runtime();
    let scene = runtime.block_on(Scene::new());
    let (mut runs, mut taken) = (0, 0);
    fuzz("report", 8_000, |input| {
        let Some(report) = scene.parse(input) else { return "no report".to_owned() };
        runs += 1;
        let received = Received { sender: scene.bad.clone(), report };
        let stored = runtime.block_on(scene.server.app.store_reports(vec![received]));
        if runs % 64 == 0 {
            runtime.block_on(scene.is_unharmed());
        }
        let strangers = stored.as_ref().is_ok_and(|strangers| !strangers.is_empty());
        taken += u32::from(stored.is_ok() && !strangers);
        format!("{strangers} {}", outcome(stored.map(|_| ())))
    });
    assert!(taken > 50, "only {taken} were taken: the corpus is no good");
    runtime.block_on(async {
        scene.is_unharmed().await;
        scene.server.stop().await;
    });
}

/// What the server made of it; that it failed at it is a fault.
fn outcome(result: Result<(), AppError>) -> String {
    match result {
        Ok(()) => "taken".to_owned(),
        Err(error @ (AppError::Store(_) | AppError::Internal(_))) => panic!("{error:?}"),
        Err(error) => error.to_string().split(' ').take(4).collect::<Vec<_>>().join(" "),
    }
}

/// `METHOD URI`, the content type, and the body, each from the next line on.
fn request(input: &[u8]) -> Option<Request<Body>> {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let head = String::from_utf8_lossy(lines.next()?).into_owned();
    let (method, uri) = head.split_once(' ')?;
    let kind = HeaderValue::from_bytes(lines.next().unwrap_or_default()).ok()?;
    let body = lines.next().unwrap_or_default().to_vec();
    let uri: Uri = uri.parse().ok()?;
    let request = Request::builder().method(method).uri(uri).header("content-type", kind);
    let mut request = request.body(Body::from(body)).ok()?;
    request.extensions_mut().insert(ConnectInfo(Origin::Unix { uid: 0 }));
    Some(request)
}

#[test]
fn no_request_is_answered_with_a_fault_of_the_servers() {
    let runtime = runtime();
    let server = runtime.block_on(Server::start(&Home::new(), &MemoryBus::new()));
    let routes = router(Shared::new(server.app.clone(), CancellationToken::new()));
    let mut good = 0;
    fuzz("http", 10_000, |input| {
        let Some(request) = request(input) else { return "no request".to_owned() };
        let path = request.uri().path().split('/').take(4).collect::<Vec<_>>().join("/");
        let (method, start) = (request.method().clone(), Instant::now());
        // One that nobody knows is as good as any other.
        let known = ["GET", "HEAD", "POST", "PATCH", "DELETE"].contains(&method.as_str());
        let kind = if known { method.as_str() } else { "other" };
        let answer = runtime.block_on(routes.clone().oneshot(request)).expect("an answer");
        let status = answer.status();
        assert!(start.elapsed() < ANSWER_WITHIN, "{:?}", start.elapsed());
        assert!(status.as_u16() < 500 || status == 503, "{status}");
        good += u32::from(status.is_success());
        if status.is_client_error() && method != "HEAD" && !path.starts_with("/log") {
            let body = runtime.block_on(to_bytes(answer.into_body(), SHOWN_BYTES_MAX));
            let body: Value = serde_json::from_slice(&body.expect("a body")).expect("JSON");
            assert!(body["request_id"].is_string() && body["message"].is_string(), "{body}");
            return format!("{kind} {status} {}", body["code"]);
        }
        format!("{kind} {status}")
    });
    assert!(good > 200, "only {good} were answered well: the corpus is no good");
    runtime.block_on(server.stop());
}
