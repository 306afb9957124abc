//! Which server is asked: the one that was named, or one that the local mesh daemon leads to.

use std::net::Ipv4Addr;

use anyhow::{Context as _, bail};
use knit_link::http::{ApiClient, discover};
use knit_link::mesh::{MeshClient, find_socket};
use knit_rpc::api::API_PORT;

use crate::cli::ServerArgs;

/// A client of the server.
pub(crate) async fn find(args: &ServerArgs) -> anyhow::Result<ApiClient> {
    if let Some(url) = &args.server {
        return Ok(ApiClient::new(url)?);
    }
    let loopback = discover(&[Ipv4Addr::LOCALHOST], API_PORT).await;
    if let [(url, _), ..] = loopback.as_slice() {
        return Ok(ApiClient::new(url)?);
    }
    from_mesh(args).await
}

async fn from_mesh(args: &ServerArgs) -> anyhow::Result<ApiClient> {
    let mesh = MeshClient::new(find_socket(args.mesh_socket.as_deref()));
    let hint = "no server was named (--server or KNIT_SERVER), none answers on this host, and the mesh could not be asked";
    let own = mesh.status().await.context(hint)?.mesh_ip;
    let peers = mesh.peers().await.context(hint)?;
    let addresses = std::iter::once(own).chain(peers.into_iter().map(|peer| peer.mesh_ip));
    let candidates: Vec<Ipv4Addr> = addresses.filter_map(|ip| ip.parse().ok()).collect();
    let found = discover(&candidates, API_PORT).await;
    let mut clusters: Vec<_> = found.iter().map(|(_, ping)| &ping.cluster).collect();
    clusters.sort();
    clusters.dedup();
    if clusters.len() > 1 {
        let urls = found.iter().map(|(url, _)| url.as_str()).collect::<Vec<_>>().join(", ");
        bail!(
            "servers of {} clusters answer in the mesh ({urls}): choose one with --server",
            clusters.len()
        );
    }
    match found.first() {
        Some((url, _)) => Ok(ApiClient::new(url)?),
        None => bail!(
            "none of the mesh's {} hosts runs a server that answers on port {API_PORT}: name one with --server or KNIT_SERVER",
            candidates.len()
        ),
    }
}
