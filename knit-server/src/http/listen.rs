//! Listens on addresses that come and go.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const RETRY: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 1024;

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
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(address = %at, %error, "the listener failed");
    }
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
