//! What a dev cluster looks like: `knit dev status`, and the block at the end of the start.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, Colour, Output, colour_stderr, eprintln};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::layout::Layout;
use super::state::{NodeState, PartState, ProcessId, Stage, State};

const POLL: Duration = Duration::from_millis(50);
/// Stopping takes seconds; a program that does not end is killed long before.
const GONE_TIMEOUT: Duration = Duration::from_mins(2);

/// Prints the state of the cluster, perhaps after waiting for it.
pub(super) async fn run(
    layout: &Layout,
    output: Output,
    wait: Option<Duration>,
) -> anyhow::Result<ExitCode> {
    let state = match wait {
        Some(timeout) => wait_ready(layout, timeout).await?,
        None => alive(layout),
    };
    let Some(state) = state else {
        bail!("no dev cluster runs here: start one with `knit dev --nodes 2`");
    };
    match output {
        Output::Json => terminal::print_json(&state)?,
        Output::Yaml => terminal::print_yaml(&state)?,
        Output::Name => terminal::print_names(state.nodes.iter().map(|node| &node.name))?,
        Output::Table | Output::Wide => {
            terminal::print(&table(&state, output == Output::Wide).to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait_ready(layout: &Layout, timeout: Duration) -> anyhow::Result<Option<State>> {
    let deadline = Instant::now() + timeout;
    loop {
        match alive(layout) {
            Some(state) if state.stage == Stage::Ready => return Ok(Some(state)),
            Some(_) | None if Instant::now() < deadline => sleep(POLL).await,
            Some(_) => bail!("the dev cluster is not ready after {} s", timeout.as_secs()),
            None => return Ok(None),
        }
    }
}

/// Waits until `knit dev` has stopped and removed its directory.
pub(super) async fn wait_gone(layout: &Layout) -> anyhow::Result<()> {
    let deadline = Instant::now() + GONE_TIMEOUT;
    while layout.run.exists() {
        if alive(layout).is_none() && layout.state_file().exists() {
            bail!("`knit dev` died while it stopped: run `knit dev stop` again");
        }
        if Instant::now() > deadline {
            bail!("the dev cluster did not stop within {} s", GONE_TIMEOUT.as_secs());
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// The recorded state, if the `knit dev` that wrote it lives.
fn alive(layout: &Layout) -> Option<State> {
    State::read(&layout.state_file()).filter(|state| state.dev.is_some_and(ProcessId::is_alive))
}

fn table(state: &State, wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("node")
        .column("mesh ip")
        .column("program")
        .column("pid")
        .column("state")
        .wide_column("docker")
        .wide_column("mesh socket")
        .column("log");
    for node in &state.nodes {
        for part in &node.parts {
            table.row(row(node, part));
        }
    }
    table
}

fn row(node: &NodeState, part: &PartState) -> Vec<Cell> {
    let state = match (&part.exit, part.running) {
        (_, true) => Cell::coloured(Colour::Green, "running"),
        (Some(exit), false) => Cell::coloured(Colour::Red, format!("dead ({exit})")),
        (None, false) => "not started".into(),
    };
    vec![
        node.name.as_str().into(),
        node.mesh_ip.as_deref().unwrap_or_default().into(),
        part.part.to_string().into(),
        part.process.map(|process| process.pid.to_string()).unwrap_or_default().into(),
        state,
        node.docker.as_str().into(),
        node.mesh_socket.display().to_string().into(),
        shown(&part.log).into(),
    ]
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The block that says that all is up, and how to go on.
pub(super) fn announce(cluster: &Cluster) {
    let state = cluster.state();
    let layout = &cluster.plan.layout;
    let options = options(layout);
    let seconds = cluster.progress.elapsed().as_secs_f64();
    eprintln("");
    eprintln(&colour_stderr(Colour::Green, &format!("READY after {seconds:.1} s")));
    for node in &state.nodes {
        let mesh_ip = node.mesh_ip.as_deref().unwrap_or("-");
        eprintln(&format!("  {:<9}{mesh_ip:<16}{}", node.name, node.docker));
    }
    eprintln("");
    eprintln(&format!("  use a node   knit dev{options} exec 1 -- knit status"));
    eprintln(&format!("  look         knit dev{options} status"));
    eprintln(&format!("  logs         {}", layout.logs.display()));
    eprintln(&format!("  stop         Ctrl-C, or: knit dev{options} stop"));
}

/// The options that name this instance again.
fn options(layout: &Layout) -> String {
    let instance =
        layout.prefix.strip_prefix("knit-dev-").map(|name| format!(" --instance {name}"));
    let elsewhere = layout.run.file_name().is_some_and(|name| name == "run");
    let dir =
        layout.run.parent().filter(|_| elsewhere).map(|dir| format!(" --dir {}", dir.display()));
    format!("{}{}", instance.unwrap_or_default(), dir.unwrap_or_default())
}
