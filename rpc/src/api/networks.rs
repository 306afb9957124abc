//! Networks that users made.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::message::NetworkSpec;

/// A network as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    #[serde(flatten)]
    pub network: NetworkSpec,
    /// Deployments that name it.
    pub used_by: Vec<String>,
    /// Nodes that have it because an instance there needs it.
    pub nodes: Vec<String>,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
}
