//! What the server is told: flags over the configuration file over defaults.

mod backup;
mod check;
pub mod oidc;
mod public_url;
#[cfg(test)]
mod reference;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;
use knit_rpc::api::{API_PORT, API_SOCKET, NATS_MONITOR_PORT, NATS_PORT};
use knit_runtime::config::ConfigError;
use knit_runtime::log::LogArgs;
use knit_runtime::manual::ManualCommand;
use knit_server_core::admission::Policy;
use serde::Deserialize;

pub use backup::{BackupOptions, RestoreOptions};
use oidc::{Oidc, OidcTable};
pub use public_url::PublicUrl;

use crate::nats_server::Tls;
use crate::vault::MasterKeySource;

/// The state directory of the unit.
pub const STATE_DIR: &str = "/var/lib/knit-server";

/// Knit's control plane: REST API, planner, store and NATS.
#[derive(Debug, Parser)]
#[command(name = "knit-server", version = knit_runtime::version::version())]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Run(Box<Options>),
    /// Make the cluster's keys, its database and its first admin token, which is printed once
    Init(Box<Options>),
    /// Seal what is kept secret by another master key; works while the server runs as well
    RotateMasterKey(Box<RotateOptions>),
    /// Write all that cannot be rebuilt into one file; works while the server runs
    Backup(Box<BackupOptions>),
    /// Fill an empty state directory from a backup; the server must not run
    Restore(Box<RestoreOptions>),
    /// Print what an external NATS server has to have in its configuration (holds no secret)
    NatsConfig(Box<Options>),
    /// Say whether a configuration file is right; nothing is started, and nothing is changed
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    #[command(flatten)]
    Manual(ManualCommand),
}

/// How the master key is changed.
#[derive(Debug, Args)]
pub struct RotateOptions {
    #[command(flatten)]
    pub options: Options,

    /// The new master key, where the old one is not the server's own file; made when it is missing
    #[arg(long, value_name = "FILE")]
    pub new_master_key_file: Option<PathBuf>,
}

/// Each option, as a flag and as a key of the configuration file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where the server keeps its state [default: /var/lib/knit-server]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// The mesh sidecar's socket [default: `WGMESH_SOCKET`, else the first of the usual places]
    #[arg(long, value_name = "PATH")]
    pub mesh_socket: Option<PathBuf>,

    /// Address to listen on instead of loopback and the mesh address; repeatable
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<IpAddr>,

    /// Unix socket where root and the server's own user are admins without a token
    /// [default: /run/knit/server.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Port of the REST API [default: 7400]
    #[arg(long)]
    pub port: Option<u16>,

    /// An external NATS server instead of the bundled one; `nats-config` prints what it needs
    #[arg(long, value_name = "URL")]
    pub nats_url: Option<String>,

    /// The nats-server program [default: nats-server]
    #[arg(long, value_name = "PROGRAM")]
    pub nats_binary: Option<PathBuf>,

    /// Port of NATS for agents [default: 7422]
    #[arg(long, value_name = "PORT")]
    pub nats_port: Option<u16>,

    /// Port of NATS' monitor, on loopback [default: 7423]
    #[arg(long, value_name = "PORT")]
    pub nats_monitor_port: Option<u16>,

    /// Certificate of the bundled NATS, in PEM with its chain: with it, NATS demands TLS
    #[arg(long, value_name = "FILE", conflicts_with = "nats_url")]
    pub nats_tls_cert: Option<PathBuf>,

    /// Key of that certificate, in PEM [default: the file of the certificate]
    #[arg(long, value_name = "FILE", requires = "nats_tls_cert")]
    pub nats_tls_key: Option<PathBuf>,

    /// Certificates that NATS' own must be signed by, in PEM; agents are told them [default: those
    /// that each system trusts]
    #[arg(long, value_name = "FILE")]
    pub nats_tls_ca: Option<PathBuf>,

    /// Where each node gets a /24 for its containers from [default: 10.208.0.0/14]
    #[arg(long, value_name = "NET")]
    pub container_subnet: Option<Ipv4Net>,

    /// Who becomes a node without a join token: hosts that an operator approves, or every host of
    /// the mesh [default: asked]
    #[arg(long, value_name = "WHO")]
    pub admit: Option<Admit>,

    /// The key that seals what is kept secret: 64 hex digits, readable by its owner only
    /// [default: systemd's credential `master-key`, else master.key in the state directory]
    #[arg(long, value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,

    /// Directory with manifests (`*.yaml`, `*.yml`, `*.json`, `*.toml`) that the server applies when
    /// it starts [default: none]
    #[arg(long, value_name = "DIR")]
    pub manifests_dir: Option<PathBuf>,

    /// Where browsers reach this server, when a proxy with TLS stands before it:
    /// <https://knit.example.com>
    #[arg(long, value_name = "URL")]
    pub public_url: Option<PublicUrl>,

    /// Who may log in by an identity provider: a table, so in the file alone
    #[arg(skip)]
    pub oidc: Option<OidcTable>,

    /// A TOML file with these options, dashes as underscores; flags win
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// The options, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub state_dir: PathBuf,
    pub mesh_socket: Option<PathBuf>,
    pub listen: Vec<IpAddr>,
    pub socket: PathBuf,
    pub port: u16,
    pub nats_url: Option<String>,
    pub nats_binary: PathBuf,
    pub nats_port: u16,
    pub nats_monitor_port: u16,
    pub nats_tls: Option<Tls>,
    /// Whom NATS' certificate must be signed by.
    pub nats_ca: Option<PathBuf>,
    pub container_subnet: Ipv4Net,
    pub admission: Policy,
    pub master_key: MasterKeySource,
    pub manifests_dir: Option<PathBuf>,
    pub public_url: Option<PublicUrl>,
    pub oidc: Option<Oidc>,
}

