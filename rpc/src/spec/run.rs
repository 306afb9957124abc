//! What an agent has to know of an instance besides what its container looks like. Changing it
//! needs no new container.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Span;
use crate::id::SpecHash;

/// How an instance is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunPolicy {
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// How long a container whose port this instance takes over goes on with the connections
    /// that it has.
    #[serde(default = "super::update::drain_default")]
    pub drain: Span,
}

impl Default for RunPolicy {
    fn default() -> Self {
        Self {
            health: Health::default(),
            pull_policy: PullPolicy::default(),
            drain: super::update::drain_default(),
        }
    }
}

impl RunPolicy {
    /// What assignments call it by.
    pub fn hash(&self) -> SpecHash {
        SpecHash::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// When an instance counts as ready, and as alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// While it fails the instance gets no new connections. Without one, an instance is ready once
    /// it runs, and once Docker's own HEALTHCHECK says so if its image has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
    /// When it fails the instance is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive: Option<Probe>,
    /// From the container's start until it must be ready. Pulling its image does not count.
    #[serde(default = "start_within_default")]
    #[schema(value_type = String)]
    pub start_within: Span,
}

fn start_within_default() -> Span {
    Span::from_secs(60)
}

impl Default for Health {
    fn default() -> Self {
        Self { ready: None, alive: None, start_within: start_within_default() }
    }
}

impl Health {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One question that the agent asks an instance again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// Between two questions once it is ready; 250 ms before that.
    #[serde(default = "interval_default")]
    #[schema(value_type = String)]
    pub interval: Span,
    /// An answer that takes longer is a failure.
    #[serde(default = "timeout_default")]
    #[schema(value_type = String)]
    pub timeout: Span,
    /// Failures in a row before it counts.
    #[serde(default = "failures_default")]
    pub failures: u32,
}

/// Between two questions when the manifest says nothing.
pub const PROBE_INTERVAL_DEFAULT: Span = Span::from_secs(2);
/// How long an answer may take when the manifest says nothing.
pub const PROBE_TIMEOUT_DEFAULT: Span = Span::from_secs(1);
/// Failures in a row when the manifest says nothing.
pub const PROBE_FAILURES_DEFAULT: u32 = 3;

fn interval_default() -> Span {
    PROBE_INTERVAL_DEFAULT
}

fn timeout_default() -> Span {
    PROBE_TIMEOUT_DEFAULT
}

fn failures_default() -> u32 {
    PROBE_FAILURES_DEFAULT
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// GET; a status from 200 to 399 is well.
    Http { path: String, port: u16 },
    /// Whether the port accepts a connection.
    Tcp { port: u16 },
    /// A command in the container; exit code 0 is well.
    Exec { command: Vec<String> },
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { path, port } => write!(f, "GET {path} on port {port}"),
            Self::Tcp { port } => write!(f, "connecting to port {port}"),
            Self::Exec { command } => write!(f, "`{}`", command.join(" ")),
        }
    }
}

/// When a node asks the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// When the image is not there.
    #[default]
    Missing,
    /// Before each container is made.
    Always,
    /// Not at all: the image must be there.
    Never,
}

impl PullPolicy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
