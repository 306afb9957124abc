//! A manifest as values that know where they stand, whatever it was written in.

use super::problem::{Position, Problem};

/// Values in one manifest, at most: aliases multiply them.
pub(super) const NODES_MAX: usize = 100_000;
/// How deep values may nest.
pub(super) const DEPTH_MAX: usize = 64;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// What no structure is. The text is as written, so that `PORT: 8080` can be a string.
    Scalar {
        text: String,
        kind: Kind,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

/// What a scalar's notation says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
}

impl Value {
    /// What a person would call it.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Scalar { kind: Kind::Null, .. } => "nothing",
            Self::Scalar { kind: Kind::Bool, .. } => "true or false",
            Self::Scalar { kind: Kind::Number, .. } => "a number",
            Self::Scalar { kind: Kind::Text, .. } => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Scalar { kind: Kind::Null, .. })
    }
}

/// A fault of the text itself, before any key is looked at.
pub(super) fn syntax(at: Option<Position>, message: impl Into<String>) -> Problem {
    Problem { field: String::new(), position: at, message: message.into() }
}
