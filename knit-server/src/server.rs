//! Puts the server together, in order, and takes it apart in the reverse order.
//!
//! ```text
//! identity, store ─> app ─> HTTP on loopback ─> mesh address ─> NATS child ─> bus ─> loops
//!                              └ and on the mesh address ─┘       └ moves with the address
//! ```

mod bus;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use knit_link::mesh::{MeshClient, find_socket};
use knit_runtime::{clock, notify};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::tokens;
use crate::app::{App, Settings};
use crate::backup;
use crate::config::{BackupOptions, Config, RestoreOptions};
use crate::http::connections::{Bounds, answer};
use crate::http::listen::{Listeners, bind_socket};
use crate::http::sessions::Web;
use crate::http::{Shared, router};
use crate::identity::Identity;
use crate::loops;
use crate::oidc::Provider;
use crate::store::Store;
use crate::vault::{self, Vault};

/// How long requests under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
const TOKEN_FILE_MODE: u32 = 0o600;

/// Runs the server until `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let app = Arc::new(load(&config).await?);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = %app.identity.cluster,
        state = %config.state_dir.display(),
        "knit-server starts"
    );
    let provider = config.oidc.clone().map(Provider::new).transpose()?;
    let web = Web { public: config.public_url.clone(), provider, ..Web::default() };
    let router = router(Shared::new(Arc::clone(&app), stop.clone()).with_web(web));
    let mut listeners = Listeners::new(router.clone(), config.port);
    let tasks = TaskTracker::new();
    answer_on_socket(&config, router, &tasks, &stop);
    let address = follow_mesh(&config, &app, &tasks, &stop);
    {
        let (app, stop) = (Arc::clone(&app), stop.clone());
        tasks.spawn(async move { loops::planner::run(&app, stop).await });
    }
    {
        let (app, stop) = (Arc::clone(&app), stop.clone());
        tasks.spawn(async move { loops::retention::run(&app, stop).await });
    }

    let mut trouble = declare(&config, &app, &tasks, &stop);
    let mut bus = bus::Bus::new(config.clone(), Arc::clone(&app), stop.clone());
    let mut address_changes = address.clone();
    loop {
        let mesh = *address_changes.borrow_and_update();
        listeners.set(&listen_addresses(&config, mesh));
        if let Err(error) = bus.address(nats_address(&config, mesh), mesh).await {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::error!(error, "NATS could not be set up; trying again");
        }
        // Ready without a mesh as well: the status says what is awaited.
        notify::ready();
        if mesh.is_some() || !config.listen.is_empty() {
            let declared = trouble.borrow_and_update().clone();
            let status = declared.map_or("running".to_owned(), |why| format!("running; {why}"));
            notify::status(&status);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = address_changes.changed() => if changed.is_err() { stop.cancelled().await },
            () = bus.retry() => {}
            Ok(()) = trouble.changed() => {}
        }
        if stop.is_cancelled() {
            break;
        }
    }

    notify::stopping();
    listeners.stop(DRAIN).await;
    tasks.close();
    tasks.wait().await;
    bus.stop().await;
    app.store.close().await;
    tracing::info!("knit-server has stopped");
    Ok(())
}

/// Makes a cluster's keys, database and first token; returns what is to be printed.
pub async fn init(config: &Config) -> anyhow::Result<String> {
    let (identity, store) = open(config).await?;
    let Some(token) = tokens::first_token(&store).await? else {
        anyhow::bail!(
            "{} has tokens already, and none can be shown again: as root on this host, with the \
             server running, `knit token create --role admin NAME` makes another",
            config.state_dir.display()
        );
    };
    let vault = Vault::load(&store, &config.master_key, clock::now()).await?;
    anyhow::ensure!(vault.shut().is_none(), "{}", vault.shut().unwrap_or_default());
    let path = config.admin_token();
    let line = format!("{}\n", token.expose());
    knit_runtime::file::write_atomic(&path, line.as_bytes(), TOKEN_FILE_MODE)
        .with_context(|| format!("{} could not be written", path.display()))?;
    store.close().await;
    give_to_owner(&config.state_dir)?;
    tracing::info!(cluster = %identity.cluster, "a cluster was made");
    Ok(line)
}

/// Changes the master key; returns what there is to do next.
pub async fn rotate_master_key(config: &Config, new: Option<&Path>) -> anyhow::Result<String> {
    anyhow::ensure!(
        config.database().exists(),
        "there is no database in {}: nothing is sealed yet",
        config.state_dir.display()
    );
    let (_, store) = open(config).await?;
    let told = vault::rotate(&store, &config.master_key, new, clock::now()).await?;
    store.close().await;
    give_to_owner(&config.state_dir)?;
    Ok(told)
}

