//! `knit dev`: a whole cluster on this machine, for developers and for tests.
//!
//! ```text
//! layout, plan (pure) ─> cleanup (earlier run) ─> bring_up ─> cluster (children, control socket)
//!                                                                └─ Ctrl-C, SIGTERM, stop ─> shut_down
//! ```
//!
//! Invariant: the host's own interfaces, addresses, routes, Docker and NATS are not touched when
//! nodes have namespaces; and what a dev cluster made, its end or its next start removes.

mod bring_up;
mod cleanup;
mod cluster;
mod control;
mod dockerd;
mod exec;
mod host;
mod layout;
mod namespace;
mod plain_http;
mod plan;
mod programs;
mod progress;
mod shut_down;
mod state;
mod status;

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use knit_runtime::signal;
use knit_runtime::terminal::{Output, eprintln};
use nix::fcntl::{Flock, FlockArg};
use tokio_util::sync::CancellationToken;

use cluster::Cluster;
use control::Request;
pub(crate) use exec::run as exec;
use layout::{Instance, Layout, NODES_MAX};
use plan::{NodePlan, Part, Plan};
pub(crate) use progress::Progress;

/// Arguments of `knit dev`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct DevArgs {
    /// Make N hosts, each a network namespace with its own Docker; without it this host is the one node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u8>,

    /// Name of this dev cluster, so that several can run at once
    #[arg(long, global = true, value_name = "NAME")]
    instance: Option<String>,

    /// Directory for everything; default /run/knit-dev and /var/lib/knit-dev
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Label of every node, which manifests can select by; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", default_value = "role=web")]
    labels: Vec<String>,

    /// A configuration of every node's agent, for example with a table `policy`
    #[arg(long, value_name = "FILE")]
    agent_config: Option<PathBuf>,

    /// Docker of this host, when it is the one node
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,

    /// Keep the programs' logs in this directory
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<DevCommand>,
}

#[derive(Debug, Subcommand)]
enum DevCommand {
    /// Run a command inside a node, with server, mesh socket, Docker and PATH set for it
    Exec(ExecArgs),
    /// Show the nodes, their sockets, addresses, processes and logs
    Status(StatusArgs),
    /// Stop the cluster and leave nothing behind
    Stop,
    /// Start a program that is dead
    Start(PartArgs),
    /// Stop a program politely and start it again
    Restart(PartArgs),
    /// Send a program a signal; nobody starts it again unasked
    Kill(KillArgs),
}

/// Arguments of `knit dev exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Number of the node
    node: u8,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Wait up to SECONDS until every node is ready
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

#[derive(Debug, Args)]
struct PartArgs {
    /// Number of the node
    node: u8,
    /// The program
    part: Part,
}

#[derive(Debug, Args)]
struct KillArgs {
    #[command(flatten)]
    part: PartArgs,
    /// The signal's number
    #[arg(long, default_value_t = 9)]
    signal: i32,
}

impl DevArgs {
    /// The arguments of `exec`, which must run before there are threads.
    pub(crate) fn as_exec(&self) -> Option<&ExecArgs> {
        match &self.command {
            Some(DevCommand::Exec(exec)) => Some(exec),
            _ => None,
        }
    }

    fn layout(&self) -> anyhow::Result<Layout> {
        let instance = Instance::parse(self.instance.as_deref())?;
        let mut layout = Layout::new(&instance, self.dir.as_deref())?;
        if let Some(dir) = &self.log_dir {
            layout.logs.clone_from(dir);
        }
        Ok(layout)
    }
}

/// Runs `knit dev` and its subcommands, `exec` aside.
pub(crate) async fn run(args: DevArgs, log_level: Option<String>) -> anyhow::Result<ExitCode> {
    let layout = args.layout()?;
    let request = match &args.command {
        None => return up(args, layout, log_level).await,
        Some(DevCommand::Exec(_)) => bail!("exec cannot be run from here"),
        Some(DevCommand::Status(status)) => {
            let wait = status.wait.map(Duration::from_secs);
            return status::run(&layout, status.output, wait).await;
        }
        Some(DevCommand::Stop) => return stop(&layout).await,
        Some(DevCommand::Start(part)) => Request::Start { node: part.node, part: part.part },
        Some(DevCommand::Restart(part)) => Request::Restart { node: part.node, part: part.part },
        Some(DevCommand::Kill(kill)) => {
            Request::Kill { node: kill.part.node, part: kill.part.part, signal: kill.signal }
        }
    };
    control::ask(&layout.control_socket(), &request).await?;
    Ok(ExitCode::SUCCESS)
}

