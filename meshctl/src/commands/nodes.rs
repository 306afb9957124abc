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
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use knit_link::http::{self, ApiClient, Keys, Known};
use knit_link::mesh::MeshError;
use knit_rpc::api::{API_PORT, API_SOCKET, NodeView};
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
    let asked = async {
        let keys = Keys::load(args.token_file.as_deref())?;
        let client = match (&args.server, keys.login()) {
            (Some(url), _) => keys.open(url, Known::Named).await?,
            (None, Some(login)) => {
                keys.open_login(login, async || mesh_addresses(mesh).collect()).await?
            }
            (None, None) => {
                let (url, known) = discovered(mesh).await?;
                keys.open(&url, known).await?
            }
        };
        anyhow::Ok(client.nodes().await?)
    };
    tokio::time::timeout(SERVER_MAX, asked).await.context("the server did not answer in time")?
}

/// Asks this host and every peer at once whether a server runs there.
async fn discovered(mesh: Option<&MeshHalf>) -> Result<(String, Known)> {
    if ApiClient::on_socket(Path::new(API_SOCKET))?.ping().await.is_ok() {
        return Ok((format!("unix:{API_SOCKET}"), Known::Named));
    }
    let candidates: Vec<Ipv4Addr> =
        std::iter::once(Ipv4Addr::LOCALHOST).chain(mesh_addresses(mesh)).collect();
    let found = http::discover(&candidates, API_PORT).await;
    let first = found.into_iter().next().map(|(url, _)| (url, Known::Found));
    first.context(
        "no Knit server answers here or in the mesh; name one with --server or KNIT_SERVER",
    )
}

/// The addresses of every host of the mesh, this one first.
fn mesh_addresses(mesh: Option<&MeshHalf>) -> impl Iterator<Item = Ipv4Addr> {
    let of_mesh = mesh.into_iter().flat_map(|mesh| {
        let peers = mesh.peers.iter().map(|peer| peer.mesh_ip.as_str());
        std::iter::once(mesh.local.mesh_ip.as_str()).chain(peers)
    });
    of_mesh.filter_map(|ip| ip.parse().ok())
}
