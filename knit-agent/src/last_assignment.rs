//! The assignment that the agent works on, kept as the server signed it.
//!
//! Boxes of secrets that a newer assignment needs and does not carry, because the server cannot open
//! them any more, are kept beside it: what runs can be started again all the same.
//!
//! Invariant: what is read back is verified like what comes by wire.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use knit_agent_core::Desired;
use knit_agent_core::desired::MissingSpec;
use knit_rpc::id::{ClusterId, NodeId, ProjectName, SecretName};
use knit_rpc::message::{Generation, NodeAssignment, SealedSecret};
use knit_rpc::signed::{self, Context, SignedError};

const FILE: &str = "assignment.json";
const BOXES_FILE: &str = "boxes.json";

/// An assignment that was found good.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub generation: Generation,
    pub desired: Arc<Desired>,
    /// All that came for its instances, and what was carried over.
    pub boxes: Arc<Vec<SealedSecret>>,
    /// How many of them, the last ones, were carried over.
    carried: usize,
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

/// Opens a signed assignment for this node; boxes that it lacks are taken from `former` ones.
pub fn open(
    message: &[u8],
    server_key: &str,
    cluster: &ClusterId,
    node: &NodeId,
    former: &[SealedSecret],
) -> Result<Assignment, AssignmentError> {
    let mut assignment: NodeAssignment = signed::verify(server_key, Context::Assignment, message)
        .map_err(AssignmentError::Signature)?;
    if assignment.cluster != *cluster {
        return Err(AssignmentError::Cluster { found: assignment.cluster, own: cluster.clone() });
    }
    if assignment.node != *node {
        return Err(AssignmentError::Node { found: assignment.node, own: node.clone() });
    }
    let carried = carry_over(&mut assignment, former);
    let desired = Arc::new(Desired::of(&assignment)?);
    let boxes = Arc::new(assignment.secrets);
    Ok(Assignment { generation: assignment.generation, desired, boxes, carried })
}

/// Adds the former boxes that instances need and that did not come; returns how many.
fn carry_over(assignment: &mut NodeAssignment, former: &[SealedSecret]) -> usize {
    let came: BTreeSet<_> = assignment.secrets.iter().map(key).collect();
    let instances = assignment.instances.iter();
    let needed: BTreeSet<_> = instances
        .flat_map(|one| one.secrets.iter().map(|(name, version)| (&one.project, name, *version)))
        .filter(|needed| !came.contains(needed))
        .collect();
    let found = former.iter().filter(|one| needed.contains(&key(one)));
    let found: Vec<SealedSecret> = found.cloned().collect();
    let count = found.len();
    assignment.secrets.extend(found);
    count
}

fn key(sealed: &SealedSecret) -> (&ProjectName, &SecretName, u64) {
    (&sealed.project, &sealed.name, sealed.version)
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

/// The boxes that were carried over; none when there is no such file, or it is no use.
pub fn load_boxes(state_dir: &Path) -> Vec<SealedSecret> {
    let bytes = std::fs::read(state_dir.join(BOXES_FILE)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Keeps the signed bytes, after what was carried over to them; done before anything is done about
/// them.
pub fn store(
    state_dir: &Path,
    message: &[u8],
    assignment: &Assignment,
) -> Result<(), AssignmentError> {
    let write = |path: PathBuf, bytes: &[u8]| {
        knit_runtime::file::write_atomic(&path, bytes, 0o600)
            .map_err(|source| AssignmentError::Write { path, source })
    };
    let (_, carried) = assignment.boxes.split_at(assignment.boxes.len() - assignment.carried);
    let boxes = state_dir.join(BOXES_FILE);
    if !carried.is_empty() {
        write(boxes.clone(), &serde_json::to_vec(carried).unwrap_or_default())?;
    }
    write(state_dir.join(FILE), message)?;
    if carried.is_empty() {
        // One that stays is not read wrongly: what comes goes before it.
        let _ = std::fs::remove_file(boxes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use knit_rpc::id::{DeploymentId, InstanceId};
    use knit_rpc::message::{AssignedInstance, secret_purpose};
    use knit_rpc::sealed_box::OpeningKey;
    use knit_rpc::spec::InstanceSpec;
    use nkeys::KeyPair;

    use super::*;

    fn db() -> SecretName {
        "db".parse().unwrap()
    }

    fn sealed(version: u64) -> SealedSecret {
        let project = ProjectName::default();
        let purpose = secret_purpose(&project, &db(), version);
        let key = OpeningKey::from_bytes([1; 32]).sealing_key();
        let sealed = key.seal(&purpose, b"value").unwrap();
        SealedSecret { project, name: db(), version, sealed }
    }

    /// An assignment of one instance that needs this version, with these boxes.
    fn needing(version: u64, secrets: Vec<SealedSecret>) -> NodeAssignment {
        let spec: InstanceSpec =
            serde_json::from_str(r#"{"image": "x", "secrets": [{"name": "db"}]}"#).unwrap();
        let deployment_id = DeploymentId::from_bytes([1; 16]);
        let instance = AssignedInstance {
            id: InstanceId::derive(&deployment_id, 0, 1, 0),
            project: ProjectName::default(),
            deployment: "web".parse().unwrap(),
            deployment_id,
            slot: 0,
            revision: 1,
            spec: spec.hash(),
            policy: None,
            secrets: [(db(), version)].into(),
            held: false,
        };
        NodeAssignment {
            cluster: ClusterId::from_bytes([1; 16]),
            node: NodeId::from_bytes([2; 16]),
            generation: Generation { epoch: 1, counter: version },
            specs: [(spec.hash(), spec)].into(),
            instances: vec![instance],
            policies: BTreeMap::new(),
            networks: Vec::new(),
            remove_volumes: BTreeSet::new(),
            keep_images: BTreeSet::new(),
            secrets,
        }
    }

    fn has_box(assignment: &Assignment) -> bool {
        let wanted = assignment.desired.instances.values().next().unwrap();
        wanted.secrets[&db()].sealed.is_some()
    }

    #[test]
    fn a_box_that_the_server_cannot_make_any_more_is_carried_over_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let server = KeyPair::new_server();
        let (key, cluster, node) =
            (server.public_key(), ClusterId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let sign = |assignment: &NodeAssignment| {
            signed::sign(&server, Context::Assignment, assignment).unwrap()
        };
        let open = |message: &[u8], former: &[SealedSecret]| {
            open(message, &key, &cluster, &node, former).unwrap()
        };
        let full = sign(&needing(1, vec![sealed(1)]));
        let first = open(&full, &[]);
        store(dir.path(), &full, &first).unwrap();
        assert!(has_box(&first) && load_boxes(dir.path()).is_empty());

        let bare = sign(&needing(1, Vec::new()));
        let second = open(&bare, &first.boxes);
        store(dir.path(), &bare, &second).unwrap();
        assert!(has_box(&second));
        let kept = load(dir.path()).unwrap().unwrap();
        assert!(has_box(&open(&kept, &load_boxes(dir.path()))), "after a restart");
        assert!(!has_box(&open(&kept, &[])), "it did not come by itself");

        let other = sign(&needing(2, Vec::new()));
        assert!(!has_box(&open(&other, &second.boxes)), "another version is another box");
        let again = sign(&needing(2, vec![sealed(2)]));
        let third = open(&again, &second.boxes);
        store(dir.path(), &again, &third).unwrap();
        assert!(has_box(&third) && load_boxes(dir.path()).is_empty());
    }
}
