//! The bundled NATS: a supervised child with a configuration that we write.
//!
//! ```text
//! Identity ─ jwt ─> nats.json (0600) ─> nats-server ─ client port: mesh address only
//!                                                   └ monitor: loopback
//! ```
//!
//! Invariant: the client port is open on one address, and nobody without a token signed by our
//! account gets in.

pub mod config;
pub mod jwt;

use std::path::{Path, PathBuf};
use std::time::Duration;

use knit_runtime::child::{ChildSpec, Policy, Supervised, SupervisedState};
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
pub use config::Addresses;

const POLICY: Policy = Policy {
    backoff_min: Duration::from_millis(200),
    backoff_max: Duration::from_secs(5),
    healthy_after: Duration::from_secs(10),
    stop_grace: Duration::from_secs(10),
};

#[derive(Debug, thiserror::Error)]
pub enum NatsServerError {
    #[error("the NATS directory {} cannot be made", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("the NATS configuration {} cannot be written", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the NATS configuration cannot be put into words")]
    Encode(#[source] serde_json::Error),
    #[error(transparent)]
    Token(#[from] jwt::JwtError),
}

/// Where the child lives on disk.
#[derive(Debug, Clone)]
pub struct Place {
    pub binary: PathBuf,
    /// Holds the configuration, the pid file and the streams.
    pub directory: PathBuf,
}

/// The running child.
pub struct NatsServer {
    place: Place,
    child: Supervised,
    cancel: CancellationToken,
}

impl NatsServer {
    /// Starts nats-server and keeps it running.
    pub fn start(
        place: Place,
        identity: &Identity,
        addresses: Addresses,
        issued_at: u64,
    ) -> Result<Self, NatsServerError> {
        let spec = prepare(&place, identity, addresses, issued_at)?;
        let cancel = CancellationToken::new();
        let child = Supervised::start(spec, POLICY, cancel.clone());
        Ok(Self { place, child, cancel })
    }

    /// Moves the child to another address: it is started again there, its streams stay.
    pub async fn readdress(
        &self,
        identity: &Identity,
        addresses: Addresses,
        issued_at: u64,
    ) -> Result<(), NatsServerError> {
        let spec = prepare(&self.place, identity, addresses, issued_at)?;
        self.child.replace(spec).await;
        Ok(())
    }

    pub fn state(&self) -> watch::Receiver<SupervisedState> {
        self.child.state()
    }

    /// Stops the child and waits for its end.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.child.stopped().await;
    }
}

fn prepare(
    place: &Place,
    identity: &Identity,
    addresses: Addresses,
    issued_at: u64,
) -> Result<ChildSpec, NatsServerError> {
    make_private(&place.directory)?;
    let path = place.directory.join("nats.json");
    let config = config::config(&place.directory, identity, addresses, issued_at)?;
    let text = serde_json::to_vec_pretty(&config).map_err(NatsServerError::Encode)?;
    knit_runtime::file::write_atomic(&path, &text, 0o600)
        .map_err(|source| NatsServerError::Write { path: path.clone(), source })?;
    Ok(ChildSpec::new("nats-server", &place.binary)
        .arg("--config")
        .arg(path.display().to_string())
        .own_group()
        .death_signal(Signal::SIGTERM))
}

fn make_private(path: &Path) -> Result<(), NatsServerError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| NatsServerError::Directory { path: path.to_owned(), source })
}
