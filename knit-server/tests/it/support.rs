//! A server in this process, an agent that plays its part by script, and patience with a deadline.

pub(crate) mod agent;
pub(crate) mod browser;
pub(crate) mod process;
pub(crate) mod raw_nats;
pub(crate) mod registry;
pub(crate) mod tls;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::{Bus as _, BusState, MemoryBus};
use knit_link::http::ApiClient;
use knit_rpc::access::{NewToken, Role, Scope, Token};
use knit_rpc::api::{DeploymentState, DeploymentView, RolloutState, RolloutView};
use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::Format;
use knit_rpc::subject;
use knit_server::app::{App, Settings};
use knit_server::http::connections::{Bounds, answer};
use knit_server::http::listen::try_bind;
use knit_server::http::sessions::Web;
use knit_server::http::{Shared, router};
use knit_server::identity::Identity;
use knit_server::loops;
use knit_server::store::Store;
use knit_server::vault::{MasterKeySource, Vault};
use knit_server_core::access::Actor;
use knit_server_core::admission::Policy;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that holds an identity, so that several servers can be one after the other.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn identity(&self) -> Identity {
        let path = self.dir.path().join("identity.json");
        Identity::load_or_create(&path, &self.dir.path().join("none")).expect("an identity")
    }
}

/// A server without NATS and mesh: HTTP on a free port, loops on a bus in memory.
pub(crate) struct Server {
    pub(crate) app: Arc<App>,
    pub(crate) url: String,
    /// An admin's.
    pub(crate) api: ApiClient,
    pub(crate) token: Token,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// A server that remembers nothing.
    pub(crate) async fn start(home: &Home, bus: &MemoryBus) -> Self {
        let identity = home.identity();
        let store = Store::in_memory(&identity.cluster).await.expect("a store");
        Self::start_with(home, identity, store, bus).await
    }

    /// A server on a database file in its home.
    pub(crate) async fn start_on_disk(home: &Home, bus: &MemoryBus) -> Self {
        let identity = home.identity();
        let path = home.dir.path().join("knit.db");
        let store = Store::open(&path, &identity.cluster).await.expect("a store");
        Self::start_with(home, identity, store, bus).await
    }

    async fn start_with(home: &Home, identity: Identity, store: Store, bus: &MemoryBus) -> Self {
        Self::start_asked(home, identity, store, bus, Policy::All).await
    }

    /// A server that remembers nothing, with what was configured for browsers.
    pub(crate) async fn start_web(home: &Home, bus: &MemoryBus, web: Web) -> Self {
        let identity = home.identity();
        let store = Store::in_memory(&identity.cluster).await.expect("a store");
        Box::pin(Self::start_whole(home, identity, store, bus, Policy::All, web)).await
    }

    /// A server that lets in whom this policy says.
    pub(crate) async fn start_asked(
        home: &Home,
        identity: Identity,
        store: Store,
        bus: &MemoryBus,
        admission: Policy,
    ) -> Self {
        Box::pin(Self::start_whole(home, identity, store, bus, admission, Web::default())).await
    }

    async fn start_whole(
        home: &Home,
        identity: Identity,
        store: Store,
        bus: &MemoryBus,
        admission: Policy,
        web: Web,
    ) -> Self {
        let container_subnet = "10.208.0.0/14".parse().expect("a subnet");
        let master = MasterKeySource::choose(None, None, home.dir.path());
        let now = knit_runtime::clock::now();
        let vault = Vault::load(&store, &master, now).await.expect("a vault");
        let settings = Settings { container_subnet, admission };
        let app = Arc::new(App::load(identity, store, vault, settings).await.expect("an app"));
        app.nats_url.send_replace(Some("nats://10.45.0.1:7422".to_owned()));
        app.bus_state.send_replace(BusState::Connected);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = try_bind(at).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = router(Shared::new(Arc::clone(&app), stop.clone()).with_web(web));
        let bounds = Bounds::default();
        tasks.spawn(answer(listener, routes, bounds, stop.clone()));
        spawn_loops(&app, bus, &stop, &tasks).await;
        let token = token(&app, "tests", Role::Admin, None).await;
        let api = ApiClient::new(&url).expect("a client").with_token(token.clone());
        Self { app, url, api, token, stop, tasks }
    }

    pub(crate) async fn deploy(&self, yaml: &str) -> knit_rpc::api::Accepted {
        self.api.deploy(yaml.to_owned(), Format::Yaml).await.expect("accepted")
    }

    pub(crate) async fn view(&self, name: &str) -> Option<DeploymentView> {
        let name = DeploymentName::parse(name).expect("a name");
        self.api.deployment(&ProjectName::default(), &name).await.ok()
    }

    /// Waits until a deployment is in a state.
    pub(crate) async fn until(&self, name: &str, state: DeploymentState) -> DeploymentView {
        eventually(&format!("{name} is {}", state.as_str()), || async {
            self.view(name).await.filter(|view| view.state == state)
        })
        .await
    }

    /// Waits until the newest rollout of a deployment stands so.
    pub(crate) async fn until_rollout(&self, name: &str, state: RolloutState) -> RolloutView {
        eventually(&format!("the rollout of {name} is {}", state.as_str()), || async {
            self.view(name).await?.rollout.filter(|rollout| rollout.state == state)
        })
        .await
    }

    /// Waits until a deployment is gone.
    pub(crate) async fn until_gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), || async {
            self.view(name).await.is_none().then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.app.store.close().await;
    }
}

/// Makes a project, if there is none of that name.
pub(crate) async fn project(app: &App, name: &str) {
    let name = name.parse().expect("a name");
    if app.project(&name).await.is_err() {
        app.create_project(&name).await.expect("a project");
    }
}

/// Makes a token for the API, and the projects that it names.
pub(crate) async fn token(app: &App, name: &str, role: Role, projects: Option<&[&str]>) -> Token {
    let root = Actor { name: "tests".to_owned(), role: Role::Admin, scope: Scope::All };
    for name in projects.into_iter().flatten() {
        project(app, name).await;
    }
    let named = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect();
    let new = NewToken { name: name.to_owned(), role, projects: projects.map(named), ttl: None };
    let minted = app.create_token(&root, new).await.expect("a token");
    Token::parse(&minted.token).expect("it is one")
}

async fn spawn_loops(
    app: &Arc<App>,
    bus: &MemoryBus,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    let bus = bus.client();
    let heartbeats = bus.subscribe(subject::ALL_HEARTBEATS).await.expect("a subscription");
    let reports = bus.subscribe(subject::ALL_STATUS).await.expect("a subscription");
    let parts = || (Arc::clone(app), bus.clone(), stop.clone());
    let (app, _, stop) = parts();
    tasks.spawn(async move { loops::planner::run(&app, stop).await });
    let (app, _, stop) = parts();
    tasks.spawn(async move { loops::ingest::heartbeats(&app, heartbeats, stop).await });
    let (app, bus, stop) = parts();
    tasks.spawn(async move { loops::ingest::reports(&app, &bus, reports, stop).await });
    let (app, bus, stop) = parts();
    tasks.spawn(async move { loops::publisher::run(&app, &bus, stop).await });
    let (app, bus, stop) = parts();
    tasks.spawn(async move { loops::peers::run(&app, &bus, stop).await });
    let (app, bus, stop) = parts();
    app.wake_roll_call.notify_one();
    tasks.spawn(async move { loops::roll_call::run(&app, &bus, stop).await });
}

/// Asks again and again until there is an answer, at most for [`PATIENCE`].
pub(crate) async fn eventually<T, F, A>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> A,
    A: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: still not after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
