//! What users write: a deployment as YAML, JSON or TOML.
//!
//! ```text
//! text ──tree──> Node (values with line and column) ──shape──> DeploymentSpec, or every problem
//! ```
//!
//! Shape is checked over a tree that keeps positions, because a deserialiser stops at the first
//! fault and a person wants all of them at once. What a single field cannot tell by itself (two
//! ports that clash, two templates with one destination) is checked by [`DeploymentSpec::check`].
//!
//! Invariant: a `DeploymentSpec` that left [`parse`] has no problem that its text could show.

mod check;
mod deployment;
pub mod diff;
mod hash;
mod image;
mod instance;
mod json;
mod log;
mod octal;
mod port;
mod privilege;
mod problem;
mod quantity;
mod reader;
mod run;
mod secret;
mod shape;
mod spread;
mod template;
mod toml;
mod tree;
mod update;
mod volume;
mod words;
mod yaml;

pub use deployment::{DeploymentSpec, Mode, OnNodeLoss, REPLICAS_MAX};
pub use image::ImageRef;
pub use instance::{InstanceSpec, Resources, Ulimit};
pub use log::{LOG_DRIVER_DEFAULT, LOG_MAX_FILES_DEFAULT, LOG_MAX_SIZE_DEFAULT, LogSpec};
pub use port::{HostIp, PortSpec, Protocol};
pub use privilege::{HostMount, NodePolicy, Privilege};
pub use problem::{Problem, Problems};
pub use quantity::{Bytes, Cpus, Span};
pub use run::{
    Health, PROBE_FAILURES_DEFAULT, PROBE_INTERVAL_DEFAULT, PROBE_TIMEOUT_DEFAULT, Probe,
    ProbeKind, PullPolicy, RunPolicy,
};
pub use secret::{OnChange, SECRET_MODE_DEFAULT, SECRETS_DIR, SECRETS_MAX, SecretUse};
pub use spread::SpreadKey;
pub use template::{TEMPLATE_MODE_DEFAULT, TemplateSpec};
pub use update::{OnFailure, Order, Strategy, UpdateSpec, Wave};
pub use volume::{VolumeMount, VolumeName};

use crate::id::ProjectName;

/// Bytes of a manifest, at most.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;

/// How a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Yaml,
    Json,
    Toml,
}

impl Format {
    /// From a file's name; what has no known ending is YAML.
    pub fn of_path(path: &str) -> Self {
        match path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
            Some("json") => Self::Json,
            Some("toml") => Self::Toml,
            _ => Self::Yaml,
        }
    }

    /// From an HTTP content type; what is not named is JSON.
    pub fn of_content_type(content_type: &str) -> Self {
        if content_type.contains("yaml") {
            Self::Yaml
        } else if content_type.contains("toml") {
            Self::Toml
        } else {
            Self::Json
        }
    }

    /// The content type that names this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Yaml => "application/yaml",
            Self::Json => "application/json",
            Self::Toml => "application/toml",
        }
    }
}

/// Reads a manifest: the spec, or every problem with its position.
pub fn parse(text: &str, format: Format) -> Result<DeploymentSpec, Problems> {
    parse_in(text, format, None)
}

/// Reads a manifest for a project, which it may name as well: then it must be the same.
pub fn parse_in(
    text: &str,
    format: Format,
    project: Option<&ProjectName>,
) -> Result<DeploymentSpec, Problems> {
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(Problems::one(
            "",
            None,
            format!("the manifest has {} bytes; at most {MANIFEST_BYTES_MAX} are read", text.len()),
        ));
    }
    let (tree, twice) = match format {
        Format::Yaml => yaml::parse(text),
        Format::Json => json::parse(text),
        Format::Toml => toml::parse(text).map(|tree| (tree, Vec::new())),
    }
    .map_err(Problems::from)?;
    shape::deployment(&tree, twice, project)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
