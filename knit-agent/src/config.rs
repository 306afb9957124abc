//! How an agent is told what to do: flags over the configuration file over defaults.

#[cfg(test)]
mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use knit_agent_core::garbage::Marks;
use knit_rpc::spec::NodePolicy;
use knit_runtime::config::{ConfigError, readable};
use knit_runtime::log::LogArgs;
use knit_runtime::manual::ManualCommand;
use serde::Deserialize;

const STATE_DIR: &str = "/var/lib/knit-agent";
/// Read when it is there and no other is named.
const CONFIG_FILE: &str = "/etc/knit/agent.toml";
const SECRETS_DIR: &str = "/run/knit-agent/secrets";
const DOCKER_SOCKET: &str = "unix:///var/run/docker.sock";

/// Knit's node agent: runs containers on one host of the mesh.
#[derive(Debug, Parser)]
#[command(
    name = "knit-agent",
    version = knit_runtime::version::version(),
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join the mesh, register with the server and run what it assigns.
    Run(Options),
    /// Take a join token (`knit node token`) from standard input or a file; the agent joins with it
    /// at its next try.
    Join(JoinOptions),
    /// Remove this node's containers, their files, its network and its firewall rules.
    Cleanup(Options),
    /// Say whether a configuration file is right; nothing is started, and nothing is changed.
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    #[command(flatten)]
    Manual(ManualCommand),
}

#[derive(Debug, Args)]
pub struct JoinOptions {
    /// File that holds the join token [default: standard input]
    #[arg(long, value_name = "PATH")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
}

/// As given on the command line or in the file; what neither says has a default.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Directory for the node's identity, its last assignment and the files of instances
    /// [default: /var/lib/knit-agent]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Directory for the secrets of instances, in memory: a tmpfs is put there unless it is on one
    /// [default: /run/knit-agent/secrets]
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// The mesh daemon's socket [default: the first of the usual places that exists]
    #[arg(long, value_name = "PATH")]
    pub mesh_socket: Option<PathBuf>,
    /// The server, as http://HOST:PORT; `auto` asks the hosts of the mesh [default: auto]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Certificates in PEM that NATS' own must be signed by, when it demands TLS [default: what the
    /// server says, else what this system trusts]
    #[arg(long, value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// Docker's socket, as `unix://PATH` or a path
    /// [default: `unix:///var/run/docker.sock`]
    #[arg(long, value_name = "SOCKET", env = "DOCKER_HOST")]
    pub docker_socket: Option<String>,
    /// Name of this node [default: the host's name]
    #[arg(long)]
    pub name: Option<String>,
    /// Percent of Docker's file system in use above which images that Knit pulled and nothing
    /// needs are removed [default: 85]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    #[serde(deserialize_with = "percent")]
    pub gc_high: Option<u8>,
    /// Percent in use until which they are removed [default: 75]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    #[serde(deserialize_with = "percent")]
    pub gc_low: Option<u8>,
    /// A label of this node, as KEY=VALUE; may be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    #[serde(deserialize_with = "labels")]
    pub labels: Vec<(String, String)>,
    /// What containers may have of this node.
    #[arg(skip)]
    pub policy: PolicyOptions,
    /// A TOML file with these options, dashes as underscores, and tables `labels` and `policy`;
    /// flags win [default: /etc/knit/agent.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// What containers may have of this node, besides what every container has: nothing, unless it is
/// written here. Whatever the server wants, the agent keeps to it.
// `Args` for the doc comments: the file's reference is made of them.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyOptions {
    /// Whether containers may be privileged, which is to be root on this node.
    pub privileged: bool,
    /// Whether containers may have this node's own network.
    pub host_network: bool,
    /// Capabilities that containers may be given, without `CAP_`; `ALL` allows all.
    pub cap_add: Vec<String>,
    /// Directories and files of this node that containers may have, with all that is below.
    #[arg(value_name = "PATH")]
    pub host_paths: Vec<PathBuf>,
    /// Those that they may only read.
    #[arg(value_name = "PATH")]
    pub host_paths_read_only: Vec<PathBuf>,
}

impl From<PolicyOptions> for NodePolicy {
    fn from(options: PolicyOptions) -> Self {
        let capability = |name: String| {
            let name = name.to_ascii_uppercase();
            name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
        };
        Self {
            privileged: options.privileged,
            host_network: options.host_network,
            cap_add: options.cap_add.into_iter().map(capability).collect(),
            host_paths: options.host_paths.into_iter().collect(),
            host_paths_read_only: options.host_paths_read_only.into_iter().collect(),
        }
    }
}

/// What the agent works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub state_dir: PathBuf,
    pub secrets_dir: PathBuf,
    pub mesh_socket: Option<PathBuf>,
    pub server: Server,
    /// Whom NATS' certificate must be signed by, if the user says.
    pub nats_ca: Option<PathBuf>,
    pub docker_socket: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// When images are collected.
    pub garbage: Marks,
    /// What containers may have of this node.
    pub policy: NodePolicy,
    /// Where systemd puts credentials.
    pub credentials: Option<PathBuf>,
}

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Among the hosts of the mesh.
    Auto,
    Url(String),
}

