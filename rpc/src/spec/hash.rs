//! What makes two instances the same to a node.

use super::InstanceSpec;
use crate::id::SpecHash;

/// Hash of the spec's JSON: maps are ordered and defaults left out, so equal specs hash alike.
pub(super) fn of(spec: &InstanceSpec) -> SpecHash {
    let json = serde_json::to_vec(spec).unwrap_or_default();
    SpecHash::of(&json)
}
