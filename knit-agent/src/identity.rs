//! Who this node is: made once, kept on disk.
//!
//! Invariant: a file that cannot be read is an error that says what to do. It is never answered
//! with a new identity, which would leave the old node's containers to nobody.

mod sealing;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use knit_rpc::id::NodeId;
use knit_rpc::sealed_box::OpeningKey;
use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};

const FILE: &str = "identity.json";

/// The node's id and the key that proves it.
pub struct Identity {
    pub node: NodeId,
    pub key: KeyPair,
    /// `S…`, for NATS.
    pub seed: String,
    /// Opens what the server seals to this node.
    pub opening: std::sync::Arc<OpeningKey>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    node_id: NodeId,
    nkey_seed: String,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the node's identity {} cannot be read: restore it from a backup, or remove it to join as a new node", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the node's identity {} is not what an agent wrote ({problem}): restore it from a backup, or remove it to join as a new node",
        path.display()
    )]
    Corrupt { path: PathBuf, problem: String },
    #[error(
        "the node's identity {} can be read by others (mode {mode:04o}): whoever read it can pose as this node. Make it 0600 if nobody did, else remove it to join as a new node",
        path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error("the node's identity {} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("no identity could be made: {problem}")]
    Make { problem: String },
}

/// Reads the identity in `state_dir`, or makes one if there is no file.
pub fn load_or_create(state_dir: &Path) -> Result<Identity, IdentityError> {
    let path = state_dir.join(FILE);
    let stored = if is_there(&path)? { read(&path)? } else { create(&path)? };
    let key = user_key(&path, &stored.nkey_seed)?;
    let opening = sealing::load_or_create(state_dir)?.into();
    Ok(Identity { node: stored.node_id, key, seed: stored.nkey_seed, opening })
}

/// Whether there is such a file, which others cannot read.
fn is_there(path: &Path) -> Result<bool, IdentityError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(IdentityError::Read { path: path.to_owned(), source }),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(IdentityError::Mode { path: path.to_owned(), mode });
            }
            Ok(true)
        }
    }
}

fn read(path: &Path) -> Result<Stored, IdentityError> {
    let bytes = std::fs::read(path)
        .map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|error| IdentityError::Corrupt {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

fn user_key(path: &Path, seed: &str) -> Result<KeyPair, IdentityError> {
    let corrupt = |problem: String| IdentityError::Corrupt { path: path.to_owned(), problem };
    let key = KeyPair::from_seed(seed).map_err(|error| corrupt(format!("its key: {error}")))?;
    if key.key_pair_type() != KeyPairType::User {
        return Err(corrupt("its key is no user key".to_owned()));
    }
    Ok(key)
}

fn create(path: &Path) -> Result<Stored, IdentityError> {
    let make = |problem: String| IdentityError::Make { problem };
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| make(error.to_string()))?;
    let key = KeyPair::new_user();
    let seed = key.seed().map_err(|error| make(error.to_string()))?;
    let stored = Stored { node_id: NodeId::from_bytes(id), nkey_seed: seed };
    let bytes = serde_json::to_vec_pretty(&stored).map_err(|error| make(error.to_string()))?;
    knit_runtime::file::create_exclusive(path, &bytes, 0o600)
        .map_err(|source| IdentityError::Write { path: path.to_owned(), source })?;
    tracing::info!(node.id = %stored.node_id, "this node has a new identity");
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> PathBuf {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let dir = std::env::temp_dir().join(format!("knit-identity-{}", hex::encode(random)));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn an_identity_is_made_once_and_read_again() {
        let dir = temporary();
        let first = load_or_create(&dir).unwrap();
        let again = load_or_create(&dir).unwrap();
        assert_eq!((first.node, first.seed), (again.node, again.seed));
        let mode = std::fs::metadata(dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_never_replaced() {
        let dir = temporary();
        let path = dir.join(FILE);
        let server = KeyPair::new_server().seed().unwrap();
        let wrong_key = format!(r#"{{"node_id":"{}","nkey_seed":"{server}"}}"#, "0".repeat(32));
        for content in ["", "{}", "{\"node_id\":\"x\",\"nkey_seed\":\"y\"}", &wrong_key] {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            let error = load_or_create(&dir).unwrap_err();
            assert!(matches!(error, IdentityError::Corrupt { .. }), "{content}: {error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(&dir).unwrap_err(), IdentityError::Mode { .. }));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(load_or_create(&dir).unwrap_err(), IdentityError::Read { .. }));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
