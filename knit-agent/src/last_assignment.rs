//! The assignment that the agent works on, kept as the server signed it.
//!
//! Invariant: what is read back is verified like what comes by wire.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knit_agent_core::Desired;
use knit_agent_core::desired::MissingSpec;
use knit_rpc::id::{ClusterId, NodeId};
use knit_rpc::message::{Generation, NodeAssignment};
use knit_rpc::signed::{self, Context, SignedError};

const FILE: &str = "assignment.json";

/// An assignment that was found good.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub generation: Generation,
    pub desired: Arc<Desired>,
}

/// Why an assignment was refused.
#[derive(Debug, thiserror::Error)]
pub enum AssignmentError {
    #[error("the assignment is not signed by the server this node is registered with")]
    Signature(#[source] SignedError),
    #[error("the assignment is for cluster {found}, this node is in cluster {own}")]
    Cluster { found: ClusterId, own: ClusterId },
    #[error("the assignment is for node {found}, this is node {own}")]
    Node { found: NodeId, own: NodeId },
    #[error(transparent)]
    Spec(#[from] MissingSpec),
    #[error("the last assignment {} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the last assignment {} cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Opens a signed assignment for this node.
pub fn open(
    message: &[u8],
    server_key: &str,
    cluster: &ClusterId,
    node: &NodeId,
) -> Result<Assignment, AssignmentError> {
    let assignment: NodeAssignment = signed::verify(server_key, Context::Assignment, message)
        .map_err(AssignmentError::Signature)?;
    if assignment.cluster != *cluster {
        return Err(AssignmentError::Cluster { found: assignment.cluster, own: cluster.clone() });
    }
    if assignment.node != *node {
        return Err(AssignmentError::Node { found: assignment.node, own: node.clone() });
    }
    let desired = Arc::new(Desired::of(&assignment)?);
    Ok(Assignment { generation: assignment.generation, desired })
}

/// The signed bytes kept in `state_dir`, if any.
pub fn load(state_dir: &Path) -> Result<Option<Vec<u8>>, AssignmentError> {
    let path = state_dir.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AssignmentError::Read { path, source }),
    }
}

/// Keeps the signed bytes; done before anything is done about them.
pub fn store(state_dir: &Path, message: &[u8]) -> Result<(), AssignmentError> {
    let path = state_dir.join(FILE);
    knit_runtime::file::write_atomic(&path, message, 0o600)
        .map_err(|source| AssignmentError::Write { path, source })
}
