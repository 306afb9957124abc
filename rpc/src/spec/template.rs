//! Files that are rendered on the node.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::octal;
use super::secret::named_in;
use crate::id::SecretName;

/// A file in the container, rendered on the node with handlebars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateSpec {
    /// Absolute path in the container.
    pub destination: String,
    /// Knows `env`, `node`, `deployment`, `slot`, `ports`, `mesh` and
    /// `secret`; an unknown variable is an error.
    pub content: String,
    /// Permission bits; travels as octal digits such as `"0444"`, which manifests write too.
    #[serde(default = "mode_default", with = "octal")]
    #[schema(value_type = String)]
    pub mode: u32,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

impl TemplateSpec {
    /// The secrets that it names: what it renders to is as secret as they are.
    pub fn secrets(&self) -> BTreeSet<SecretName> {
        named_in(&self.content)
    }
}

/// Permission bits of a template when the manifest says nothing: read by all, written by none.
pub const TEMPLATE_MODE_DEFAULT: u32 = 0o444;

fn mode_default() -> u32 {
    TEMPLATE_MODE_DEFAULT
}
