//! The command line as it is typed.

pub(crate) mod authority;
mod file;
#[cfg(test)]
mod reference;

use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use knit_runtime::log::LogArgs;
use knit_runtime::manual::ManualCommand;
use knit_runtime::terminal::Output;

use crate::bench::wire::SECONDS_MAX;
use crate::sidecar::metrics::MetricsAddress;
use crate::sidecar::wg::Choice;
use authority::{AuthorityCommand, TrustArgs};
pub(crate) use file::{join_args_of, parse};

/// See and run the WireGuard mesh of a Knit cluster
#[derive(Debug, clap::Parser)]
#[command(name = "meshctl", version = knit_runtime::version::version(), propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print a new mesh secret
    Init(InitArgs),
    /// Join the mesh: run the mesh daemon in the foreground
    Join(Box<JoinArgs>),
    /// Leave the mesh: say goodbye, remove the interface, end the daemon
    Leave(SocketArgs),
    /// Show this node
    Status(ShowArgs),
    /// Show the peers of this node
    Peers(PeersArgs),
    /// Ask a node for echoes through the mesh
    Ping(PingArgs),
    /// Measure the throughput to a node: through the tunnel, and beside it
    Bench(BenchArgs),
    /// Find what on this host keeps the mesh from working, each with the way out
    Doctor(DoctorArgs),
    /// Show every host: what the mesh and what the server know of it
    Nodes(NodesArgs),
    /// Change the mesh secret: this node accepts the old and the new one for a time
    Rotate(RotateArgs),
    /// Make a mesh authority, sign members and take their membership back
    #[command(subcommand)]
    Authority(AuthorityCommand),
    /// Say whether a configuration file of `join` is right; nothing is started or changed
    CheckConfig {
        /// The file
        file: PathBuf,
    },
    #[command(flatten)]
    Manual(ManualCommand),
}

impl Command {
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self, Self::Join(_))
    }
}

