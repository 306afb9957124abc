//! The command line as it is typed.

use std::path::PathBuf;

use knit_runtime::log::LogArgs;
use knit_runtime::terminal::Output;

use crate::dev::DevArgs;

/// Run containers on a fleet of Docker hosts in one WireGuard mesh
#[derive(Debug, clap::Parser)]
#[command(name = "knit", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Deploy a manifest and wait until it runs
    #[command(after_help = EXIT_CODES)]
    Deploy(DeployArgs),
    /// Remove a deployment and its containers
    Undeploy(UndeployArgs),
    /// Show deployments and their instances
    Status(StatusArgs),
    /// List nodes, deployments or instances
    List(ListArgs),
    /// Run a whole cluster on this machine
    Dev(Box<DevArgs>),
}

const EXIT_CODES: &str = "Exit codes:
  0  every replica of the new revision runs (with --detach: the server has accepted it)
  1  refused: the manifest is wrong (nothing was sent or stored), or no server was found
  2  the command line is wrong
  3  it cannot run: an instance failed for good, or has no node to run on
  4  it did not run within --timeout; the server goes on
  5  another revision took its place, or it was removed, while we waited
130  interrupted: the server goes on";

/// Which server is asked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the server; by default the one that the local mesh daemon knows
    #[arg(long, env = "KNIT_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Socket of the mesh daemon through which a server is looked for
    #[arg(long, env = "WGMESH_SOCKET", value_name = "PATH")]
    pub(crate) mesh_socket: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeployArgs {
    /// Manifest in YAML, JSON or TOML; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Return as soon as the server has accepted it
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Wait at most SECONDS
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UndeployArgs {
    /// Name of the deployment
    pub(crate) name: String,

    /// Its project
    #[arg(short, long, default_value = "default")]
    pub(crate) project: String,

    /// Return as soon as the server has accepted it
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Wait at most SECONDS until its containers are gone
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Only this deployment
    pub(crate) name: Option<String>,

    /// Its project
    #[arg(short, long, default_value = "default")]
    pub(crate) project: String,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// What to list
    #[arg(value_enum)]
    pub(crate) what: What,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum What {
    Nodes,
    Deployments,
    Instances,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
