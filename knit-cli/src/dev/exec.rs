//! `knit dev exec`: becomes a command inside a node.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, bail};

use super::state::State;
use super::{DevArgs, ExecArgs, namespace, programs};

/// Replaces this process by the command; returns only when that fails.
///
/// Must run on the main thread before there are others: a namespace is entered by a thread.
pub(crate) fn run(args: &DevArgs, exec: &ExecArgs) -> anyhow::Result<std::convert::Infallible> {
    let layout = args.layout()?;
    let state = State::read(&layout.state_file())
        .context("no dev cluster runs here: start one with `knit dev --nodes 2`")?;
    let Some(node) = state.node(exec.node) else {
        bail!("there is no node {}: this dev cluster has {}", exec.node, state.nodes.len());
    };
    if let Some(netns) = &node.netns {
        namespace::enter(netns)
            .with_context(|| format!("cannot enter {} (root is needed)", netns.display()))?;
    }
    let Some((program, arguments)) = exec.command.split_first() else { bail!("no command") };
    let mut command = Command::new(program);
    command.args(arguments);
    command.env("PATH", programs::path());
    command.env("WGMESH_SOCKET", &node.mesh_socket).env("DOCKER_HOST", &node.docker);
    if let Some(server) = &state.server {
        command.env("KNIT_SERVER", server);
    }
    Err(command.exec()).with_context(|| format!("cannot run {program}"))
}
