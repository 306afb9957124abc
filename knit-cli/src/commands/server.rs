//! Which server to talk to: the one that was named, or the one that the local mesh knows.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use knit_link::http::{ApiClient, discover};
use knit_link::mesh::{MeshClient, find_socket};
use knit_rpc::api::API_PORT;

use crate::cli::ServerArgs;

/// Returns a client of the server, or says how to name one.
pub(super) async fn client(args: &ServerArgs) -> Result<ApiClient> {
    if let Some(url) = args.server.as_deref().filter(|url| !url.is_empty()) {
        return Ok(ApiClient::new(url)?);
    }
    let candidates = candidates(args).await.context(
        "no server is named and no mesh daemon answers here: use --server http://HOST:7400 or KNIT_SERVER",
    )?;
    let found = discover(&candidates, API_PORT).await;
    match found.as_slice() {
        [] => bail!(
            "none of the {} hosts of this mesh runs a Knit server: start one with `knit-server run`, or name it with --server",
            candidates.len()
        ),
        [(url, _)] => Ok(ApiClient::new(url)?),
        [(first, ping), rest @ ..] => {
            if let Some((other, _)) = rest.iter().find(|(_, other)| other.cluster != ping.cluster) {
                bail!(
                    "this mesh has servers of two clusters, {first} and {other}: name one with --server"
                );
            }
            Ok(ApiClient::new(first)?)
        }
    }
}

/// This host first, then its peers: most often the server is near.
async fn candidates(args: &ServerArgs) -> Result<Vec<Ipv4Addr>> {
    let mesh = MeshClient::new(find_socket(args.mesh_socket.as_deref()));
    let own = mesh.status().await?.mesh_ip;
    let peers = mesh.peers().await?;
    let all = std::iter::once(own).chain(peers.into_iter().map(|peer| peer.mesh_ip));
    Ok(all.filter_map(|address| address.parse().ok()).collect())
}
