//! Joining the mesh, and following this host's address in it.
//!
//! ```text
//! socket there -> ping answered -> status names an address -> the address is on an interface
//! that carries packets -> joined          (each step is said, and tried again for ever)
//! ```

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use knit_link::mesh::{MeshClient, MeshError, find_socket};
use knit_rpc::jsonrpc::MeshStatus;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::host;

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often a daemon without `mesh.watch` is asked.
const POLL: Duration = Duration::from_secs(2);

/// This host's place in the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshAddress {
    pub ip: Ipv4Addr,
    pub interface: String,
    pub pubkey: String,
}

/// What the agent waits for before it can join.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("the mesh socket {}", .0.display())]
    Socket(PathBuf),
    #[error("the mesh daemon to answer")]
    Daemon(#[source] MeshError),
    #[error("the mesh daemon to answer sensibly: it says its address is \"{0}\"")]
    Address(String),
    #[error("the mesh daemon to have an address")]
    NoAddress,
    #[error("the mesh address {ip} to be on an interface (the mesh daemon says \"{interface}\")")]
    NotAssigned { ip: Ipv4Addr, interface: String },
    #[error("the mesh interface {0} to be up with carrier")]
    NoCarrier(String),
}

/// Watches the mesh for ever and keeps `address` up to date. An address once had is kept while
/// the daemon is away: the tunnel may well outlive it.
pub async fn follow(socket: Option<PathBuf>, address: watch::Sender<Option<MeshAddress>>) {
    let mut retry = RETRY_MIN;
    let mut said = String::new();
    loop {
        let client = MeshClient::new(find_socket(socket.as_deref()));
        match join(&client).await {
            Ok(joined) => {
                retry = RETRY_MIN;
                said.clear();
                publish(&address, joined);
                follow_joined(&client, &address).await;
            }
            Err(waiting) => {
                say(&mut said, &waiting, address.borrow().is_some());
                sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Says what is waited for, once for each new reason.
fn say(said: &mut String, waiting: &NotYet, joined_before: bool) {
    let text = format!("waiting for {waiting}");
    if *said == text {
        return;
    }
    let cause = std::error::Error::source(waiting).map(ToString::to_string);
    tracing::info!(cause, "{text}");
    if !joined_before {
        knit_runtime::notify::status(&text);
    }
    *said = text;
}

fn publish(address: &watch::Sender<Option<MeshAddress>>, joined: MeshAddress) {
    address.send_if_modified(|current| {
        if current.as_ref() == Some(&joined) {
            return false;
        }
        match current {
            Some(former) if former.ip != joined.ip => {
                tracing::info!(from = %former.ip, to = %joined.ip, "the mesh address moved");
            }
            _ => tracing::info!(
                address = %joined.ip,
                interface = joined.interface,
                "joined the mesh"
            ),
        }
        *current = Some(joined);
        true
    });
}

async fn join(client: &MeshClient) -> Result<MeshAddress, NotYet> {
    if !client.path().exists() {
        return Err(NotYet::Socket(client.path().to_path_buf()));
    }
    client.ping().await.map_err(NotYet::Daemon)?;
    let status = client.status().await.map_err(NotYet::Daemon)?;
    place(status)
}

/// Believes a status once the address is really there.
fn place(status: MeshStatus) -> Result<MeshAddress, NotYet> {
    if status.mesh_ip.is_empty() {
        return Err(NotYet::NoAddress);
    }
    let text = status.mesh_ip.split('/').next().unwrap_or_default();
    let ip: Ipv4Addr = text
        .parse()
        .map_err(|_| NotYet::Address(status.mesh_ip.escape_debug().take(60).collect()))?;
    let interfaces = host::interfaces();
    let (name, interface) = interfaces
        .iter()
        .find(|(_, interface)| interface.addresses.contains(&ip))
        .ok_or(NotYet::NotAssigned { ip, interface: status.interface })?;
    if !interface.running {
        return Err(NotYet::NoCarrier(name.clone()));
    }
    Ok(MeshAddress { ip, interface: name.clone(), pubkey: status.pubkey })
}

/// Follows a daemon until it goes away: by its own word where it gives it, else by asking.
async fn follow_joined(client: &MeshClient, address: &watch::Sender<Option<MeshAddress>>) {
    match client.watch().await {
        Ok(mut statuses) => {
            while let Some(status) = statuses.next().await {
                moved(client, status, address).await;
            }
        }
        Err(MeshError::Unsupported { .. }) => {
            sleep(POLL).await;
            while let Ok(status) = client.status().await {
                moved(client, status, address).await;
                sleep(POLL).await;
            }
        }
        Err(error) => {
            tracing::debug!(%error, "the mesh daemon could not be watched");
            sleep(POLL).await;
        }
    }
}

/// A new address takes a moment to be on its interface.
async fn moved(
    client: &MeshClient,
    status: MeshStatus,
    address: &watch::Sender<Option<MeshAddress>>,
) {
    let mut retry = RETRY_MIN;
    let mut status = Some(status);
    while let Some(current) = status {
        match place(current) {
            Ok(joined) => return publish(address, joined),
            Err(waiting) => tracing::debug!("waiting for {waiting}"),
        }
        sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
        status = client.status().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(mesh_ip: &str) -> MeshStatus {
        MeshStatus {
            mesh_ip: mesh_ip.to_owned(),
            interface: "wg0".to_owned(),
            ..MeshStatus::default()
        }
    }

    #[test]
    fn an_address_is_believed_once_it_is_there() {
        let joined = place(status("127.0.0.1")).unwrap();
        assert_eq!((joined.ip, joined.interface.as_str()), (Ipv4Addr::LOCALHOST, "lo"));
        for (mesh_ip, expected) in [
            ("", "to have an address"),
            ("rubbish\n", "it says its address is \"rubbish\\n\""),
            ("203.0.113.77", "the mesh address 203.0.113.77 to be on an interface"),
        ] {
            let waiting = place(status(mesh_ip)).unwrap_err().to_string();
            assert!(waiting.contains(expected), "{waiting}");
        }
    }
}
