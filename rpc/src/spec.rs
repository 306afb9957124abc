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
pub mod diff;
mod hash;
mod image;
mod json;
mod octal;
mod problem;
mod quantity;
mod reader;
mod run;
mod shape;
mod toml;
mod tree;
mod update;
mod volume;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use image::ImageRef;
pub use problem::{Problem, Problems};
pub use quantity::{Bytes, Cpus, Span};
pub use run::{
    Health, PROBE_FAILURES_DEFAULT, PROBE_INTERVAL_DEFAULT, PROBE_TIMEOUT_DEFAULT, Probe,
    ProbeKind, PullPolicy, RunPolicy,
};
pub use update::{OnFailure, Order, Strategy, UpdateSpec, Wave};
pub use volume::{VolumeMount, VolumeName};

use crate::constraint::Constraint;
use crate::id::{DeploymentName, ProjectName, SpecHash};

/// Replicas of one deployment, at most.
pub const REPLICAS_MAX: u32 = 10_000;
/// Bytes of a manifest, at most.
pub const MANIFEST_BYTES_MAX: usize = 1024 * 1024;
/// Log driver when the spec says nothing: the one that `docker logs` reads everywhere.
pub const LOG_DRIVER_DEFAULT: &str = "json-file";
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
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// How many instances; 1 when the manifest says nothing. Means nothing with
    /// [`Mode::EveryNode`].
    #[serde(default = "one")]
    pub replicas: u32,
    /// Labels that a node must carry, each with this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// What else must hold of a node, such as `label.region == "eu" && arch == "amd64"`.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub constraint: Option<Constraint>,
    /// What instances are spread over, the most important first; over nodes when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub spread: Vec<SpreadKey>,
    /// Instances of this deployment that one node may run, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
    /// What becomes of instances whose node is lost; when absent, `wait` with volumes and
    /// `replace` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node_loss: Option<OnNodeLoss>,
    #[serde(default, skip_serializing_if = "UpdateSpec::is_default")]
    pub update: UpdateSpec,
    #[serde(default, skip_serializing_if = "Health::is_default")]
    pub health: Health,
    #[serde(default, skip_serializing_if = "PullPolicy::is_default")]
    pub pull_policy: PullPolicy,
    #[serde(flatten)]
    pub instance: InstanceSpec,
}

fn one() -> u32 {
    1
}

impl DeploymentSpec {
    /// A deployment of one instance, with everything else at its default.
    pub fn new(name: DeploymentName, instance: InstanceSpec) -> Self {
        Self {
            name,
            project: ProjectName::default(),
            mode: Mode::default(),
            replicas: 1,
            node_selector: BTreeMap::new(),
            constraint: None,
            spread: Vec::new(),
            max_per_node: None,
            on_node_loss: None,
            update: UpdateSpec::default(),
            health: Health::default(),
            pull_policy: PullPolicy::default(),
            instance,
        }
    }

    /// What no single field can tell: clashes among ports, templates and networks.
    pub fn check(&self) -> Vec<(String, String)> {
        check::clashes(self)
    }

    /// What an agent has to know besides what the container looks like.
    pub fn policy(&self) -> RunPolicy {
        RunPolicy {
            health: self.health.clone(),
            pull_policy: self.pull_policy,
            drain: self.update.drain,
        }
    }

    /// What becomes of instances whose node is lost.
    pub fn on_node_loss(&self) -> OnNodeLoss {
        let keeps_data = !self.instance.volumes.is_empty();
        let default = if keeps_data { OnNodeLoss::Wait } else { OnNodeLoss::Replace };
        self.on_node_loss.unwrap_or(default)
    }
}

/// How many instances there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `replicas` of them.
    #[default]
    Replicated,
    /// One on each node that may run it.
    EveryNode,
}

impl Mode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of instances whose node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnNodeLoss {
    /// They are placed elsewhere at once.
    Replace,
    /// They wait for the node to return, or to be removed from the cluster.
    Wait,
    /// They wait until somebody says `knit restart`.
    Manual,
}

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

/// What a node needs to know to make one container. Whatever changes here needs a new container;
/// what can change without one stands in [`DeploymentSpec`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceSpec {
    /// For example `nginx:alpine` or `registry.example/app@sha256:…`.
    pub image: String,
    /// Registry that the image is pulled from when its name holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// Replaces the image's entrypoint. A manifest may call it `entrypoint` as well.
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
    /// Networks to join: Knit's own by name, else Docker's; the node's `knit` network when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    #[serde(default, skip_serializing_if = "LogSpec::is_default")]
    pub log: LogSpec,
    #[serde(default, skip_serializing_if = "Resources::is_default")]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// Name or id, `USER[:GROUP]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `{deployment}-{slot}` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Of the container; `knit.` is Knit's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Such as `SIGQUIT`; the image's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time between the stop signal and SIGKILL, in whole seconds; 10 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub stop_grace: Option<Span>,
    /// By name, such as `nofile`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Whether the container's root file system is mounted read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Absolute paths, each with Docker's options after a colon if any: `/run:size=64m,mode=755`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<String>,
    /// Size of /dev/shm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub shm_size: Option<Bytes>,
    /// Whether an init reaps zombies and forwards signals.
    #[serde(default, skip_serializing_if = "is_false")]
    pub init: bool,
    /// Addresses of name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<std::net::IpAddr>,
    /// Lines of /etc/hosts: name to address, or to `host-gateway`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, String>,
    /// Capabilities to drop, without `CAP_`; `ALL` drops all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl InstanceSpec {
    /// Hash of all that the node would do differently.
    pub fn hash(&self) -> SpecHash {
        hash::of(self)
    }

    /// The image's full name: the registry goes before a name that holds none.
    pub fn image_reference(&self) -> String {
        let names_registry = self
            .image
            .split_once('/')
            .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
        match self.registry.as_deref().map(|registry| registry.trim_end_matches('/')) {
            Some(registry) if !names_registry && !registry.is_empty() => {
                let host = registry.trim_start_matches("https://").trim_start_matches("http://");
                format!("{host}/{}", self.image)
            }
            _ => self.image.clone(),
        }
    }

    /// Whether the instance shares its host's network, so that nothing is mapped.
    pub fn uses_host_network(&self) -> bool {
        self.networks.iter().any(|network| network == "host")
    }
}

/// What an instance takes of its node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Reserved; gives the container its share when CPUs are short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub cpu: Option<Cpus>,
    /// Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Bytes>,
    /// Reserved on the file system that Docker stores on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub disk: Option<Bytes>,
    /// The container is killed above this; no ceiling when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory_max: Option<Bytes>,
}

impl Resources {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Bounds of a process; -1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ulimit {
    pub soft: i64,
    pub hard: i64,
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
    /// Permission bits; travels as octal digits such as `"0444"`, which manifests write too.
    #[serde(default = "mode_default", with = "octal")]
    #[schema(value_type = String)]
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
    /// Docker's log driver; with another than `json-file` or `local` no bounds are passed on.
    #[serde(default = "log_driver_default", skip_serializing_if = "is_log_driver_default")]
    pub driver: String,
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
        Self {
            driver: log_driver_default(),
            max_size: LOG_MAX_SIZE_DEFAULT.to_owned(),
            max_files: LOG_MAX_FILES_DEFAULT,
        }
    }
}

fn log_driver_default() -> String {
    LOG_DRIVER_DEFAULT.to_owned()
}

fn is_log_driver_default(driver: &str) -> bool {
    driver == LOG_DRIVER_DEFAULT
}