/// Which mesh daemon is asked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SocketArgs {
    /// Socket of the mesh daemon [default: the first there is of `/var/run/wgmesh.sock`,
    /// `/run/wg-mesh/wgmesh.sock` and `$XDG_RUNTIME_DIR/wgmesh.sock`]
    #[arg(long, env = "WGMESH_SOCKET", value_name = "PATH")]
    pub(crate) mesh_socket: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Make the secret that follows the one in this file, in the same mesh, for `meshctl rotate`
    #[arg(long, value_name = "FILE")]
    pub(crate) successor_of: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {
    /// File with the new secret, from `meshctl init --successor-of`
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: PathBuf,

    /// For how long the old secret is accepted too: a span such as `24h` or `7d`
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) grace: String,

    #[command(flatten)]
    pub(crate) socket: SocketArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) socket: SocketArgs,

    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<PeersCommand>,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum PeersCommand {
    /// List the peers heard within five minutes
    List {
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Count them
    Count {
        #[command(flatten)]
        show: ShowArgs,
    },
    /// List who has the mesh secret and is kept out for want of a certificate
    KeptOut {
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Show one peer
    Get {
        /// Its WireGuard public key
        key: String,
        #[command(flatten)]
        show: ShowArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct PingArgs {
    /// Its name, its mesh address, or the beginning of its public key
    #[arg(value_name = "NAME|IP")]
    pub(crate) node: String,

    /// How many requests are sent
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    pub(crate) count: u16,

    /// Seconds from one to the next, 0.01 or more
    #[arg(short, long, default_value_t = 1.0, value_parser = interval_secs, value_name = "S")]
    pub(crate) interval: f64,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Its name, its mesh address, or the beginning of its public key
    #[arg(value_name = "PEER")]
    pub(crate) node: String,

    /// How long each of the four measurements lasts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(SECONDS_MAX)), value_name = "N")]
    pub(crate) seconds: u8,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) show: ShowArgs,

    /// File that holds the mesh secret: with it the mesh's ports and addresses are known without a daemon
    #[arg(long, env = "WGMESH_SECRET_FILE", value_name = "PATH")]
    pub(crate) secret_file: Option<PathBuf>,

    /// Where the daemon keeps its keys
    #[arg(long, default_value = "/var/lib/wgmesh", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(crate) show: ShowArgs,

    /// The server's address [default: asked of the mesh]
    #[arg(long, env = "KNIT_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,

    /// File that holds a token for the server [default: that of `knit login`; the token itself:
    /// `KNIT_TOKEN`]
    #[arg(long, env = "KNIT_TOKEN_FILE", value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,
}

/// How this node joins. The secret comes from a file, a systemd credential called `mesh-secret`
/// or the environment, never from the command line.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct JoinArgs {
    /// File that holds the mesh secret [env: `WGMESH_SECRET_FILE`; the secret itself: `WGMESH_SECRET`]
    #[arg(long, value_name = "PATH")]
    pub(crate) secret_file: Option<PathBuf>,

    /// Name of the WireGuard interface
    #[arg(long, default_value = "wg0", value_parser = interface_name, value_name = "NAME")]
    pub(crate) interface: String,

    /// UDP port of WireGuard
    #[arg(long, default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    pub(crate) listen_port: u16,

    /// Subnet of mesh addresses, the same on every node [default: derived from the secret]
    #[arg(long, value_name = "CIDR")]
    pub(crate) mesh_subnet: Option<Ipv4Net>,

    /// Where the daemon's socket is made [default: `$WGMESH_SOCKET` or `/var/run/wgmesh.sock`]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket_path: Option<PathBuf>,

    /// Group whose members may ask the daemon too; only its own user and root may tell it to leave
    #[arg(long, value_name = "NAME")]
    pub(crate) socket_group: Option<String>,

    /// Neither announce on the LAN nor listen there; peers come from seeds alone
    #[arg(long)]
    pub(crate) no_lan_discovery: bool,

    /// Tell peers of each other through the tunnel too, as `wgmesh --gossip` does
    #[arg(long)]
    pub(crate) gossip: bool,

    /// Neither have a mesh IPv6 address nor use IPv6 endpoints of peers
    #[arg(long)]
    pub(crate) no_ipv6: bool,

    /// Introduce peers behind NATs to each other, and relay between those that cannot meet
    #[arg(long)]
    pub(crate) introducer: bool,

    /// Do not try to open NATs towards peers with the help of introducers
    #[arg(long)]
    pub(crate) no_punching: bool,

    /// Reach peers through an introducer where there is one, also if a direct tunnel would work
    #[arg(long)]
    pub(crate) force_relay: bool,

    /// Networks behind this node, told to the peers
    #[arg(long, value_delimiter = ',', value_name = "CIDR,…")]
    pub(crate) advertise_routes: Vec<IpNet>,

    /// Use routes of peers that lie in these networks; never the default route, nor what overlaps the
    /// mesh, a network of this host, or a route of another peer [default: none]
    #[arg(long, value_delimiter = ',', value_name = "CIDR,…")]
    pub(crate) accept_routes: Vec<Ipv4Net>,

    /// Where keys, mesh address and peers are kept
    #[arg(long, default_value = "/var/lib/wgmesh", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,

    /// A node to say hello to; may be given more than once [default port: the mesh's exchange port]
    #[arg(long = "seed", value_name = "HOST[:PORT]")]
    pub(crate) seeds: Vec<String>,

    /// A STUN server to ask for this host's public address; may be given more than once [default: none]
    #[arg(long, value_parser = host_and_port, value_name = "HOST:PORT")]
    pub(crate) stun: Vec<String>,

    /// The name that peers see [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// What moves the packets
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) engine: Choice,

    /// Let the userspace engine move packets one by one, as on a kernel without offloads
    #[arg(long, hide = true)]
    pub(crate) no_offload: bool,

    /// Serve Prometheus metrics at `127.0.0.1:PORT`, or at `mesh:PORT` for the mesh; nowhere else, for they have no password
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<MetricsAddress>,

    /// Do not measure throughput when a peer asks for it
    #[arg(long)]
    pub(crate) no_bench: bool,

    /// At the end say goodbye and remove the interface, instead of leaving it for the next start
    #[arg(long)]
    pub(crate) teardown: bool,

    #[command(flatten)]
    pub(crate) trust: TrustArgs,

    /// A TOML file with these options, dashes as underscores; flags win
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn interval_secs(text: &str) -> Result<f64, String> {
    let secs: Result<f64, _> = text.parse();
    let secs = secs.ok().filter(|secs| (0.01..=3600.0).contains(secs));
    secs.ok_or_else(|| "an interval is 0.01 to 3600 seconds".to_owned())
}

pub(crate) fn interface_name(name: &str) -> Result<String, String> {
    let mut chars = name.chars();
    let valid = chars.next().is_some_and(|first| first.is_ascii_alphabetic())
        && chars.all(|char| char.is_ascii_alphanumeric() || "-_".contains(char))
        && name.len() <= 15;
    if valid {
        Ok(name.to_owned())
    } else {
        Err("an interface name is a letter and up to 14 letters, digits, `-` or `_`".to_owned())
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse().is_ok_and(|port: u16| port > 0) => {
            Ok(text.to_owned())
        }
        Some(_) | None => Err("name a host and its port, as in `stun.example.org:3478`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_secret_is_taken_from_the_command_line() {
        for line in ["join --secret x", "init --secret", "join wgmesh://v1/x", "leave --secret x"] {
            let line = std::iter::once("meshctl").chain(line.split(' '));
            assert!(<Cli as clap::Parser>::try_parse_from(line.clone()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn interface_names() {
        for (name, valid) in [
            ("wg0", true),
            ("mesh-a_1", true),
            ("abcdefghijklmno", true),
            ("abcdefghijklmnop", false),
            ("0wg", false),
            ("wg/0", false),
            ("", false),
        ] {
            assert_eq!(interface_name(name).is_ok(), valid, "{name}");
        }
    }
}
