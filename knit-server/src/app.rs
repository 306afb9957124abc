//! The state that HTTP and the loops share, and what can be done with it.
//!
//! ```text
//!  http ─┐                       ┌─ store (written first)
//!        ├─> App ── World (lock) ┤
//!  loops ┘     └─ feed           └─ snapshot (changed second)
//! ```
//!
//! Invariant: who changes the snapshot holds the world's lock and has written the store before, so
//! that memory never knows more than the disk.

pub mod adopt;
mod audit;
mod bounds;
pub mod declared;
pub mod deployments;
mod networks;
pub mod nodes;
mod projects;
mod registries;
pub mod reports;
pub(crate) mod restored;
mod secrets;
pub mod sessions;
mod tell;
pub mod tokens;
pub mod views;
mod volumes;
pub mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipnet::Ipv4Net;
use knit_link::bus::BusState;
use knit_rpc::Timestamp;
use knit_rpc::api::FieldProblem;
use knit_runtime::clock;
use knit_server_core::admission::Policy;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};

use crate::feed::Feed;
use crate::identity::Identity;
use crate::store::{Store, StoreError};
use crate::vault::Vault;
use audit::Audit;
use secrets::Delivered;
use sessions::Sessions;
use tokens::Tokens;
pub use world::World;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{0}")]
    NotFound(String),
    #[error("the manifest has problems")]
    Invalid(Vec<FieldProblem>),
    #[error("the registration has problems")]
    Registration(Vec<FieldProblem>),
    /// Something else than a manifest says something wrong.
    #[error("the {what} cannot be taken")]
    Fields { what: &'static str, fields: Vec<FieldProblem> },
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Refused(String),
    /// Not with the role of who asks.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    NotYet(String),
    #[error("the server could not do it")]
    Store(#[from] StoreError),
    #[error("the server could not do it")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The server's state.
pub struct App {
    pub identity: Identity,
    pub store: Store,
    pub vault: Vault,
    pub feed: Feed,
    pub tokens: Tokens,
    sessions: Sessions,
    audit: Audit,
    delivered: Delivered,
    /// Where each node's subnet comes from.
    pub container_subnet: Ipv4Net,
    /// Who is let in without a join token.
    pub admission: Policy,
    /// What agents are told to connect to; none while the mesh address is awaited.
    pub nats_url: watch::Sender<Option<String>>,
    /// Certificates that agents are told NATS' own is signed by.
    pub nats_ca: watch::Sender<Option<String>>,
    /// Whether the bus carries messages.
    pub bus_state: watch::Sender<BusState>,
    /// Whether NATS answered when it was asked last: a connection outlives a server that hangs.
    pub nats_answers: AtomicBool,
    pub wake_planner: Notify,
    pub wake_publisher: Notify,
    /// Asks every agent to report in.
    pub wake_roll_call: Notify,
    /// Somebody is to be cut off from NATS.
    pub wake_revoker: Notify,
    /// What NATS was told to refuse.
    pub cut_off: watch::Sender<CutOff>,
    world: Mutex<World>,
    planned_at: AtomicU64,
}

/// What NATS knows of the keys that it is to refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CutOff {
    /// NATS is not up yet.
    NotUp,
    /// It refuses these, up to these seconds.
    Told(BTreeMap<String, u64>),
    /// It could not be told, for this reason.
    Failed(String),
}

/// What the operator decided.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub container_subnet: Ipv4Net,
    pub admission: Policy,
}

impl App {
    /// Reads the cluster from the store.
    pub async fn load(
        identity: Identity,
        store: Store,
        vault: Vault,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        restored::begin(&store, clock::now()).await?;
        let snapshot = store.snapshot(identity.cluster.clone(), clock::now()).await?;
        let last_reports = store.last_reports().await?;
        let removed = store.removed_nodes().await?;
        let rejected = store.rejected_nodes().await?;
        let projects = projects::load(&store).await?;
        let revocations = store.revocations().await?;
        let audit = Audit::behind(store.audit_head().await?);
        let tokens = Tokens::new(store.tokens().await?);
        let sessions = Sessions::load(&store).await?;
        Ok(Self {
            identity,
            store,
            vault,
            feed: Feed::default(),
            tokens,
            sessions,
            audit,
            delivered: Delivered::default(),
            container_subnet: settings.container_subnet,
            admission: settings.admission,
            nats_url: watch::Sender::new(None),
            nats_ca: watch::Sender::new(None),
            bus_state: watch::Sender::new(BusState::Connecting),
            nats_answers: AtomicBool::new(true),
            wake_planner: Notify::new(),
            wake_publisher: Notify::new(),
            wake_roll_call: Notify::new(),
            wake_revoker: Notify::new(),
            cut_off: watch::Sender::new(CutOff::NotUp),
            world: Mutex::new(World::new(
                snapshot,
                last_reports,
                removed,
                rejected,
                projects,
                revocations,
            )),
            planned_at: AtomicU64::new(0),
        })
    }

    /// The world, until the guard is dropped.
    pub async fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().await
    }

    /// Whether heartbeats can be heard now.
    pub fn hears(&self) -> bool {
        *self.bus_state.borrow() == BusState::Connected && self.nats_answers.load(Ordering::Relaxed)
    }

    /// Notes that the planner has looked at everything.
    pub fn planned(&self, now: Timestamp) {
        self.planned_at.store(now.as_millis(), Ordering::Relaxed);
    }

    /// When the planner last looked at everything.
    pub fn planned_at(&self) -> Timestamp {
        Timestamp::from_millis(self.planned_at.load(Ordering::Relaxed))
    }
}
