//! Who this server is: the cluster id and the keys, made once, in a file of mode 0600.
//!
//! It lives beside the database, not in it, so that a lost or restored database is still the
//! same cluster, whose agents pinned this server's key.
//!
//! Invariant: an identity that cannot be read is an error, never a reason to make another.

use std::path::{Path, PathBuf};

use knit_rpc::id::ClusterId;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};

const FILE_MODE: u32 = 0o600;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "the identity file {} cannot be read: restore it from a backup (without it no agent of \
         this cluster obeys this server)",
        path.display()
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error(
        "the identity file {} is damaged: restore it from a backup (without it no agent of this \
         cluster obeys this server)",
        path.display()
    )]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("the identity file {} holds a key that is none", path.display())]
    Key { path: PathBuf, source: nkeys::error::Error },
    #[error(
        "there is a database but no identity file {}: restore it from a backup, or move the \
         database away to begin a new cluster",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("the identity file {} cannot be written", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// The cluster id and the keys.
pub struct Identity {
    pub cluster: ClusterId,
    /// Signs assignments and registrations.
    pub server: KeyPair,
    /// NATS: signs the accounts.
    pub operator: KeyPair,
    /// NATS: the account of the NATS server's own business.
    pub system_account: KeyPair,
    /// NATS: the account of server and agents; signs their user tokens.
    pub account: KeyPair,
    /// NATS: this server as a user.
    pub user: KeyPair,
}

#[derive(Serialize, Deserialize)]
struct File {
    cluster: ClusterId,
    server: String,
    operator: String,
    system_account: String,
    account: String,
    user: String,
}

impl Identity {
    /// A new cluster.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
        Ok(Self {
            cluster: ClusterId::from_bytes(bytes),
            server: KeyPair::new_server(),
            operator: KeyPair::new_operator(),
            system_account: KeyPair::new_account(),
            account: KeyPair::new_account(),
            user: KeyPair::new_user(),
        })
    }

    /// Reads the identity; makes one only where there is neither a file nor a database.
    pub fn load_or_create(path: &Path, database: &Path) -> Result<Self, IdentityError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(path, &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if database.exists() {
                    return Err(IdentityError::Missing { path: path.to_owned() });
                }
                let identity = Self::generate()?;
                identity.write(path)?;
                Ok(identity)
            }
            Err(source) => Err(IdentityError::Read { path: path.to_owned(), source }),
        }
    }

    /// The server's public signing key, which agents pin.
    pub fn public_key(&self) -> String {
        self.server.public_key()
    }

    /// An identity as a file holds it.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, IdentityError> {
        let file: File = serde_json::from_slice(bytes)
            .map_err(|source| IdentityError::Parse { path: path.to_owned(), source })?;
        let key = |seed: &str| {
            KeyPair::from_seed(seed)
                .map_err(|source| IdentityError::Key { path: path.to_owned(), source })
        };
        Ok(Self {
            server: key(&file.server)?,
            operator: key(&file.operator)?,
            system_account: key(&file.system_account)?,
            account: key(&file.account)?,
            user: key(&file.user)?,
            cluster: file.cluster,
        })
    }

    fn write(&self, path: &Path) -> Result<(), IdentityError> {
        let seed = |key: &KeyPair| {
            key.seed().map_err(|source| IdentityError::Key { path: path.to_owned(), source })
        };
        let file = File {
            cluster: self.cluster.clone(),
            server: seed(&self.server)?,
            operator: seed(&self.operator)?,
            system_account: seed(&self.system_account)?,
            account: seed(&self.account)?,
            user: seed(&self.user)?,
        };
        let bytes = serde_json::to_vec_pretty(&file)
            .map_err(|source| IdentityError::Parse { path: path.to_owned(), source })?;
        knit_runtime::file::create_exclusive(path, &bytes, FILE_MODE)
            .map_err(|source| IdentityError::Write { path: path.to_owned(), source })
    }
}
