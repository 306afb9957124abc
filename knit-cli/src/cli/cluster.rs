//! Commands about nodes, projects, volumes and networks.

use ipnet::Ipv4Net;
use knit_rpc::id::ProjectName;
use knit_rpc::message::NetworkDriver;

use super::{AddNodeArgs, ServerArgs, ShowArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// What to list
    #[arg(value_enum)]
    pub(crate) what: What,

    #[command(flatten)]
    pub(crate) of: OfProjectArgs,
}

/// What a project has, or all projects.
#[derive(Debug, clap::Args)]
pub(crate) struct OfProjectArgs {
    /// Only this project; nodes belong to none [default: all that you may see]
    #[arg(short, long, env = "KNIT_PROJECT")]
    pub(crate) project: Option<ProjectName>,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum What {
    Nodes,
    Deployments,
    Instances,
    Volumes,
    Networks,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum NodeCommand {
    /// List nodes
    Ls(ShowArgs),
    /// Show one node
    Show(ShowNodeArgs),
    /// Move everything off a node, and give it nothing new
    Drain(DrainArgs),
    /// Take a node back into use after a drain
    Undrain(NodeArgs),
    /// Give a node nothing new; what it runs stays
    Cordon(NodeArgs),
    /// Give a node new instances again
    Uncordon(NodeArgs),
    /// Set labels, or take them away
    Label(LabelArgs),
    /// Forget a node that is gone
    Rm(RemoveNodeArgs),
    /// Make a host a node, over ssh
    Add(Box<AddNodeArgs>),
    /// Print a script that makes a host a node; it takes the mesh secret and a join token by stdin
    Script,
    /// Make a token that lets one host in, once; `knit-agent join` takes it
    Token(JoinTokenArgs),
    /// Let in a host that asks to join
    Approve(NodeArgs),
    /// Keep out a host that asks to join; take out a node that is in, as `rm` does
    Reject(RejectNodeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct JoinTokenArgs {
    /// How long it lets a host in, such as 12h or 7d; 30 days at most
    #[arg(long, value_parser = super::access::ttl, default_value = "1h", value_name = "TIME")]
    pub(crate) ttl: std::time::Duration,

    /// A label that the node gets; may be given more than once
    #[arg(long = "label", value_parser = new_label, value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<(String, String)>,

    /// The only WireGuard key whose host it lets in
    #[arg(long, value_name = "KEY")]
    pub(crate) wg_key: Option<String>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

pub(super) fn new_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Node, by name or by the beginning of its id
    pub(crate) node: String,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowNodeArgs {
    /// Node, by name or by the beginning of its id
    pub(crate) node: String,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DRAIN_EXIT_CODES)]
pub(crate) struct DrainArgs {
    /// Node, by name or by the beginning of its id
    pub(crate) node: String,

    /// Return as soon as the server has accepted it
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Wait at most SECONDS until nothing is left on it
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

const DRAIN_EXIT_CODES: &str = "Exit codes:
  0  nothing is left on it (with --detach: the server has accepted it)
  1  refused, or no server was found
  3  what is left stays, and it was said why; the node gets nothing new
  4  it is not empty within --timeout; the server goes on
130  interrupted: the server goes on";

#[derive(Debug, clap::Args)]
pub(crate) struct LabelArgs {
    /// Node, by name or by the beginning of its id
    pub(crate) node: String,

    /// Labels to set; with a dash behind the name, to take away. They go before the agent's own
    #[arg(required = true, value_name = "KEY=VALUE|KEY-", value_parser = label)]
    pub(crate) labels: Vec<(String, Option<String>)>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn label(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => (key, Some(value.to_owned())),
        (None, Some(key)) => (key, None),
        (None, None) => return Err("write KEY=VALUE to set it, KEY- to take it away".to_owned()),
    };
    if key.is_empty() {
        return Err("a label needs a name".to_owned());
    }
    Ok((key.to_owned(), value))
}

#[derive(Debug, clap::Args)]
pub(crate) struct RejectNodeArgs {
    /// Host, by name or by the beginning of its id
    pub(crate) node: String,

    /// Take a node out even though it is heard or has instances
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveNodeArgs {
    /// Node, by name or by the beginning of its id
    pub(crate) node: String,

    /// Forget it even though it is heard or has instances
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project; what is deployed into one needs it to be there
    Create(ProjectNameArgs),
    /// List the projects that you may see, with how much is in them
    Ls(ShowArgs),
    /// Remove a project; refused while anything is in it
    Rm(ProjectNameArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ProjectNameArgs {
    /// Name of the project: lower-case letters, digits, inner dashes
    pub(crate) name: ProjectName,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum VolumeCommand {
    /// List volumes
    Ls(OfProjectArgs),
    /// Show one volume, or those of all slots
    Inspect(ShowVolumeArgs),
    /// Remove a volume with its data; refused while something uses it
    Rm(RemoveVolumeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowVolumeArgs {
    #[command(flatten)]
    pub(crate) name: VolumeNameArgs,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveVolumeArgs {
    #[command(flatten)]
    pub(crate) name: VolumeNameArgs,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct VolumeNameArgs {
    /// Volume, such as `data`, or `data.0` for one slot's
    #[arg(value_name = "NAME[.SLOT]", value_parser = volume)]
    pub(crate) name: String,

    /// Its project
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,
}

fn volume(text: &str) -> Result<String, String> {
    knit_rpc::spec::VolumeName::parse(&format!("default/{text}"))
        .map(|_| text.to_owned())
        .map_err(|_| format!("\"{text}\" is no volume: NAME or NAME.SLOT"))
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network; nodes get it once something there joins it
    Create(CreateNetworkArgs),
    /// List networks
    Ls(OfProjectArgs),
    /// Show one network
    Inspect(ShowNetworkArgs),
    /// Remove a network; refused while a deployment names it
    Rm(RemoveNetworkArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NetworkNameArgs {
    /// Name of the network
    #[arg(value_parser = network)]
    pub(crate) name: String,

    /// Its project
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,
}

fn network(text: &str) -> Result<String, String> {
    // The same letters as a project's name: a DNS label.
    ProjectName::parse(text).map(|_| text.to_owned()).map_err(|_| {
        format!("\"{text}\" is no name of a network: lower-case letters, digits, inner dashes")
    })
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateNetworkArgs {
    #[command(flatten)]
    pub(crate) name: NetworkNameArgs,

    /// What it is on each node: a bridge of its own, or the node's own network
    #[arg(long, value_name = "bridge|host", default_value = "bridge", value_parser = driver)]
    pub(crate) driver: NetworkDriver,

    /// The same on each node; Docker chooses one when absent
    #[arg(long, value_name = "CIDR", value_parser = subnet)]
    pub(crate) subnet: Option<Ipv4Net>,

    /// Containers on it reach nothing outside
    #[arg(long)]
    pub(crate) internal: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn driver(text: &str) -> Result<NetworkDriver, String> {
    match text {
        "bridge" => Ok(NetworkDriver::Bridge),
        "host" => Ok(NetworkDriver::Host),
        _ => Err("write bridge or host".to_owned()),
    }
}

fn subnet(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net =
        text.parse().map_err(|_| "write ADDRESS/BITS, such as 10.20.0.0/24".to_owned())?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("{net} is an address in a subnet; the subnet is {}", net.trunc()))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowNetworkArgs {
    #[command(flatten)]
    pub(crate) name: NetworkNameArgs,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RemoveNetworkArgs {
    #[command(flatten)]
    pub(crate) name: NetworkNameArgs,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
