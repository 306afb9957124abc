//! The way up: namespaces, then all programs of all nodes at once, then what they have to reach.
//!
//! ```text
//! namespaces ─┬─ node 1: containerd ─ dockerd ─ answers ┐
//!             │          mesh ─ address ┬ server ─ answers ├─ every node ready
//!             │                         └ agent            │
//!             └─ node 2: …                                 ┘
//! ```

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use knit_link::http::{ApiClient, HttpError};
use knit_link::mesh::MeshClient;
use knit_rpc::api::{API_PORT, NodeState, NodeView};
use knit_rpc::join::NewJoinToken;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, PartError};
use super::namespace::{self, NamespaceError};
use super::plan::{NodePlan, Part};
use super::state::Stage;
use super::{dockerd, plain_http};

const POLL: Duration = Duration::from_millis(50);
/// How long a step may take on a slow and busy machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(90);
/// A node that is not ready yet is no news before this.
const EXPLAIN_AFTER: Duration = Duration::from_secs(5);

/// Why a dev cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BringUpError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Part(#[from] PartError),
    #[error("cannot write {}", path.display())]
    Write { path: std::path::PathBuf, source: std::io::Error },
    #[error("the {part} of node {node} died ({how}) before the cluster was up")]
    Died { node: u8, part: Part, how: String },
    #[error("no join token could be had")]
    JoinToken(#[from] HttpError),
    #[error("{what} took more than {} s; seen last: {seen}", STEP_TIMEOUT.as_secs())]
    Slow { what: String, seen: String },
}

/// Brings everything up and returns when every node is ready.
pub(crate) async fn bring_up(cluster: &Arc<Cluster>) -> Result<(), BringUpError> {
    let nodes = &cluster.plan.nodes;
    if nodes.iter().any(|node| node.netns.is_some()) {
        namespace::create(&cluster.plan.layout, nodes).await?;
        cluster.progress.step(&format!(
            "{} network namespaces on one bridge, {} to {}",
            nodes.len(),
            nodes
                .first()
                .and_then(|node| node.underlay)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            nodes
                .last()
                .and_then(|node| node.underlay)
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
        ));
    }
    let nodes_up = try_join_all(nodes.iter().map(|node| node_up(cluster, node)));
    let agents_up = async {
        let server = server_up(cluster).await?;
        try_join_all(nodes.iter().map(|node| agent_up(cluster, node, &server))).await?;
        Ok(server)
    };
    let (_, server) = try_join(nodes_up, agents_up).await?;
    nodes_ready(cluster, &server).await?;
    cluster.set_stage(Stage::Ready);
    Ok(())
}

async fn node_up(cluster: &Arc<Cluster>, node: &NodePlan) -> Result<(), BringUpError> {
    for dir in [&node.run, &node.data] {
        let made = std::fs::create_dir_all(dir);
        made.map_err(|source| BringUpError::Write { path: dir.clone(), source })?;
    }
    for (path, text) in node.config_files() {
        let written = std::fs::write(&path, text);
        written.map_err(|source| BringUpError::Write { path, source })?;
    }
    try_join(docker_up(cluster, node), mesh_up(cluster, node)).await?;
    Ok(())
}

async fn docker_up(cluster: &Arc<Cluster>, node: &NodePlan) -> Result<(), BringUpError> {
    if node.parts().contains(&Part::Containerd) {
        cluster.start(node.number, Part::Containerd).await?;
        let socket = node.containerd_socket();
        let answers = async || tokio::net::UnixStream::connect(&socket).await.ok();
        wait(cluster, node.number, Part::Containerd, "the start of containerd", answers).await?;
        cluster.start(node.number, Part::Dockerd).await?;
    }
    let answers = async || dockerd::version(&node.docker_socket).await;
    let what = format!("the start of {}'s Docker", node.name);
    let version = wait(cluster, node.number, Part::Dockerd, &what, answers).await?;
    cluster.progress.step(&format!("{}: Docker {version} answers", node.name));
    Ok(())
}

async fn mesh_up(cluster: &Arc<Cluster>, node: &NodePlan) -> Result<(), BringUpError> {
    cluster.start(node.number, Part::Mesh).await?;
    let client = MeshClient::new(node.mesh_socket());
    let has_address = async || {
        if !node.mesh_socket().exists() {
            return None;
        }
        let status = client.status().await.ok()?;
        status.mesh_ip.parse::<Ipv4Addr>().is_ok().then_some(status)
    };
    let what = format!("{}'s way into the mesh", node.name);
    let status = wait(cluster, node.number, Part::Mesh, &what, has_address).await?;
    cluster.set_mesh_ip(node.number, &status.mesh_ip);
    let engine = status.engine.as_deref().unwrap_or("unknown");
    cluster.progress.step(&format!(
        "{}: mesh address {} on {} ({engine} WireGuard)",
        node.name, status.mesh_ip, status.interface
    ));
    if node.runs_server() {
        cluster.start(node.number, Part::Server).await?;
    }
    Ok(())
}

