//! The mesh daemon's socket, as a client: our sidecar or the Go daemon `wgmesh` alike.
//!
//! ```text
//!  MeshClient ── jsonrpsee async client ── socket::{Sender, Receiver} ── Unix socket
//!      └ drops the connection after any transport fault; the next call makes a fresh one
//! ```

mod client;
mod socket;

use std::path::{Path, PathBuf};

pub use client::{MeshClient, MeshError, MeshWatch};

/// Where a daemon run as root puts its socket.
pub const DEFAULT_SOCKET: &str = "/var/run/wgmesh.sock";

/// Where the packaged unit of our sidecar, which is no root, puts it.
const UNIT_SOCKET: &str = "/run/wg-mesh/wgmesh.sock";

/// Returns the socket to talk to: the flag, `WGMESH_SOCKET`, or the first of the usual places
/// that exists. What the user named is never replaced by another socket.
pub fn find_socket(flag: Option<&Path>) -> PathBuf {
    let named = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty());
    if let Some(path) = flag {
        return path.to_path_buf();
    }
    if let Some(path) = named("WGMESH_SOCKET") {
        return path.into();
    }
    let runtime = named("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("wgmesh.sock"));
    first_existing([DEFAULT_SOCKET, UNIT_SOCKET].map(PathBuf::from).into_iter().chain(runtime))
}

fn first_existing(candidates: impl Iterator<Item = PathBuf>) -> PathBuf {
    let candidates: Vec<PathBuf> = candidates.collect();
    let found = candidates.iter().find(|path| path.exists());
    found.or(candidates.first()).cloned().unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_never_replaced_and_existence_decides_among_the_usual_places() {
        let named = Path::new("/nonexistent/named.sock");
        assert_eq!(find_socket(Some(named)), named);

        let missing = PathBuf::from("/nonexistent/a.sock");
        let present = PathBuf::from("/proc/self/status");
        let both = [missing.clone(), present.clone()];
        assert_eq!(first_existing(both.into_iter()), present);
        assert_eq!(first_existing([missing.clone()].into_iter()), missing);
    }
}