/// Root runs commands on what the server's own user must be able to read.
fn give_to_owner(state_dir: &Path) -> anyhow::Result<()> {
    knit_runtime::file::give_to_owner(state_dir)
        .with_context(|| format!("{} could not be given to its owner", state_dir.display()))
}

/// Makes a backup, or looks at one; returns what there is to say about it.
pub async fn backup(options: BackupOptions) -> anyhow::Result<String> {
    let BackupOptions { options, out, force, without_master_key, check } = options;
    if let Some(file) = check {
        return backup::check(&file);
    }
    let wish = backup::Wish { out, force, without_master_key };
    backup::take(&Config::load(options)?, wish, clock::now()).await
}

/// Fills an empty state directory; returns what there is to do next.
pub async fn restore(options: RestoreOptions) -> anyhow::Result<String> {
    let config = Config::load(options.options)?;
    backup::restore(&config, &options.backup, clock::now()).await
}

/// Prints what an external NATS server has to know.
pub fn nats_config(config: &Config) -> anyhow::Result<String> {
    Config::make_state_dir(&config.state_dir).context("the state directory cannot be made")?;
    backup::refuse_half_a_restore(&config.state_dir)?;
    let identity = Identity::load_or_create(&config.identity(), &config.database())?;
    let trust = {
        let now = clock::now().as_millis() / 1000;
        crate::nats_server::config::trust(&identity, &std::collections::BTreeMap::new(), now)?
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&trust)?))
}

/// Answers root on this host. A server that cannot is one all the same.
fn answer_on_socket(
    config: &Config,
    router: axum::Router,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let path = config.socket.clone();
    match bind_socket(&path) {
        Ok(listener) => {
            let stop = stop.clone();
            tasks.spawn(async move {
                answer(listener, router, Bounds::default(), stop).await;
                let _ = std::fs::remove_file(path);
            });
        }
        Err(error) => {
            tracing::warn!(
                socket = %path.display(), %error,
                "the socket cannot be made: on this host too only a token opens the API"
            );
        }
    }
}

async fn load(config: &Config) -> anyhow::Result<App> {
    let (identity, store) = open(config).await?;
    let settings =
        Settings { container_subnet: config.container_subnet, admission: config.admission };
    let vault = Vault::load(&store, &config.master_key, clock::now()).await?;
    Ok(App::load(identity, store, vault, settings).await?)
}

async fn open(config: &Config) -> anyhow::Result<(Identity, Store)> {
    Config::make_state_dir(&config.state_dir).with_context(|| {
        format!("the state directory {} cannot be made", config.state_dir.display())
    })?;
    backup::refuse_half_a_restore(&config.state_dir)?;
    let identity = Identity::load_or_create(&config.identity(), &config.database())?;
    let store = Store::open(&config.database(), &identity.cluster).await?;
    Ok((identity, store))
}

/// Follows the mesh address and the mesh's peers.
fn follow_mesh(
    config: &Config,
    app: &Arc<App>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> watch::Receiver<Option<Ipv4Addr>> {
    let (sender, receiver) = watch::channel(None);
    let mesh = MeshClient::new(find_socket(config.mesh_socket.as_deref()));
    tasks.spawn(crate::mesh::follow(mesh.clone(), sender, stop.clone()));
    let (app, stop) = (Arc::clone(app), stop.clone());
    tasks.spawn(async move { loops::discovery::run(&app, mesh, stop).await });
    receiver
}

/// Has what files on this host declare; returns what of it cannot be had.
fn declare(
    config: &Config,
    app: &Arc<App>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(None);
    if let Some(dir) = config.manifests_dir.clone() {
        let (app, stop) = (Arc::clone(app), stop.clone());
        tasks.spawn(async move {
            loops::declared::run(&app, &dir, &sender, loops::declared::RETRY, stop).await;
        });
    }
    receiver
}

fn listen_addresses(config: &Config, mesh: Option<Ipv4Addr>) -> Vec<IpAddr> {
    if !config.listen.is_empty() {
        return config.listen.clone();
    }
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    std::iter::once(loopback).chain(mesh.map(IpAddr::V4)).collect()
}

/// Where the bundled NATS listens: the mesh address, unless the user named addresses.
fn nats_address(config: &Config, mesh: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
    let named = config.listen.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    named.or(mesh)
}
