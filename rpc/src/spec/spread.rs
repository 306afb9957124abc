//! What instances are spread over.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What instances are spread over: written `node` or `label.NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SpreadKey {
    Node,
    /// The values of a label; nodes without it are one group.
    Label(String),
}

impl SpreadKey {
    pub fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("label.")) {
            ("node", _) => Ok(Self::Node),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Label(name.to_owned())),
            _ => Err(format!("must be \"node\" or \"label.NAME\", not \"{text}\"")),
        }
    }
}

impl fmt::Display for SpreadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.pad("node"),
            Self::Label(name) => write!(f, "label.{name}"),
        }
    }
}

impl TryFrom<String> for SpreadKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<SpreadKey> for String {
    fn from(key: SpreadKey) -> Self {
        key.to_string()
    }
}
