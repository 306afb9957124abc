//! Volumes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::NodeId;
use crate::spec::VolumeName;

/// A volume as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    #[schema(value_type = String)]
    pub volume: VolumeName,
    pub state: VolumeState,
    pub node_name: String,
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Slots that use it, such as `db.0`.
    pub used_by: Vec<String>,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    pub docker_name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeState {
    /// Its node has it.
    Present,
    /// Decided, not made yet.
    Awaited,
    /// Its node is lost, and its data with it until the node returns.
    Lost,
    /// Being removed.
    Removing,
}
