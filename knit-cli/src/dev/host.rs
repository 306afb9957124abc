//! What is special when the one node is the host itself: its Docker and firewall are not ours.

use std::path::Path;

use tokio::process::Command;

use super::layout::{HOST_INTERFACE, Layout};
use super::state::State;
use super::{NodePlan, programs};

/// Agents write this table; two on one host would fight over it.
const NFT_TABLE: [&str; 2] = ["ip", "knit"];

/// Whether an agent's firewall table stands on this host already.
pub(crate) async fn has_agent() -> bool {
    let output = Command::new("nft").args(["list", "table"]).args(NFT_TABLE).output().await;
    output.is_ok_and(|output| output.status.success())
}

/// Removes what the agent put into the host: containers, network, firewall table, files.
pub(crate) async fn remove_ours(agent: &Path, node: &NodePlan) {
    let output = Command::new(agent)
        .arg("cleanup")
        .arg("--state-dir")
        .arg(node.data.join("agent"))
        .arg("--docker-socket")
        .arg(node.docker_host())
        .env("PATH", programs::path())
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            tracing::warn!(said = said.trim(), "the agent could not clean up");
        }
        Err(error) => tracing::warn!(%error, "the agent could not be asked to clean up"),
    }
}

/// Removes what a killed run on the host itself left outside of its directories.
pub(crate) async fn clean_leftovers(layout: &Layout) {
    let Some(state) = State::read(&layout.state_file()) else { return };
    let Some(node) = state.nodes.iter().find(|node| node.netns.is_none()) else { return };
    let socket = node.docker.strip_prefix("unix://").unwrap_or(&node.docker);
    if let Ok(programs) = programs::ours() {
        remove_ours(&programs.agent, &NodePlan::on_host(layout, Path::new(socket))).await;
    }
    let _ = Command::new("ip").args(["link", "delete", HOST_INTERFACE]).output().await;
}