impl Config {
    /// Finds what keeps an agent from starting with the file at `path`; nothing is made, changed or
    /// connected to.
    pub fn check(path: &Path) -> anyhow::Result<()> {
        let options = Options { config: Some(path.to_owned()), ..Options::default() };
        let config = options.resolve()?;
        if let Server::Url(url) = &config.server {
            let client = knit_link::http::ApiClient::new(url);
            client.with_context(|| format!("{}: server", path.display()))?;
        }
        readable(path, "nats_ca", config.nats_ca.as_deref())?;
        Ok(())
    }
}

impl Options {
    /// Fills in the file and the defaults.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let usual = || Some(PathBuf::from(CONFIG_FILE)).filter(|path| path.exists());
        let file: Self = match self.config.clone().or_else(usual) {
            Some(path) => knit_runtime::config::load(&path)?,
            None => Self::default(),
        };
        let labels = file.labels.into_iter().chain(self.labels).collect();
        let server = self.server.or(file.server);
        let marks = Marks::default();
        let high = self.gc_high.or(file.gc_high).unwrap_or(marks.high);
        let low = self.gc_low.or(file.gc_low).unwrap_or(marks.low);
        let name = self.name.or(file.name).filter(|name| !name.is_empty());
        Ok(Config {
            state_dir: self.state_dir.or(file.state_dir).unwrap_or_else(|| STATE_DIR.into()),
            secrets_dir: self
                .secrets_dir
                .or(file.secrets_dir)
                .unwrap_or_else(|| SECRETS_DIR.into()),
            mesh_socket: self.mesh_socket.or(file.mesh_socket),
            server: match server {
                Some(url) if url != "auto" => Server::Url(url),
                Some(_) | None => Server::Auto,
            },
            nats_ca: self.nats_ca.or(file.nats_ca),
            docker_socket: self
                .docker_socket
                .or(file.docker_socket)
                .unwrap_or_else(|| DOCKER_SOCKET.to_owned()),
            name: name.unwrap_or_else(crate::host::name),
            labels,
            garbage: Marks { high, low: low.min(high) },
            policy: file.policy.into(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        })
    }
}

/// As the flags have it: 1 to 100.
fn percent<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    let percent = u8::deserialize(from)?;
    if (1..=100).contains(&percent) {
        Ok(Some(percent))
    } else {
        Err(serde::de::Error::custom(format!("{percent} is not in 1..=100")))
    }
}

/// A table of the file.
fn labels<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    BTreeMap::deserialize(from).map(|labels| labels.into_iter().collect())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is no label: write KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(arguments: &[&str]) -> Config {
        let arguments = ["knit-agent", "run"].iter().chain(arguments);
        let Command::Run(options) = Cli::parse_from(arguments).command else { panic!("not run") };
        options.resolve().unwrap()
    }

    #[test]
    fn flags_go_over_the_file_and_the_file_over_defaults() {
        let path = std::env::temp_dir().join(format!("knit-agent-config-{}", std::process::id()));
        std::fs::write(
            &path,
            "name = \"from-file\"\nserver = \"http://10.0.0.1:7400\"\n[labels]\nrole = \"db\"\nzone = \"a\"\n[policy]\ncap_add = [\"cap_net_admin\"]\n",
        )
        .unwrap();
        let config = resolve(&["--config", path.to_str().unwrap(), "--label", "role=web"]);
        assert_eq!(config.name, "from-file");
        assert_eq!(config.server, Server::Url("http://10.0.0.1:7400".to_owned()));
        assert_eq!(config.labels["role"], "web");
        assert_eq!(config.labels["zone"], "a");
        assert!(config.policy.allows(knit_rpc::spec::Privilege::Capability("NET_ADMIN")));
        assert!(!config.policy.allows(knit_rpc::spec::Privilege::Privileged));
        assert_eq!(config.state_dir, PathBuf::from(STATE_DIR));
        assert_eq!(config.garbage, Marks { high: 85, low: 75 });
        std::fs::write(&path, "nmae = 1\n").unwrap();
        let Command::Run(options) =
            Cli::parse_from(["knit-agent", "run", "--config", path.to_str().unwrap()]).command
        else {
            panic!("not run")
        };
        assert!(options.resolve().unwrap_err().to_string().contains("nmae"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_wrong_in_a_file_is_found_without_a_start() {
        let path = std::env::temp_dir().join(format!("knit-agent-check-{}", std::process::id()));
        let checked = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::check(&path).map_err(|error| format!("{error:#}"))
        };
        checked("").unwrap();
        checked("server = \"10.0.0.1:7400\"\ngc_high = 90\n").unwrap();
        for (text, words) in [
            ("nmae = 1", "unknown field `nmae`"),
            ("gc_high = 101", "101 is not in 1..=100"),
            ("server = \"ftp://x\"", "no address of a server"),
            ("nats_ca = \"/nonexistent/ca.pem\"", "nats_ca names /nonexistent/ca.pem"),
        ] {
            let told = checked(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
        assert_eq!(resolve(&["--server", "auto"]).server, Server::Auto);
        assert!(Cli::try_parse_from(["knit-agent", "run", "--label", "x"]).is_err());
        assert!(Cli::try_parse_from(["knit-agent", "run", "--gc-high", "101"]).is_err());
        assert_eq!(resolve(&["--gc-high", "60"]).garbage, Marks { high: 60, low: 60 });
    }
}
