//! Commands about deployments.

use std::path::PathBuf;

use knit_rpc::id::{DeploymentName, ProjectName};
use knit_rpc::spec::REPLICAS_MAX;
use knit_runtime::terminal::Output;

use super::{ServerArgs, ShowArgs};

/// A deployment by name.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct NameArgs {
    /// Name of the deployment
    pub(crate) name: DeploymentName,

    /// Its project
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,
}

/// Whether and how long we wait.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FollowArgs {
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
pub(crate) struct DeployArgs {
    /// Manifest in YAML, JSON or TOML; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Its project; the manifest must name the same or none [default: the manifest's, else
    /// `default`]
    #[arg(short, long, env = "KNIT_PROJECT")]
    pub(crate) project: Option<ProjectName>,

    /// Show what would happen, slot by slot; nothing does
    #[arg(long, conflicts_with = "detach")]
    pub(crate) plan_only: bool,

    /// How the plan is printed
    #[arg(short, long, value_enum, default_value_t, requires = "plan_only")]
    pub(crate) output: Output,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UndeployArgs {
    #[command(flatten)]
    pub(crate) ending: EndingArgs,

    /// Remove its volumes too, with their data
    #[arg(long)]
    pub(crate) volumes: bool,
}

/// A deployment whose containers are to end, and whether to wait for it.
#[derive(Debug, clap::Args)]
pub(crate) struct EndingArgs {
    #[command(flatten)]
    pub(crate) name: NameArgs,

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
pub(crate) struct ScaleArgs {
    /// Deployments, each with its number of replicas
    #[arg(required = true, value_name = "NAME=N", value_parser = scale)]
    pub(crate) targets: Vec<(DeploymentName, u32)>,

    /// Their project
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

fn scale(text: &str) -> Result<(DeploymentName, u32), String> {
    let (name, replicas) = text.split_once('=').ok_or("write NAME=N, for example web=3")?;
    let name = DeploymentName::parse(name).map_err(|error| error.to_string())?;
    match replicas.parse() {
        Ok(replicas) if replicas <= REPLICAS_MAX => Ok((name, replicas)),
        _ => Err(format!("replicas are a number from 0 to {REPLICAS_MAX}, not \"{replicas}\"")),
    }
}

/// `restart` and `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct LifecycleArgs {
    #[command(flatten)]
    pub(crate) name: NameArgs,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    pub(crate) name: NameArgs,

    /// Back to this revision; by default to the last one that proved itself
    #[arg(long, value_name = "REVISION")]
    pub(crate) to: Option<u64>,

    #[command(flatten)]
    pub(crate) follow: FollowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) name: NameArgs,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show where the newest rollout stands
    Status(HistoryArgs),
    /// Have it wait; what runs goes on running
    Pause(LifecycleArgs),
    /// Go on after a pause
    Resume(LifecycleArgs),
    /// Take the canary for good: the rest follows
    Promote(LifecycleArgs),
    /// Give it up: back to the revision before
    Abort(LifecycleArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Only this deployment
    pub(crate) name: Option<DeploymentName>,

    /// Its project, `default` when none is named; without NAME only this project [default: all that
    /// you may see]
    #[arg(short, long, env = "KNIT_PROJECT")]
    pub(crate) project: Option<ProjectName>,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WhyArgs {
    /// Name of the deployment, or one of its slots
    #[arg(value_name = "NAME[.SLOT]", value_parser = slot)]
    pub(crate) name: (DeploymentName, Option<u32>),

    /// Its project
    #[arg(short, long, env = "KNIT_PROJECT", default_value = "default")]
    pub(crate) project: ProjectName,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}

fn slot(text: &str) -> Result<(DeploymentName, Option<u32>), String> {
    let (name, slot) = match text.split_once('.') {
        Some((name, slot)) => (name, Some(slot)),
        None => (text, None),
    };
    let name = DeploymentName::parse(name).map_err(|error| error.to_string())?;
    let number = slot.map(|slot| slot.parse().map_err(|_| format!("\"{slot}\" is no slot")));
    Ok((name, number.transpose()?))
}

#[derive(Debug, clap::Args)]
pub(crate) struct WhyNotArgs {
    #[command(flatten)]
    pub(crate) name: NameArgs,

    /// Node, by name or by the beginning of its id
    pub(crate) node: String,

    #[command(flatten)]
    pub(crate) show: ShowArgs,
}
