//! NATS and the loops that need it: begun when there is an address, moved when it moves.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use knit_link::bus::{Bus as _, BusError, BusState, NatsBus, NatsOptions};
use knit_rpc::subject;
use knit_runtime::clock;
use knit_server_core::revocation::due;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::app::nodes::TOKEN_LIFE;
use crate::config::Config;
use crate::loops;
use crate::nats_server::{Account, Addresses, Configuration, NatsServer, Place, jwt};

/// How often the server's own token is renewed.
const RENEW_AFTER: Duration = Duration::from_hours(6);
const RETRY: Duration = Duration::from_secs(1);
/// How often NATS is asked whether it answers, and how long it may take: a NATS that hangs has to
/// be noticed before the nodes that it carries look stale.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Nobody listens here, and NATS says so at once.
const PROBE: &str = "knit.server.probe";

/// NATS and what hangs on it.
pub(super) struct Bus {
    config: Config,
    app: Arc<App>,
    stop: CancellationToken,
    tasks: TaskTracker,
    at: Option<Ipv4Addr>,
    failed: bool,
    child: Option<NatsServer>,
    nats: Option<NatsBus>,
    /// Where NATS is reached now.
    url: watch::Sender<String>,
    configuration: Arc<Configuration>,
}

impl Bus {
    pub(super) fn new(config: Config, app: Arc<App>, stop: CancellationToken) -> Self {
        let tls = config.nats_tls.clone();
        let configuration = Arc::new(Configuration::new(config.nats_dir(), tls));
        Self {
            url: watch::Sender::new(String::new()),
            configuration,
            config,
            app,
            stop,
            tasks: TaskTracker::new(),
            at: None,
            failed: false,
            child: None,
            nats: None,
        }
    }

    /// Has NATS on this address; `mesh` is what agents are told when it is a wildcard.
    pub(super) async fn address(
        &mut self,
        at: Option<Ipv4Addr>,
        mesh: Option<Ipv4Addr>,
    ) -> anyhow::Result<()> {
        self.failed = true;
        if let Some(path) = &self.config.nats_ca {
            let ca = tokio::fs::read_to_string(path).await.with_context(|| {
                format!(
                    "the certificates of NATS' authority cannot be read from {}",
                    path.display()
                )
            })?;
            self.app.nats_ca.send_replace(Some(ca));
        }
        if let Some(url) = self.config.nats_url.clone() {
            self.connect(&url, &url).await?;
        } else if let Some(at) = at {
            self.child_at(at).await?;
            let port = self.config.nats_port;
            let own = if at.is_unspecified() { Ipv4Addr::LOCALHOST } else { at };
            let told = if at.is_unspecified() { mesh.unwrap_or(own) } else { at };
            let scheme = if self.config.nats_tls.is_some() { "tls" } else { "nats" };
            let url = |address: Ipv4Addr| format!("{scheme}://{address}:{port}");
            self.connect(&url(own), &url(told)).await?;
            self.at = Some(at);
        }
        self.failed = false;
        Ok(())
    }

