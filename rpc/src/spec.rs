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
mod hash;
mod image;
mod json;
mod problem;
mod reader;
mod shape;
mod toml;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use image::ImageRef;
pub use problem::{Problem, Problems};

use crate::id::{DeploymentName, ProjectName, SpecHash};

/// Replicas of one deployment, at most.
pub const REPLICAS_MAX: u32 = 10_000;
/// Bytes of a manifest, at most.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Size of one log file when the spec says nothing, in Docker's notation.
pub const LOG_MAX_SIZE_DEFAULT: &str = "10m";
/// Log files kept when the spec says nothing.
pub const LOG_MAX_FILES_DEFAULT: u32 = 3;

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
    shape::deployment(&tree, twice)
}

/// What the user wants: a named deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentSpec {
    #[schema(value_type = String)]
    pub name: DeploymentName,
    /// Namespace of the name; `default` when the manifest says nothing.
    #[serde(default)]
    #[schema(value_type = String)]
    pub project: ProjectName,
    /// How many instances; 1 when the manifest says nothing.
    #[serde(default = "one")]
    pub replicas: u32,
    /// Labels that a node must carry, each with this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    #[serde(flatten)]
    pub instance: InstanceSpec,
}

fn one() -> u32 {
    1
}

impl DeploymentSpec {
    /// What no single field can tell: clashes among ports, templates and networks.
    pub fn check(&self) -> Vec<(String, String)> {
        check::clashes(self)
    }
}

/// What a node needs to know to run one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceSpec {
    /// For example `nginx:alpine` or `registry.example/app@sha256:…`.
    pub image: String,
    /// Registry that the image is pulled from when its name holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub templates: Vec<TemplateSpec>,
    /// Docker networks to join; the node's own `knit` network when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    #[serde(default, skip_serializing_if = "LogSpec::is_default")]
    pub log: LogSpec,
}

impl InstanceSpec {
    /// Hash of all that the node would do differently.
    pub fn hash(&self) -> SpecHash {
        hash::of(self)
    }

    /// Whether the instance shares its host's network, so that nothing is mapped.
    pub fn uses_host_network(&self) -> bool {
        self.networks.iter().any(|network| network == "host")
    }
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct PortSpec {
    pub container_port: u16,
    /// The container's port when the manifest says nothing.
    pub host_port: u16,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    #[schema(value_type = String)]
    pub host_ip: HostIp,
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}->{}/{}", self.host_ip, self.host_port, self.container_port, self.protocol)
    }
}

#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Where a port is published on its host.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostIp {
    /// The host's mesh address: reached through WireGuard and from the host itself.
    #[default]
    Mesh,
    /// 127.0.0.1.
    Loopback,
    /// Every address of the host.
    Public,
    /// The addresses of one interface, written `iface:eth1`.
    Interface(String),
    Literal(Ipv4Addr),
}

impl HostIp {
    /// Reads the manifest's text, or says what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "mesh" => return Ok(Self::Mesh),
            "loopback" | "localhost" => return Ok(Self::Loopback),
            "public" => return Ok(Self::Public),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("iface:") {
            let fits = !name.is_empty()
                && name.len() <= 15
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
            return if fits {
                Ok(Self::Interface(name.to_owned()))
            } else {
                Err(format!("\"{name}\" is no interface name"))
            };
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) if address.is_unspecified() => Ok(Self::Public),
            Ok(address) if address == Ipv4Addr::LOCALHOST => Ok(Self::Loopback),
            Ok(address) if address.is_multicast() || address.is_broadcast() => {
                Err(format!("{address} is no address of a host"))
            }
            Ok(address) => Ok(Self::Literal(address)),
            Err(_) => Err(format!(
                "\"{text}\" is none of: mesh, loopback, public, iface:NAME, an IPv4 address"
            )),
        }
    }
}

impl fmt::Display for HostIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh => f.pad("mesh"),
            Self::Loopback => f.pad("loopback"),
            Self::Public => f.pad("public"),
            Self::Interface(name) => write!(f, "iface:{name}"),
            Self::Literal(address) => write!(f, "{address}"),
        }
    }
}

impl TryFrom<String> for HostIp {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<HostIp> for String {
    fn from(host_ip: HostIp) -> Self {
        host_ip.to_string()
    }
}

/// A file in the container, rendered on the node with handlebars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateSpec {
    /// Absolute path in the container.
    pub destination: String,
    /// Knows `env`, `node`, `deployment`, `slot`, `ports` and `mesh`; an unknown variable is an
    /// error.
    pub content: String,
    /// Permission bits.
    #[serde(default = "mode_default")]
    pub mode: u32,
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
}

/// Permission bits of a template when the manifest says nothing: read by all, written by none.
pub const TEMPLATE_MODE_DEFAULT: u32 = 0o444;

fn mode_default() -> u32 {
    TEMPLATE_MODE_DEFAULT
}

/// Bounds of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogSpec {
    /// Size of one file in Docker's notation, such as `10m`.
    pub max_size: String,
    pub max_files: u32,
}

impl LogSpec {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { max_size: LOG_MAX_SIZE_DEFAULT.to_owned(), max_files: LOG_MAX_FILES_DEFAULT }
    }
}
