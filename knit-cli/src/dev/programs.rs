//! Which programs a dev cluster needs, and where they are.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::plan::Programs;

/// Directories that a root shell's PATH may lack.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Programs that cannot be found, each with what to do.
#[derive(Debug, thiserror::Error)]
#[error("not found: {}", .0.join("; "))]
pub(crate) struct Missing(Vec<String>);

/// Finds our own programs beside this one, then in PATH.
pub(crate) fn ours() -> Result<Programs, Missing> {
    let mut missing = Vec::new();
    let mut find = |name: &str| {
        beside(name).or_else(|| in_path(name)).unwrap_or_else(|| {
            missing.push(format!("{name} (build it: cargo build --workspace --bins)"));
            PathBuf::new()
        })
    };
    let programs = Programs {
        meshctl: find("meshctl"),
        server: find("knit-server"),
        agent: find("knit-agent"),
        path: path().to_string_lossy().into_owned(),
    };
    if missing.is_empty() { Ok(programs) } else { Err(Missing(missing)) }
}

/// Checks that the system's programs are installed; says which Debian package has each.
pub(crate) fn check_system(namespaces: bool) -> Result<(), Missing> {
    let always = [("nft", "nftables"), ("nats-server", "nats-server")];
    let with_namespaces = [
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("iptables", "iptables"),
        ("dockerd", "docker.io"),
        ("containerd", "containerd"),
    ];
    let wanted = always.iter().chain(with_namespaces.iter().filter(|_| namespaces));
    let missing: Vec<String> = wanted
        .filter(|(name, _)| in_path(name).is_none())
        .map(|(name, package)| format!("{name} (apt-get install {package})"))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
}

/// PATH with our own directory first and the system's own ones last.
pub(crate) fn path() -> OsString {
    let own = own_dir().into_iter();
    let given = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = own.chain(env::split_paths(&given)).collect();
    for dir in SYSTEM_DIRS.map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    env::join_paths(dirs).unwrap_or(given)
}

fn own_dir() -> Option<PathBuf> {
    env::current_exe().ok()?.parent().map(Path::to_owned)
}

fn beside(name: &str) -> Option<PathBuf> {
    own_dir().map(|dir| dir.join(name)).filter(|path| path.is_file())
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&path()).map(|dir| dir.join(name)).find(|path| path.is_file())
}
