//! Every error of the API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs: `invalid`, `not-found`, `conflict`, `too-large`, `internal`, ….
    pub code: String,
    /// For people: a sentence.
    pub message: String,
    /// What is wrong with which field, where fields are to blame.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldProblem>,
    pub request_id: String,
}

/// One thing wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// For example `ports[0].host_port`.
    pub field: String,
    pub message: String,
    /// Counted from 1, when the body had lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}
