//! The node's tie to its server: register, connect, renew, follow an address that moves.
//!
//! ```text
//! joined the mesh -> find the server -> register -> NATS, bound to the mesh address
//!        ▲                                              │
//!        └── address moved, half of the token's life gone, NATS refuses or is long silent
//! ```

mod register;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use knit_link::bus::{Bus, BusError, BusState, NatsBus, NatsOptions};
use knit_rpc::subject;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::loops;
use crate::mesh::MeshAddress;
use crate::registration::{self, Registration};
use crate::shared::Shared;
use knit_runtime::error::sentence;

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A NATS that stays away this long may have moved with its server: ask the server.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Tokens are never renewed faster than this.
const RENEW_MIN: Duration = Duration::from_secs(10);

/// Where the bus comes from.
pub enum BusSource {
    /// NATS, as the server says at registration.
    Nats,
    /// One that is there already, whatever the server says.
    Given(Arc<dyn Bus>),
}

/// The bus once it is there.
struct Link {
    bus: Arc<dyn Bus>,
    nats: Option<NatsBus>,
    jwt: watch::Sender<String>,
    url: String,
    mesh: MeshAddress,
}

/// Keeps the tie for ever. Errors are said and tried again.
pub async fn run(
    shared: Arc<Shared>,
    source: BusSource,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let tasks = Tasks { tasks, stop };
    let mut mesh = shared.mesh.subscribe();
    let mut link: Option<Link> = None;
    let mut retry = RETRY_MIN;
    let mut said = String::new();
    loop {
        let Some(address) = joined(&mut mesh).await else { return };
        if link.is_none() {
            link = take_up(&shared, &source, &address, &tasks).await;
        }
        match register::register(&shared, &address).await {
            Ok(registration) => {
                retry = RETRY_MIN;
                said.clear();
                accept(&shared, &registration);
                if let Err(error) =
                    connect(&shared, &source, &mut link, &address, &registration, &tasks).await
                {
                    tracing::error!(cause = sentence(&error), "the NATS connection was not set up");
                    sleep(RETRY_MAX).await;
                    continue;
                }
                let Some(link) = &link else { continue };
                wait(&mut mesh, &address, link, &registration).await;
            }
            Err(error) => {
                let text = sentence(&error);
                if text != said {
                    tracing::warn!("not registered yet: {text}");
                    knit_runtime::notify::status(&format!("waiting for the server: {text}"));
                    said = text;
                }
                let _ = timeout(retry, mesh.changed()).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn joined(mesh: &mut watch::Receiver<Option<MeshAddress>>) -> Option<MeshAddress> {
    mesh.wait_for(Option::is_some).await.ok()?.clone()
}

/// Goes on with the last registration while its token lasts: NATS may be there when the API is
/// not.
async fn take_up(
    shared: &Arc<Shared>,
    source: &BusSource,
    address: &MeshAddress,
    tasks: &Tasks,
) -> Option<Link> {
    let last = shared.registration.borrow().clone()?;
    if last.expires <= knit_runtime::clock::now() {
        return None;
    }
    let mut link = None;
    connect(shared, source, &mut link, address, &last, tasks).await.ok()?;
    link
}

/// The file with the certificates that NATS' own must be signed by: the user's, else the server's.
fn nats_ca(config: &Config) -> PathBuf {
    let own = config.nats_ca.clone();
    own.unwrap_or_else(|| registration::nats_ca_path(&config.state_dir))
}

/// Believes a registration and keeps it.
fn accept(shared: &Shared, registration: &Registration) {
    let kept = registration::store(&shared.config.state_dir, registration).and_then(|()| {
        registration::keep_nats_ca(&shared.config.state_dir, registration.nats_ca.as_deref())
    });
    if let Err(error) = kept {
        tracing::error!(cause = sentence(&error), "the registration was not kept");
    }
    let renewed = shared.registration.borrow().is_some();
    tracing::info!(
        cluster = %registration.cluster,
        server = registration.server_url,
        renewed,
        "registered"
    );
    knit_runtime::notify::status(&format!("registered with {}", registration.server_url));
    shared.registration.send_replace(Some(registration.clone()));
}

async fn connect(
    shared: &Arc<Shared>,
    source: &BusSource,
    link: &mut Option<Link>,
    address: &MeshAddress,
    registration: &Registration,
    tasks: &Tasks,
) -> Result<(), BusError> {
    if let Some(link) = link {
        link.jwt.send_replace(registration.user_jwt.clone());
        let moved = link.mesh.ip != address.ip || link.url != registration.nats_url;
        let refused = matches!(&*link.bus.state().borrow(), BusState::Disconnected { reason } if is_refusal(reason));
        if let Some(nats) = link.nats.as_ref().filter(|_| moved || refused) {
            nats.rebind(&registration.nats_url, Some(address.ip)).await?;
        }
        link.mesh = address.clone();
        link.url.clone_from(&registration.nats_url);
        return Ok(());
    }
    let jwt = watch::Sender::new(registration.user_jwt.clone());
    let (bus, nats): (Arc<dyn Bus>, _) = match source {
        BusSource::Given(bus) => (Arc::clone(bus), None),
        BusSource::Nats => {
            let nats = NatsBus::connect(NatsOptions {
                name: format!("knit-agent {}", shared.config.name),
                url: registration.nats_url.clone(),
                local_address: Some(address.ip),
                inbox_prefix: Some(subject::inbox_prefix(&shared.identity.node)),
                nkey_seed: shared.identity.seed.clone(),
                jwt: jwt.subscribe(),
                ca: Some(nats_ca(&shared.config)),
            })
            .await?;
            (Arc::new(nats.clone()), Some(nats))
        }
    };
    tasks.spawn(loops::assignments::run(Arc::clone(shared), Arc::clone(&bus)));
    tasks.spawn(loops::heartbeat::run(Arc::clone(shared), Arc::clone(&bus)));
    tasks.spawn(loops::reports::run(Arc::clone(shared), Arc::clone(&bus)));
    *link =
        Some(Link { bus, nats, jwt, url: registration.nats_url.clone(), mesh: address.clone() });
    Ok(())
}

/// Returns when it is time to register again.
async fn wait(
    mesh: &mut watch::Receiver<Option<MeshAddress>>,
    address: &MeshAddress,
    link: &Link,
    registration: &Registration,
) {
    let life = registration.expires.since(registration.registered_at);
    let renewal = (life / 2).max(RENEW_MIN);
    tokio::select! {
        () = sleep(renewal) => {}
        () = moved(mesh, address) => {}
        () = refused_or_silent(link.bus.state()) => {}
    }
}

async fn moved(mesh: &mut watch::Receiver<Option<MeshAddress>>, address: &MeshAddress) {
    let other = |now: &Option<MeshAddress>| now.as_ref().is_some_and(|now| now != address);
    or_never(mesh.wait_for(other)).await;
}

async fn refused_or_silent(mut state: watch::Receiver<BusState>) {
    loop {
        let away = |state: &BusState| !matches!(state, BusState::Connected);
        or_never(state.wait_for(away)).await;
        let refused = |state: &BusState| matches!(state, BusState::Disconnected { reason } if is_refusal(reason));
        let back_or_refused =
            |state: &BusState| matches!(state, BusState::Connected) || refused(state);
        let is_back = async {
            let now = state.wait_for(back_or_refused).await;
            now.is_ok_and(|now| matches!(*now, BusState::Connected))
        };
        match timeout(SILENCE_MAX, is_back).await {
            Ok(true) => {}
            Ok(false) => return sleep(RETRY_MIN).await,
            Err(_) => return,
        }
    }
}

/// NATS' words when it no longer takes the token.
fn is_refusal(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["authorization", "authentication", "expired", "revoked"]
        .iter()
        .any(|word| reason.contains(word))
}

async fn or_never<T>(waiting: impl Future<Output = Result<T, watch::error::RecvError>>) {
    if waiting.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The loops that the bus feeds; they end with the agent.
struct Tasks {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
