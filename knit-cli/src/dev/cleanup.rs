//! Leaves nothing behind: processes, sockets, mounts, namespaces, control groups, files.
//!
//! Used twice: at the end of a dev cluster, when there is little left to do, and at the start of
//! one whose earlier run was killed half-way.
//!
//! Invariant: a process is killed only if it is recorded with its start time, stands in one of our
//! network namespaces, or in one of our control groups. Directories are removed only below paths
//! that carry our marks.

mod mounts;
mod processes;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::layout::{Layout, MARKER};
use super::namespace::{self, NamespaceError};
use super::state::State;

/// How long killed processes have to be gone.
const GONE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What could not be cleaned up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CleanupError {
    #[error("{} holds files that `knit dev` did not make: move them, or choose another --dir", .0.display())]
    Foreign(PathBuf),
    #[error("these processes do not die: {0:?}")]
    Alive(Vec<i32>),
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// Whether an earlier run left something, as far as can be seen without looking at processes.
pub(crate) fn has_leftovers(layout: &Layout) -> bool {
    layout.state_file().exists() || layout.data.exists() || !namespace::existing(layout).is_empty()
}

/// Refuses directories that hold what is not ours.
pub(crate) fn check_ownership(layout: &Layout) -> Result<(), CleanupError> {
    let marks = [(&layout.run, layout.lock_file()), (&layout.data, layout.data.join(MARKER))];
    for (dir, mark) in marks {
        let filled = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        if filled && !mark.exists() {
            return Err(CleanupError::Foreign(dir.clone()));
        }
    }
    Ok(())
}

/// Removes all of an instance but its lock and, if told so, its logs.
pub(crate) async fn sweep(layout: &Layout) -> Result<(), CleanupError> {
    check_ownership(layout)?;
    let state = State::read(&layout.state_file());
    let shim_sockets = shim_sockets(&layout.run);
    kill_all(layout, state.as_ref()).await?;
    for socket in shim_sockets {
        let _ = std::fs::remove_file(socket);
    }
    mounts::detach_below(&[&layout.run, &layout.data]);
    namespace::remove(layout).await?;
    processes::remove_cgroups(&layout.prefix);
    remove_contents(&layout.run, &layout.lock_file())?;
    remove_contents(&layout.data, &layout.data.join(MARKER))?;
    remove(&layout.data)
}

/// Removes the directory of sockets and pids too, at the very end.
pub(crate) fn remove_run_dir(layout: &Layout) -> Result<(), CleanupError> {
    remove(&layout.run)?;
    // With --dir, both stand in a directory that may have been made for us; others' stay.
    if let Some(parent) = layout.run.parent().filter(|parent| layout.data.starts_with(parent)) {
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

async fn kill_all(layout: &Layout, state: Option<&State>) -> Result<(), CleanupError> {
    let recorded = state.map(State::processes).unwrap_or_default();
    let namespaces = processes::namespace_ids(&namespace::existing(layout));
    let deadline = tokio::time::Instant::now() + GONE_TIMEOUT;
    loop {
        let alive = processes::ours(&recorded, &namespaces, &layout.prefix);
        if alive.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(CleanupError::Alive(alive.iter().map(|process| process.pid).collect()));
        }
        processes::kill(&alive);
        tokio::time::sleep(POLL).await;
    }
}

/// Sockets of containers' shims, which lie outside of our directories and would stay after a kill.
fn shim_sockets(run: &Path) -> Vec<PathBuf> {
    let Ok(nodes) = std::fs::read_dir(run) else { return Vec::new() };
    let tasks = nodes
        .flatten()
        .map(|node| node.path().join("containerd/io.containerd.runtime.v2.task/moby"));
    let containers = tasks.filter_map(|tasks| std::fs::read_dir(tasks).ok()).flatten().flatten();
    let address = |container: std::fs::DirEntry| {
        let address = std::fs::read_to_string(container.path().join("address")).ok()?;
        let socket = PathBuf::from(address.trim().strip_prefix("unix://")?);
        socket.starts_with("/run/containerd/s").then_some(socket)
    };
    containers.filter_map(address).collect()
}

fn remove_contents(dir: &Path, keep: &Path) -> Result<(), CleanupError> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten().map(|entry| entry.path()).filter(|path| path != keep) {
        remove(&entry)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), CleanupError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| CleanupError::Remove { path: path.to_owned(), source }),
    }
}