/// Who becomes a node without a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admit {
    /// Hosts that an operator approves.
    Asked,
    /// Every host of the mesh: whoever holds the mesh secret.
    All,
}

impl Config {
    /// Reads the file that the flags name, if any, and fills in the rest.
    pub fn load(flags: Options) -> Result<Self, ConfigError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let Some(path) = flags.config.clone() else {
            return Ok(Self::complete(flags, Options::default(), credentials));
        };
        let mut file: Options = knit_runtime::config::load(&path)?;
        let oidc = file.oidc.take();
        let mut config = Self::complete(flags, file, credentials);
        let completed = oidc.map(|table| table.complete(config.public_url.as_ref())).transpose();
        config.oidc = completed
            .map_err(|problem| ConfigError::Parse { path, detail: problem.to_string() })?;
        Ok(config)
    }

    fn complete(flags: Options, file: Options, credentials: Option<PathBuf>) -> Self {
        let (cert, key) =
            (flags.nats_tls_cert.or(file.nats_tls_cert), flags.nats_tls_key.or(file.nats_tls_key));
        let listen = if flags.listen.is_empty() { file.listen } else { flags.listen };
        let state_dir = flags.state_dir.or(file.state_dir).unwrap_or_else(|| STATE_DIR.into());
        let named = flags.master_key_file.or(file.master_key_file);
        Self {
            master_key: MasterKeySource::choose(named, credentials, &state_dir),
            state_dir,
            mesh_socket: flags.mesh_socket.or(file.mesh_socket),
            listen,
            socket: flags.socket.or(file.socket).unwrap_or_else(|| API_SOCKET.into()),
            port: flags.port.or(file.port).unwrap_or(API_PORT),
            nats_url: flags.nats_url.or(file.nats_url),
            nats_binary: flags
                .nats_binary
                .or(file.nats_binary)
                .unwrap_or_else(|| "nats-server".into()),
            nats_port: flags.nats_port.or(file.nats_port).unwrap_or(NATS_PORT),
            nats_monitor_port: flags
                .nats_monitor_port
                .or(file.nats_monitor_port)
                .unwrap_or(NATS_MONITOR_PORT),
            nats_tls: cert.map(|cert| Tls { key: key.unwrap_or_else(|| cert.clone()), cert }),
            nats_ca: flags.nats_tls_ca.or(file.nats_tls_ca),
            container_subnet: flags
                .container_subnet
                .or(file.container_subnet)
                .unwrap_or_else(default_subnet),
            manifests_dir: flags.manifests_dir.or(file.manifests_dir),
            public_url: flags.public_url.or(file.public_url),
            oidc: None,
            admission: match flags.admit.or(file.admit) {
                Some(Admit::All) => Policy::All,
                Some(Admit::Asked) | None => Policy::Asked,
            },
        }
    }

    pub fn database(&self) -> PathBuf {
        self.state_dir.join("knit.db")
    }

    pub fn identity(&self) -> PathBuf {
        self.state_dir.join("identity.json")
    }

    /// Where `init` leaves the first token.
    pub fn admin_token(&self) -> PathBuf {
        self.state_dir.join("admin.token")
    }

    pub fn nats_dir(&self) -> PathBuf {
        self.state_dir.join("nats")
    }

    /// Makes the state directory, for its owner only.
    pub fn make_state_dir(path: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
    }
}

fn default_subnet() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 208, 0, 0), 14)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        Cli::command().debug_assert();
        let file: Options = toml_like(r#"{"port": 1, "nats_port": 2, "listen": ["127.0.0.9"]}"#);
        let flags = Options { port: Some(9), ..Options::default() };
        let config = Config::complete(flags, file, None);
        assert_eq!((config.port, config.nats_port, config.nats_monitor_port), (9, 2, 7423));
        assert_eq!(config.listen, ["127.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.container_subnet.to_string(), "10.208.0.0/14");
    }

    fn toml_like(json: &str) -> Options {
        serde_json::from_str(json).unwrap()
    }
}
