//! Waits for this host's mesh address, and follows it when it moves.
//!
//! Invariant: a sidecar that is away does not take the address back: its interface outlives it.

use std::net::Ipv4Addr;
use std::time::Duration;

use knit_link::mesh::{MeshClient, MeshWatch};
use knit_rpc::jsonrpc::MeshStatus;
use knit_runtime::notify;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrIn;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the sidecar is asked while nothing better is known.
const POLL: Duration = Duration::from_secs(1);

/// Follows the mesh address until told to stop.
pub async fn follow(
    mesh: MeshClient,
    address: watch::Sender<Option<Ipv4Addr>>,
    stop: CancellationToken,
) {
    let mut awaited = String::new();
    let mut changes: Option<MeshWatch> = None;
    loop {
        match look(&mesh).await {
            Ok(found) => {
                let changed = address.send_if_modified(|known| {
                    let changed = *known != Some(found);
                    *known = Some(found);
                    changed
                });
                if changed {
                    tracing::info!(address = %found, "mesh address");
                }
                awaited.clear();
            }
            Err(why) if why != awaited => {
                tracing::info!("waiting for the mesh: {why}");
                if address.borrow().is_none() {
                    notify::status(&format!("waiting for the mesh: {why}"));
                }
                awaited = why;
            }
            Err(_) => {}
        }
        if changes.is_none() && awaited.is_empty() {
            // Our own sidecar tells; the Go daemon is polled.
            changes = mesh.watch().await.ok();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
            ended = next(&mut changes) => if ended { changes = None },
        }
    }
}

/// Waits for a change; returns whether the sidecar went away. Without a watch it waits for ever.
async fn next(changes: &mut Option<MeshWatch>) -> bool {
    match changes {
        Some(watch) => watch.next().await.is_none(),
        None => std::future::pending().await,
    }
}

async fn look(mesh: &MeshClient) -> Result<Ipv4Addr, String> {
    let status = mesh.status().await.map_err(|error| error.to_string())?;
    usable(&status)
}

/// The address, if it is on an interface that has carrier.
fn usable(status: &MeshStatus) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr =
        status.mesh_ip.parse().map_err(|_| "the sidecar has no mesh address yet".to_owned())?;
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| error.to_string())?;
    for interface in interfaces {
        let found = interface.address.and_then(|found| found.as_sockaddr_in().map(SockaddrIn::ip));
        if found != Some(address) {
            continue;
        }
        let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        if interface.flags.contains(up) {
            return Ok(address);
        }
        return Err(format!(
            "the interface {} has the mesh address {address} but no carrier",
            interface.interface_name
        ));
    }
    Err(format!("no interface has the mesh address {address} yet"))
}
