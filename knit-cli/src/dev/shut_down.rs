//! The way down, in order: agents, server, containers and Dockers, mesh, then whatever is left.

use std::sync::Arc;

use futures_util::future::join_all;

use super::cleanup::{self, CleanupError};
use super::cluster::Cluster;
use super::plan::{NodePlan, Part};
use super::state::Stage;
use super::{dockerd, host};

/// Stops everything; nothing of the cluster is left but, on an error, what is told.
pub(crate) async fn shut_down(cluster: &Arc<Cluster>) -> Result<(), CleanupError> {
    cluster.set_stage(Stage::Stopping);
    let nodes = &cluster.plan.nodes;
    stop_all(cluster, Part::Agent).await;
    stop_all(cluster, Part::Server).await;
    cluster.progress.step("agents and server stopped");
    join_all(nodes.iter().map(|node| stop_docker(cluster, node))).await;
    cluster.progress.step("containers removed, Docker stopped");
    stop_all(cluster, Part::Mesh).await;
    cleanup::sweep(&cluster.plan.layout).await?;
    cleanup::remove_run_dir(&cluster.plan.layout)?;
    cluster.progress.step("stopped: nothing is left behind");
    Ok(())
}

async fn stop_all(cluster: &Arc<Cluster>, part: Part) {
    join_all(cluster.plan.nodes.iter().map(|node| cluster.stop(node.number, part))).await;
}

async fn stop_docker(cluster: &Arc<Cluster>, node: &NodePlan) {
    if node.netns.is_none() {
        // The host's Docker is not ours, only what we put into it.
        host::remove_ours(&cluster.plan.programs.agent, node).await;
        return;
    }
    // A Docker that does not answer has its containers killed by the sweep.
    let _ = dockerd::remove_containers(&node.docker_socket).await;
    cluster.stop(node.number, Part::Dockerd).await;
    cluster.stop(node.number, Part::Containerd).await;
}
