//! Where a connection comes from.

use std::net::{IpAddr, SocketAddr};

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Tcp(SocketAddr),
    /// A process of this host, by the kernel's word.
    Unix {
        uid: u32,
    },
}

/// Nobody: what a peer counts as whose credentials the kernel did not tell.
const NOBODY: u32 = u32::MAX;

impl Origin {
    /// Whose failures are counted together; processes of this host have no address.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

/// A listener that knows where its connections come from.
pub trait Doorway: Listener {
    fn origin(stream: &Self::Io, address: &Self::Addr) -> Origin;
}

impl Doorway for TcpListener {
    fn origin(_: &TcpStream, address: &SocketAddr) -> Origin {
        Origin::Tcp(*address)
    }
}

impl Doorway for UnixListener {
    fn origin(stream: &UnixStream, _: &tokio::net::unix::SocketAddr) -> Origin {
        let uid = stream.peer_cred().map_or(NOBODY, |credentials| credentials.uid());
        Origin::Unix { uid }
    }
}

/// Whether a process of this host needs no token: it could read the server's files anyway.
pub(super) fn is_local_admin(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}
