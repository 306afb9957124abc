//! The bundled NATS: a supervised child with a configuration that we write.
//!
//! ```text
//! Identity ─ jwt ─> nats.json (0600) ─> nats-server ─ client port: mesh address only
//!                                                   └ monitor: loopback
//! ```
//!
//! Invariant: the client port is open on one address, and nobody without a token signed by our
//! account gets in.

mod account;
pub mod config;
pub mod jwt;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use knit_runtime::child::{ChildSpec, Policy, Supervised, SupervisedState};
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
pub use account::Account;
pub use config::{Addresses, Tls};

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

/// The configuration file of the child, which is written anew when it changes.
pub struct Configuration {
    directory: PathBuf,
    tls: Option<Tls>,
    /// What was written last; one writes at a time.
    addresses: Mutex<Option<Addresses>>,
}

/// The running child.
pub struct NatsServer {
    place: Place,
    configuration: Arc<Configuration>,
    child: Supervised,
    cancel: CancellationToken,
}

impl Configuration {
    pub fn new(directory: PathBuf, tls: Option<Tls>) -> Self {
        Self { directory, tls, addresses: Mutex::new(None) }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("nats.json")
    }

    /// Writes the file: with these addresses, or with those it has. Without any there is nothing to
    /// write: the child was never started.
    pub async fn write(
        &self,
        identity: &Identity,
        addresses: Option<Addresses>,
        revoked: &BTreeMap<String, u64>,
        issued_at: u64,
    ) -> Result<(), NatsServerError> {
        let mut known = self.addresses.lock().await;
        let Some(addresses) = addresses.or(*known) else { return Ok(()) };
        let tls = self.tls.as_ref();
        let config = config::config(&self.directory, identity, addresses, tls, revoked, issued_at)?;
        let text = serde_json::to_vec_pretty(&config).map_err(NatsServerError::Encode)?;
        let path = self.path();
        knit_runtime::file::write_atomic(&path, &text, 0o600)
            .map_err(|source| NatsServerError::Write { path, source })?;
        *known = Some(addresses);
        Ok(())
    }
}

impl NatsServer {
    /// Starts nats-server and keeps it running.
    pub async fn start(
        place: Place,
        configuration: Arc<Configuration>,
        identity: &Identity,
        addresses: Addresses,
        revoked: &BTreeMap<String, u64>,
        issued_at: u64,
    ) -> Result<Self, NatsServerError> {
        make_private(&place.directory)?;
        configuration.write(identity, Some(addresses), revoked, issued_at).await?;
        let cancel = CancellationToken::new();
        let child =
            Supervised::start(command(&place, &configuration.path()), POLICY, cancel.clone());
        Ok(Self { place, configuration, child, cancel })
    }

    /// Moves the child to another address: it is started again there, its streams stay.
    pub async fn readdress(
        &self,
        identity: &Identity,
        addresses: Addresses,
        revoked: &BTreeMap<String, u64>,
        issued_at: u64,
    ) -> Result<(), NatsServerError> {
        self.configuration.write(identity, Some(addresses), revoked, issued_at).await?;
        self.child.replace(command(&self.place, &self.configuration.path())).await;
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

fn command(place: &Place, configuration: &Path) -> ChildSpec {
    ChildSpec::new("nats-server", &place.binary)
        .arg("--config")
        .arg(configuration.display().to_string())
        .own_group()
        .death_signal(Signal::SIGTERM)
}

fn make_private(path: &Path) -> Result<(), NatsServerError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| NatsServerError::Directory { path: path.to_owned(), source })
}
