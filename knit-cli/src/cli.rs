//! The command line as it is typed.

mod access;
mod cluster;
mod deployments;
mod joining;
mod registries;
mod secrets;

use std::path::PathBuf;

use knit_runtime::log::LogArgs;
use knit_runtime::manual::ManualCommand;
use knit_runtime::terminal::Output;

use crate::dev::DevArgs;

pub(crate) use access::{AuditArgs, CreateTokenArgs, LoginArgs, TokenCommand};
pub(crate) use cluster::{
    CreateNetworkArgs, DrainArgs, JoinTokenArgs, LabelArgs, ListArgs, NetworkCommand, NodeArgs,
    NodeCommand, OfProjectArgs, ProjectCommand, RejectNodeArgs, RemoveNodeArgs, ShowNodeArgs,
    VolumeCommand, What,
};
pub(crate) use deployments::{
    DeployArgs, EndingArgs, FollowArgs, HistoryArgs, LifecycleArgs, RollbackArgs, RolloutCommand,
    ScaleArgs, StatusArgs, UndeployArgs, WhyArgs, WhyNotArgs,
};
pub(crate) use joining::AddNodeArgs;
pub(crate) use registries::{AddRegistryArgs, RegistryArgs, RegistryCommand};
pub(crate) use secrets::{
    OneSecretArgs, RotateSecretArgs, SecretArgs, SecretCommand, SecretHistoryArgs, SetSecretArgs,
};

/// Run containers on a fleet of Docker hosts in one WireGuard mesh
#[derive(Debug, clap::Parser)]
#[command(name = "knit", version = knit_runtime::version::version(), propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Deploy a manifest and follow it until it runs or has failed
    #[command(after_help = EXIT_CODES)]
    Deploy(DeployArgs),
    /// Remove a deployment and its containers; its volumes stay
    Undeploy(UndeployArgs),
    /// Change the number of replicas
    #[command(after_help = EXIT_CODES)]
    Scale(ScaleArgs),
    /// Replace every container by a new one, in a rollout
    #[command(after_help = EXIT_CODES)]
    Restart(LifecycleArgs),
    /// Stop every container; volumes and places are kept
    Stop(EndingArgs),
    /// Start again what was stopped
    #[command(after_help = EXIT_CODES)]
    Start(LifecycleArgs),
    /// Go back to an earlier revision
    #[command(after_help = EXIT_CODES)]
    Rollback(RollbackArgs),
    /// List a deployment's revisions, and what became of each
    History(HistoryArgs),
    /// Look at a rollout, or steer it
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Show deployments and their instances
    Status(StatusArgs),
    /// Say why instances run where they do, or what they wait for
    Why(WhyArgs),
    /// Say all that keeps a node from running a deployment
    WhyNot(WhyNotArgs),
    /// List nodes, deployments or instances
    List(ListArgs),
    /// Show nodes, label them, take them out of use
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make, list and remove projects: namespaces of names
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Show volumes, or remove them with their data
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Make and show networks that deployments join by name
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Registries that take a user name and a password
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Set, rotate and list secrets: what deployments get without anybody seeing it
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Choose a server, and keep a token for it
    Login(Box<LoginArgs>),
    /// Forget the server and the token
    Logout,
    /// Say which server is asked, and as whom
    Whoami(ShowArgs),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show who did what, or check that nothing of it was changed
    Audit(AuditArgs),
    /// Run a whole cluster on this machine
    Dev(Box<DevArgs>),
    #[command(flatten)]
    Manual(ManualCommand),
}

const EXIT_CODES: &str = "Exit codes:
  0  every replica of the new revision runs (with --detach: the server has accepted it)
  1  refused: the manifest is wrong (nothing was sent or stored), or no server was found
  2  the command line is wrong
  3  it cannot run: an instance failed and there is nothing to go back to, or it has no node
  4  it did not get there within --timeout; the server goes on
  5  another revision took its place, or it was removed, while we waited
  6  it failed, and was rolled back to the revision before
  7  the rollout waits for you: a canary to be promoted, or a failure with `on_failure: pause`
130  interrupted: the server goes on";

/// Which server is asked.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the server: http://HOST:PORT, unix:PATH, or `ssh://[USER@]HOST[:PORT][/SOCKET]` for the
    /// socket of another host [default: that of `knit login`, else one on this host, else the one
    /// that the local mesh daemon knows]
    #[arg(long, env = "KNIT_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,

    /// File that holds a token for the server [default: that of `knit login`; the token itself:
    /// `KNIT_TOKEN`]
    #[arg(long, env = "KNIT_TOKEN_FILE", value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,

    /// Socket of the mesh daemon through which a server is looked for
    #[arg(long, env = "WGMESH_SOCKET", value_name = "PATH")]
    pub(crate) mesh_socket: Option<PathBuf>,
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
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_typed_wrong_is_refused_before_anything_is_asked() {
        for line in [
            "knit scale web",
            "knit scale web=-1",
            "knit scale =3",
            "knit scale web=1000000",
            "knit why web.x",
            "knit why Web",
            "knit node label n",
            "knit node label n =x",
            "knit network create a --subnet 10.0.0.1/8",
            "knit rollback web --to x",
            "knit secret set Db",
            "knit secret set db value",
            "knit secret rotate db --generate 8",
            "knit secret rotate db --generate 32 --file x",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        for line in [
            "knit scale web=3 api=0",
            "knit why web.12",
            "knit node label n zone=a gpu- empty=",
            "knit network create a --subnet 10.0.0.0/8 --internal",
            "knit rollout promote web --detach",
            "knit volume rm data.0",
            "knit secret rotate db --generate",
            "knit secret set db --file x --project shop",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