    /// Returns when a failed attempt should be repeated; never when there was none.
    pub(super) async fn retry(&self) {
        if self.failed {
            tokio::time::sleep(RETRY).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the loops, the connection and the child, in this order. The token is cancelled.
    pub(super) async fn stop(self) {
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(nats) = &self.nats {
            nats.close().await;
        }
        if let Some(child) = self.child {
            child.stop().await;
        }
    }

    async fn child_at(&mut self, at: Ipv4Addr) -> anyhow::Result<()> {
        if self.child.is_some() && self.at == Some(at) {
            return Ok(());
        }
        let addresses = Addresses {
            client: at,
            client_port: self.config.nats_port,
            monitor_port: self.config.nats_monitor_port,
        };
        let now = clock::now();
        let revoked = due(&self.app.world().await.revocations, now);
        let (now, identity) = (now.as_millis() / 1000, &self.app.identity);
        if let Some(child) = &self.child {
            child.readdress(identity, addresses, &revoked, now).await?;
            return Ok(());
        }
        let place =
            Place { binary: self.config.nats_binary.clone(), directory: self.config.nats_dir() };
        let configuration = Arc::clone(&self.configuration);
        let child = NatsServer::start(place, configuration, identity, addresses, &revoked, now);
        self.child = Some(child.await?);
        Ok(())
    }

    /// Connects the bus, or moves it; then agents are told the URL.
    async fn connect(&mut self, url: &str, told: &str) -> anyhow::Result<()> {
        self.url.send_replace(url.to_owned());
        match &self.nats {
            Some(nats) if self.app.nats_url.borrow().as_deref() != Some(told) => {
                nats.rebind(url, None).await?;
            }
            Some(_) => {}
            None => self.nats = Some(self.begin(url).await?),
        }
        self.app.nats_url.send_replace(Some(told.to_owned()));
        Ok(())
    }

    async fn begin(&self, url: &str) -> anyhow::Result<NatsBus> {
        let (token, renewed) = watch::channel(own_token(&self.app)?);
        let options = NatsOptions {
            name: "knit-server".to_owned(),
            url: url.to_owned(),
            local_address: None,
            inbox_prefix: None,
            nkey_seed: self.app.identity.user.seed()?,
            jwt: renewed,
            ca: self.config.nats_ca.clone(),
        };
        let nats = NatsBus::connect(options).await?;
        let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
        self.tasks.spawn(renew(app, token, stop));
        let (app, bus, stop) = (Arc::clone(&self.app), nats.clone(), self.stop.clone());
        self.tasks.spawn(greet(app, bus, stop));
        let (app, bus, stop) = (Arc::clone(&self.app), nats.clone(), self.stop.clone());
        self.tasks.spawn(probe(app, bus, stop));
        let (app, stop) = (Arc::clone(&self.app), self.stop.clone());
        let account = Account {
            url: self.url.subscribe(),
            ca: self.config.nats_ca.clone(),
            configuration: self.child.is_some().then(|| Arc::clone(&self.configuration)),
        };
        self.tasks.spawn(async move { loops::revoker::run(&app, &account, stop).await });
        self.spawn_loops(&nats).await?;
        Ok(nats)
    }

    async fn spawn_loops(&self, nats: &NatsBus) -> anyhow::Result<()> {
        let heartbeats = nats.subscribe(subject::ALL_HEARTBEATS).await?;
        let reports = nats.subscribe(subject::ALL_STATUS).await?;
        let parts = || (Arc::clone(&self.app), nats.clone(), self.stop.clone());
        let (app, _, stop) = parts();
        self.tasks.spawn(async move { loops::ingest::heartbeats(&app, heartbeats, stop).await });
        let (app, bus, stop) = parts();
        self.tasks.spawn(async move { loops::ingest::reports(&app, &bus, reports, stop).await });
        let (app, bus, stop) = parts();
        self.tasks.spawn(async move { loops::publisher::run(&app, &bus, stop).await });
        let (app, bus, stop) = parts();
        self.tasks.spawn(async move { loops::roll_call::run(&app, &bus, stop).await });
        let (app, bus, stop) = parts();
        self.tasks.spawn(async move { loops::peers::run(&app, &bus, stop).await });
        Ok(())
    }
}

/// Each time the bus is there: makes sure of the stream, then asks all agents to report in.
async fn greet(app: Arc<App>, bus: NatsBus, stop: CancellationToken) {
    let mut state = bus.state();
    loop {
        let now = state.borrow_and_update().clone();
        let connected = now == BusState::Connected;
        app.bus_state.send_replace(now);
        if connected {
            match bus.ensure_tasks_stream().await {
                Ok(()) => {
                    app.wake_roll_call.notify_one();
                    app.wake_publisher.notify_one();
                }
                Err(error) => {
                    told(&error);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => continue,
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

/// Asks NATS again and again whether it answers, while there is a connection.
async fn probe(app: Arc<App>, bus: NatsBus, stop: CancellationToken) {
    let mut state = bus.state();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            connected = state.wait_for(|state| *state == BusState::Connected) => {
                if connected.is_err() {
                    return;
                }
            }
        }
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = bus.request(PROBE, Vec::new(), PROBE_TIMEOUT) => answer,
        };
        let answers = match answer {
            // A connection that was lost meanwhile speaks for itself.
            Ok(_) | Err(BusError::NoResponders { .. } | BusError::NotConnected { .. }) => true,
            Err(_) => false,
        };
        if app.nats_answers.swap(answers, Ordering::Relaxed) && !answers {
            tracing::warn!("NATS does not answer: no node is judged by its silence until it does");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PROBE_EVERY) => {}
        }
    }
}

fn told(error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, "the stream of assignments is not there yet");
}

async fn renew(app: Arc<App>, token: watch::Sender<String>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_AFTER) => {}
        }
        match own_token(&app) {
            Ok(renewed) => {
                token.send_replace(renewed);
            }
            Err(error) => tracing::error!(%error, "the server's own NATS token was not renewed"),
        }
    }
}

fn own_token(app: &App) -> Result<String, jwt::JwtError> {
    let now = clock::now().as_millis() / 1000;
    let user = app.identity.user.public_key();
    jwt::server_user(&app.identity.account, &user, now, now + TOKEN_LIFE.as_secs())
}
