//! Listens on addresses that come and go.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connections::{Bounds, answer};

const RETRY: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 1024;
/// Whoever connects is known by the kernel's word; who is not root needs a token as elsewhere.
const SOCKET_MODE: u32 = 0o666;

/// Listeners by address.
pub struct Listeners {
    router: Router,
    port: u16,
    running: BTreeMap<IpAddr, (CancellationToken, JoinHandle<()>)>,
}

impl Listeners {
    pub fn new(router: Router, port: u16) -> Self {
        Self { router, port, running: BTreeMap::new() }
    }

    /// Listens on exactly these addresses from now on. Those that stay are not touched; those
    /// that cannot be had are tried again.
    pub fn set(&mut self, addresses: &[IpAddr]) {
        self.running.retain(|address, (stop, _)| {
            let stays = addresses.contains(address);
            if !stays {
                tracing::info!(%address, "no longer listening");
                stop.cancel();
            }
            stays
        });
        for address in addresses {
            let (router, at) = (self.router.clone(), SocketAddr::new(*address, self.port));
            self.running.entry(*address).or_insert_with(|| {
                let stop = CancellationToken::new();
                (stop.clone(), tokio::spawn(serve(router, at, stop)))
            });
        }
    }

    /// Stops listening; requests under way are finished, for at most `patience`.
    pub async fn stop(self, patience: Duration) {
        for (stop, _) in self.running.values() {
            stop.cancel();
        }
        let all = async {
            for (_, task) in self.running.into_values() {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("requests were still under way after {patience:?}: cutting them off");
        }
    }
}

async fn serve(router: Router, at: SocketAddr, stop: CancellationToken) {
    let Some(listener) = bind(at, &stop).await else { return };
    tracing::info!(address = %at, "listening");
    answer(listener, router, Bounds::default(), stop).await;
}

/// Binds, again and again; `None` when told to stop.
async fn bind(at: SocketAddr, stop: &CancellationToken) -> Option<TcpListener> {
    let mut told = false;
    loop {
        match try_bind(at) {
            Ok(listener) => return Some(listener),
            Err(error) if !told => {
                tracing::warn!(address = %at, %error, "cannot listen yet; trying again every second");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Binds a Unix socket; one that a killed server left is replaced, a living one is not.
pub fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(std::io::Error::from(std::io::ErrorKind::AddrInUse));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Binds once.
pub fn try_bind(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former life must not keep the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