/// Starts an agent; one that is no node yet is given a join token.
async fn agent_up(
    cluster: &Arc<Cluster>,
    node: &NodePlan,
    server: &Path,
) -> Result<(), BringUpError> {
    let state = node.data.join("agent");
    if !state.join("registration.json").exists() {
        let client = ApiClient::on_socket(server)?;
        let minted = client.create_join_token(&NewJoinToken::default()).await?;
        let path = state.join("join.token");
        let token = format!("{}\n", minted.token);
        let written = std::fs::create_dir_all(&state)
            .and_then(|()| knit_runtime::file::write_atomic(&path, token.as_bytes(), 0o600));
        written.map_err(|source| BringUpError::Write { path, source })?;
    }
    cluster.start(node.number, Part::Agent).await?;
    Ok(())
}

/// Waits until the server answers on its mesh address, as the nodes reach it.
async fn server_up(cluster: &Arc<Cluster>) -> Result<PathBuf, BringUpError> {
    let Some(node) = cluster.plan.nodes.iter().find(|node| node.runs_server()) else {
        return Err(PartError::NoNode(1).into());
    };
    let answers = async || {
        let address = mesh_address(cluster, node.number)?;
        let stream = namespace::connect(node.netns_path().as_deref(), address).await.ok()?;
        let answer = plain_http::ask(stream, "GET", "/ping").await.ok()?;
        answer.is_success().then_some(address)
    };
    let address =
        wait(cluster, node.number, Part::Server, "the start of the server", answers).await?;
    cluster.set_server(&format!("unix:{}", node.api_socket().display()));
    cluster.progress.step(&format!("{}: the server answers at http://{address}", node.name));
    Ok(node.api_socket())
}

fn mesh_address(cluster: &Cluster, node: u8) -> Option<SocketAddr> {
    let ip: Ipv4Addr = cluster.state().node(node)?.mesh_ip.as_deref()?.parse().ok()?;
    Some(SocketAddr::from((ip, API_PORT)))
}

/// Waits until the server counts every node as ready; tells of each as it comes.
async fn nodes_ready(cluster: &Arc<Cluster>, server: &Path) -> Result<(), BringUpError> {
    let start = Instant::now();
    let mut told = Vec::new();
    let mut explained = BTreeSet::new();
    loop {
        let views = node_views(server).await.unwrap_or_default();
        let ready = |name: &str| {
            views.iter().any(|view| view.name == name && view.state == NodeState::Ready)
        };
        for node in &cluster.plan.nodes {
            if ready(&node.name) && !told.contains(&node.number) {
                told.push(node.number);
                cluster.progress.step(&format!("{}: ready", node.name));
            }
            if let Some(how) = cluster.death(node.number, Part::Agent) {
                return Err(BringUpError::Died { node: node.number, part: Part::Agent, how });
            }
        }
        // What stands in a node's way, once: somebody who reads it may help.
        for view in views.iter().filter(|view| view.state == NodeState::NotReady) {
            if start.elapsed() > EXPLAIN_AFTER && explained.insert(describe(view)) {
                cluster.progress.step(&describe(view));
            }
        }
        if told.len() == cluster.plan.nodes.len() {
            return Ok(());
        }
        if start.elapsed() > STEP_TIMEOUT {
            let seen = views.iter().map(describe).collect::<Vec<_>>().join(", ");
            return Err(BringUpError::Slow { what: "the nodes' way to ready".to_owned(), seen });
        }
        sleep(POLL).await;
    }
}

fn describe(view: &NodeView) -> String {
    let why = view.message.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{} is {}{why}", view.name, view.state.as_str())
}

async fn node_views(server: &Path) -> Option<Vec<NodeView>> {
    let answer = plain_http::unix(server, "GET", "/v1/nodes").await.ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// Polls until `look` sees something; gives up when the program dies or time runs out.
async fn wait<T>(
    cluster: &Cluster,
    node: u8,
    part: Part,
    what: &str,
    look: impl AsyncFn() -> Option<T>,
) -> Result<T, BringUpError> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    loop {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if let Some(how) = cluster.death(node, part) {
            return Err(BringUpError::Died { node, part, how });
        }
        if Instant::now() > deadline {
            return Err(BringUpError::Slow { what: what.to_owned(), seen: "nothing".to_owned() });
        }
        sleep(POLL).await;
    }
}
