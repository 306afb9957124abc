//! The agent put together.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use knit_runtime::notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::engine::Engine;
use crate::firewall::Firewall;
use crate::identity::{self, IdentityError};
use crate::last_assignment::{self, Assignment};
use crate::loops::{peers, reconcile::Reconciler, upkeep};
use crate::registration::{self, Registration, RegistrationError};
use crate::session::{self, BusSource};
use crate::shared::Shared;
use crate::{mesh, mesh::MeshAddress};
use knit_runtime::error::sentence;

/// How often the agent looks whether it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// What the agent works through; fakes in tests.
pub struct Parts {
    pub engine: Arc<dyn Engine>,
    pub firewall: Arc<dyn Firewall>,
    pub bus: BusSource,
    /// The mesh as it is told to be, instead of a daemon's.
    pub mesh: Option<MeshAddress>,
}

/// Why the agent cannot start at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the state directory {} cannot be made", path.display())]
    StateDir { path: PathBuf, source: std::io::Error },
    #[error("the state directory {} is used by another agent", path.display())]
    InUse { path: PathBuf },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
}

/// A running agent.
pub struct Agent {
    pub shared: Arc<Shared>,
    _lock: nix::fcntl::Flock<std::fs::File>,
    tasks: TaskTracker,
    stop: CancellationToken,
    broken: CancellationToken,
}

/// Says that a loop ended on its own, which it never does in a sound agent.
struct Watch {
    stop: CancellationToken,
    broken: CancellationToken,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            self.broken.cancel();
        }
    }
}

impl Agent {
    /// Reads what is kept and starts all loops.
    pub fn start(config: Config, parts: Parts) -> Result<Self, StartError> {
        let lock = claim(&config.state_dir)?;
        let identity = identity::load_or_create(&config.state_dir)?;
        let registration = registration::load(&config.state_dir)?;
        let assignment = registration
            .as_ref()
            .and_then(|registration| kept_assignment(&config.state_dir, registration, &identity));
        tracing::info!(node.id = %identity.node, name = config.name, "starting");
        let shared = Arc::new(Shared::new(config, identity, registration, assignment));
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let broken = CancellationToken::new();
        let agent = Self { shared: Arc::clone(&shared), _lock: lock, tasks, stop, broken };
        if let Some(address) = parts.mesh {
            shared.mesh.send_replace(Some(address));
        } else {
            let socket = shared.config.mesh_socket.clone();
            agent.spawn(mesh::follow(socket.clone(), shared.mesh.clone()));
            agent.spawn(peers::run(Arc::clone(&shared), socket));
        }
        agent.spawn(upkeep::run(Arc::clone(&shared), Arc::clone(&parts.engine)));
        let reconciler = Reconciler::new(Arc::clone(&shared), parts.engine, parts.firewall);
        agent.spawn(reconciler.run());
        let session_tasks = TaskTracker::new();
        agent.spawn(session::run(shared, parts.bus, agent.stop.clone(), session_tasks));
        Ok(agent)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let watch = Watch { stop: stop.clone(), broken: self.broken.clone() };
        self.tasks.spawn(async move {
            let _watch = watch;
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Returns when a loop ended on its own: an agent that beats but does nothing is worse than
    /// one that is started again.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Tells the service manager for ever that the agent is alive, as long as its state can be had.
    /// A Docker that hangs is no reason to start the agent again.
    pub async fn tell_alive(&self) {
        let mut alive = notify::Alive::new();
        let mut every = tokio::time::interval(ALIVE_EVERY);
        loop {
            every.tick().await;
            // Whoever holds one of the state's locks for ever keeps this from being said.
            drop(self.shared.inventory.borrow());
            drop(self.shared.assignment.borrow());
            alive.say();
        }
    }

    /// Stops all loops; containers and rules stay as they are.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Makes the state directory and holds it, so that no two agents work on one node's state.
fn claim(state_dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, StartError> {
    let failed = |source| StartError::StateDir { path: state_dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed)?;
    let directory = std::fs::File::open(state_dir).map_err(failed)?;
    nix::fcntl::Flock::lock(directory, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|_| StartError::InUse { path: state_dir.to_owned() })
}

/// The assignment of the last run. One that cannot be believed is as good as none: the server
/// sends it again, and until then nothing is stopped.
fn kept_assignment(
    state_dir: &Path,
    registration: &Registration,
    identity: &identity::Identity,
) -> Option<Assignment> {
    let boxes = last_assignment::load_boxes(state_dir);
    let opened = last_assignment::load(state_dir).and_then(|bytes| {
        let open = |bytes: Vec<u8>| {
            let Registration { server_key, cluster, .. } = registration;
            last_assignment::open(&bytes, server_key, cluster, &identity.node, &boxes)
        };
        bytes.map(open).transpose()
    });
    match opened {
        Ok(assignment) => assignment,
        Err(error) => {
            tracing::warn!(cause = sentence(&error), "the last assignment is not used");
            None
        }
    }
}
