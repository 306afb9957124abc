//! Which of the mesh's hosts runs a server.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use knit_rpc::api::Ping;
use tokio::time::timeout;

use super::ApiClient;

/// How long a host has to answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// Hosts that are asked at once, at most.
const ASK_PARALLEL_MAX: usize = 64;

/// Asks every address whether a Knit server answers there; order as given.
///
/// Whoever holds the mesh secret can answer here. The answer says where a server *may* be; it is
/// believed only after its key has been checked.
pub async fn discover(candidates: &[Ipv4Addr], port: u16) -> Vec<(String, Ping)> {
    stream::iter(candidates.to_vec())
        .map(|address| ask(format!("http://{address}:{port}")))
        .buffered(ASK_PARALLEL_MAX)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn ask(url: String) -> Option<(String, Ping)> {
    let client = ApiClient::new(&url).ok()?;
    let ping = timeout(ASK_TIMEOUT, client.ping()).await.ok()?.ok()?;
    (ping.service == "knit-server").then_some((url, ping))
}
