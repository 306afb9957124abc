//! Where a connection comes from.

use std::net::{IpAddr, SocketAddr};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, UnixListener};

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

impl Connected<IncomingStream<'_, TcpListener>> for Origin {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Origin {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let uid = stream.io().peer_cred().map_or(NOBODY, |credentials| credentials.uid());
        Self::Unix { uid }
    }
}

/// Whether a process of this host needs no token: it could read the server's files anyway.
pub(super) fn is_local_admin(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}
