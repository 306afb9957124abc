//! Which server is asked: the one that was named or logged in to, else one on this host, else one
//! that the local mesh daemon leads to.

mod ssh;

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, bail};
use knit_link::http::{ApiClient, Keys, Known, discover};
use knit_link::mesh::{MeshClient, find_socket};
use knit_rpc::api::{API_PORT, API_SOCKET};

use crate::cli::ServerArgs;

pub(crate) use ssh::close;

/// A client of the server, with the token that it may be shown.
pub(crate) async fn find(args: &ServerArgs) -> anyhow::Result<ApiClient> {
    let keys = Keys::load(args.token_file.as_deref())?;
    if args.server.is_none()
        && let Some(login) = keys.login()
        && !ssh::is_address(&login.server)
    {
        // Wherever its address has moved to.
        let elsewhere = async || mesh_addresses(args).await.unwrap_or_default();
        return Ok(keys.open_login(login, elsewhere).await?);
    }
    let (url, known) = match keys.login() {
        Some(login) if args.server.is_none() => (login.server.clone(), Known::Named),
        Some(_) | None => address(args).await?,
    };
    Ok(keys.open_with(client(&url).await?, known).await?)
}

/// A client of the server at an address, which may be an ssh away.
pub(crate) async fn client(url: &str) -> anyhow::Result<ApiClient> {
    if ssh::is_address(url) { ssh::client(url).await } else { Ok(ApiClient::new(url)?) }
}

/// The address of the server, and how it became known.
pub(crate) async fn address(args: &ServerArgs) -> anyhow::Result<(String, Known)> {
    if let Some(url) = &args.server {
        return Ok((url.clone(), Known::Named));
    }
    if ApiClient::on_socket(Path::new(API_SOCKET))?.ping().await.is_ok() {
        return Ok((format!("unix:{API_SOCKET}"), Known::Named));
    }
    let loopback = discover(&[Ipv4Addr::LOCALHOST], API_PORT).await;
    if let [(url, _), ..] = loopback.as_slice() {
        return Ok((url.clone(), Known::Named));
    }
    Ok((from_mesh(args).await?, Known::Found))
}

async fn from_mesh(args: &ServerArgs) -> anyhow::Result<String> {
    let candidates = mesh_addresses(args).await?;
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
    match found.into_iter().next() {
        Some((url, _)) => Ok(url),
        None => bail!(
            "none of the mesh's {} hosts runs a server that answers on port {API_PORT}: name one with --server or KNIT_SERVER",
            candidates.len()
        ),
    }
}

/// The addresses of every host of the mesh, this one first.
async fn mesh_addresses(args: &ServerArgs) -> anyhow::Result<Vec<Ipv4Addr>> {
    let mesh = MeshClient::new(find_socket(args.mesh_socket.as_deref()));
    let hint = "no server was named (--server or KNIT_SERVER), none answers on this host, and the mesh could not be asked";
    let own = mesh.status().await.context(hint)?.mesh_ip;
    let peers = mesh.peers().await.context(hint)?;
    let addresses = std::iter::once(own).chain(peers.into_iter().map(|peer| peer.mesh_ip));
    Ok(addresses.filter_map(|ip| ip.parse().ok()).collect())
}
