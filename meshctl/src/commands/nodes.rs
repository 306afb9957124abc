//! `meshctl nodes`: one row for each host, from what the mesh and the server know of it.
//!
//! ```text
//!   mesh socket ── self + peers ──┐
//!                                 ├─ join by public key ──> rows
//!   server ────── GET /v1/nodes ──┘
//! ```
//!
//! Either half is enough; stderr says which one is missing.

mod render;
mod rows;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use knit_link::http::{self, ApiClient};
use knit_link::mesh::MeshError;
use knit_rpc::api::{API_PORT, NodeView};
use knit_rpc::jsonrpc::{MeshStatus, PeerInfo};
use knit_runtime::terminal;

use crate::cli::NodesArgs;

const SERVER_MAX: Duration = Duration::from_secs(5);

/// What the mesh socket tells.
pub(super) struct MeshHalf {
    pub(super) local: MeshStatus,
    pub(super) peers: Vec<PeerInfo>,
}

pub(super) async fn run(args: &NodesArgs) -> Result<()> {
    let mesh = mesh_half(args).await;
    let server = server_half(args, mesh.as_ref().ok()).await;
    let rows = match (&mesh, &server) {
        (Err(mesh), Err(server)) => {
            terminal::eprintln(&format!("no server: {server:#}"));
            anyhow::bail!("neither the mesh daemon nor a server answers: {mesh}");
        }
        (Ok(mesh), Ok(nodes)) => rows::merge(Some(mesh), nodes),
        (Ok(mesh), Err(error)) => {
            terminal::eprintln(&format!(
                "what the server knows (instances, labels, readiness) is missing: {error:#}"
            ));
            rows::merge(Some(mesh), &[])
        }
        (Err(error), Ok(nodes)) => {
            terminal::eprintln(&format!("what the mesh knows (latency) is missing: {error}"));
            rows::merge(None, nodes)
        }
    };
    render::print(&rows, args.show.output)
}

async fn mesh_half(args: &NodesArgs) -> Result<MeshHalf, MeshError> {
    let client = super::client(&args.show.socket);
    Ok(MeshHalf { local: client.status().await?, peers: client.peers().await? })
}

async fn server_half(args: &NodesArgs, mesh: Option<&MeshHalf>) -> Result<Vec<NodeView>> {
    let url = match &args.server {
        Some(url) => url.clone(),
        None => discovered(mesh).await?,
    };
    let client = ApiClient::new(&url)?;
    let nodes = tokio::time::timeout(SERVER_MAX, client.nodes()).await;
    Ok(nodes.with_context(|| format!("the server at {url} did not answer in time"))??)
}

/// Asks this host and every peer at once whether a server runs there.
async fn discovered(mesh: Option<&MeshHalf>) -> Result<String> {
    let of_mesh = mesh.into_iter().flat_map(|mesh| {
        let peers = mesh.peers.iter().map(|peer| peer.mesh_ip.as_str());
        std::iter::once(mesh.local.mesh_ip.as_str()).chain(peers)
    });
    let mut candidates = vec![Ipv4Addr::LOCALHOST];
    candidates.extend(of_mesh.filter_map(|ip| ip.parse::<Ipv4Addr>().ok()));
    let found = http::discover(&candidates, API_PORT).await;
    let first = found.into_iter().next().map(|(url, _)| url);
    first.context(
        "no Knit server answers here or in the mesh; name one with --server or KNIT_SERVER",
    )
}