async fn up(args: DevArgs, layout: Layout, log_level: Option<String>) -> anyhow::Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("knit dev makes network interfaces and must run as root: try `sudo knit dev`");
    }
    let stop = signal::shutdown();
    let progress = Progress::new();
    programs::check_system(args.nodes.is_some())?;
    let _lock = prepare(&layout, &progress).await?;
    let plan = match plan(&args, layout.clone(), log_level).await {
        Ok(plan) => plan,
        Err(error) => {
            cleanup::sweep(&layout).await?;
            cleanup::remove_run_dir(&layout)?;
            return Err(error);
        }
    };
    write_secret(&plan.layout)?;
    let cluster = Cluster::new(plan, progress);
    cluster.save();
    let control = control::listen(&cluster.plan.layout.control_socket())?;
    let serving = tokio::spawn(control::serve(control, cluster.clone(), stop.clone()));
    let outcome = live(&cluster, &stop).await;
    serving.abort();
    shut_down::shut_down(&cluster).await?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// From the first program to the word to stop.
async fn live(cluster: &Arc<Cluster>, stop: &CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        up = bring_up::bring_up(cluster) => {
            if let Err(error) = up {
                cluster.progress.step(&format!("not up: {error}; stopping"));
                return Err(error.into());
            }
        }
        () = stop.cancelled() => return Ok(()),
    }
    status::announce(cluster);
    stop.cancelled().await;
    Ok(())
}

/// Makes the directories, takes the lock, removes what an earlier run left.
async fn prepare(layout: &Layout, progress: &Progress) -> anyhow::Result<Flock<std::fs::File>> {
    cleanup::check_ownership(layout)?;
    make_private(&layout.run)?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(layout.lock_file())?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow::anyhow!("this dev cluster runs already: stop it with `knit dev stop`, or give this one a name with --instance")
    })?;
    if cleanup::has_leftovers(layout) {
        host::clean_leftovers(layout).await;
        cleanup::sweep(layout).await?;
        progress.step("removed what an earlier run had left");
    }
    make_private(&layout.data)?;
    std::fs::write(
        layout.data.join(layout::MARKER),
        "made by `knit dev`, which removes all of this directory\n",
    )?;
    std::fs::create_dir_all(&layout.logs)?;
    Ok(lock)
}

fn make_private(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

async fn plan(args: &DevArgs, layout: Layout, log_level: Option<String>) -> anyhow::Result<Plan> {
    let nodes = match args.nodes {
        Some(count) => (1..=count).map(|number| NodePlan::in_netns(&layout, number)).collect(),
        None => vec![host_node(&layout, &args.docker_socket).await?],
    };
    let programs = programs::ours()?;
    let labels = args.labels.clone();
    let agent_config = args.agent_config.clone();
    let host_mesh_port = free_udp_port()?;
    Ok(Plan { layout, nodes, programs, labels, agent_config, host_mesh_port, log_level })
}

async fn host_node(layout: &Layout, docker_socket: &Path) -> anyhow::Result<NodePlan> {
    if dockerd::version(docker_socket).await.is_none() {
        bail!(
            "Docker does not answer at {}: start it (systemctl start docker), or use `knit dev --nodes 1`, which brings its own",
            docker_socket.display()
        );
    }
    if host::has_agent().await {
        bail!(
            "an agent's firewall table stands on this host already: a second agent would fight over it; use `knit dev --nodes 1`"
        );
    }
    Ok(NodePlan::on_host(layout, docker_socket))
}

fn free_udp_port() -> anyhow::Result<u16> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot find a free UDP port")?;
    Ok(socket.local_addr()?.port())
}

/// A secret of its own for each run: no other mesh can be met by accident.
fn write_secret(layout: &Layout) -> anyhow::Result<()> {
    let mut bytes = [0_u8; 64];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let text = format!("wgmesh://v1/{}\n", hex::encode(bytes));
    knit_runtime::file::write_atomic(&layout.secret_file(), text.as_bytes(), 0o600)?;
    Ok(())
}

async fn stop(layout: &Layout) -> anyhow::Result<ExitCode> {
    match control::ask(&layout.control_socket(), &Request::Stop).await {
        Ok(()) => status::wait_gone(layout).await?,
        Err(control::ControlError::NotRunning(_)) if cleanup::has_leftovers(layout) => {
            let progress = Progress::new();
            drop(prepare(layout, &progress).await?);
            cleanup::sweep(layout).await?;
            cleanup::remove_run_dir(layout)?;
        }
        Err(control::ControlError::NotRunning(_)) => eprintln("no dev cluster runs here"),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
