//! Which cluster this node belongs to, as far as it knows: kept on disk so that the agent works
//! on without a server, and so that no other server is believed later.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use knit_rpc::Timestamp;
use knit_rpc::id::ClusterId;
use serde::{Deserialize, Serialize};

const FILE: &str = "registration.json";
const NATS_CA: &str = "nats-ca.pem";

/// What the server said when this node last registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub cluster: ClusterId,
    /// Pinned from the first registration on.
    pub server_key: String,
    pub server_url: String,
    pub nats_url: String,
    /// Certificates in PEM that NATS' own must be signed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats_ca: Option<String>,
    pub user_jwt: String,
    pub expires: Timestamp,
    pub registered_at: Timestamp,
    pub subnet: Ipv4Net,
    /// The address that this node had in the mesh, for rules that must stand before the mesh does.
    pub mesh_ip: Ipv4Addr,
    pub mesh_interface: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error("the node's registration {} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the node's registration {} is not what an agent wrote ({problem}): restore it, or remove it to let the node believe the next server that answers",
        path.display()
    )]
    Corrupt { path: PathBuf, problem: String },
    #[error("the node's registration {} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

pub fn load(state_dir: &Path) -> Result<Option<Registration>, RegistrationError> {
    let path = state_dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RegistrationError::Read { path, source }),
    };
    match serde_json::from_slice(&bytes) {
        Ok(registration) => Ok(Some(registration)),
        Err(error) => Err(RegistrationError::Corrupt { path, problem: error.to_string() }),
    }
}

pub fn store(state_dir: &Path, registration: &Registration) -> Result<(), RegistrationError> {
    let path = state_dir.join(FILE);
    let bytes = serde_json::to_vec_pretty(registration).unwrap_or_default();
    knit_runtime::file::write_atomic(&path, &bytes, 0o600)
        .map_err(|source| RegistrationError::Write { path, source })
}

/// Where the certificates are kept that the server says NATS' own is signed by.
pub fn nats_ca_path(state_dir: &Path) -> PathBuf {
    state_dir.join(NATS_CA)
}

/// Keeps them in a file, which is what a connection reads; without any there is no such file.
pub fn keep_nats_ca(state_dir: &Path, ca: Option<&str>) -> Result<(), RegistrationError> {
    let path = nats_ca_path(state_dir);
    let done = match ca {
        Some(ca) => knit_runtime::file::write_atomic(&path, ca.as_bytes(), 0o600),
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        },
    };
    done.map_err(|source| RegistrationError::Write { path, source })
}
