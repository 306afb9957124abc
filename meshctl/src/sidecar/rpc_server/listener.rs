//! The socket file, its connections and their lines.
//!
//! Invariant: the file is mode 0600 from its birth (0660 once it has the group that was asked for),
//! lies where not everybody can put one in its place, replaces only a socket on which nobody
//! answers, and is removed at the end only if it still is ours.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use knit_rpc::jsonrpc::REQUEST_LINE_MAX_BYTES;
use nix::sys::stat::{Mode, umask};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::caller::{self, Caller};
use super::{Outcome, Server, notification};
use knit_rpc::jsonrpc::MeshStatus;

/// Connections beyond these are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// A client that does not read its answer for this long loses its connection.
const WRITE_MAX: Duration = Duration::from_secs(10);
const OTHERS_WRITE: u32 = 0o002;

pub(crate) struct Listener {
    incoming: UnixListener,
    has_group: bool,
    file: SocketFile,
}

impl Listener {
    pub(crate) fn bind(path: &Path, group: Option<&str>) -> Result<Self> {
        let group = group.map(group_id).transpose()?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("the directory {} cannot be made", parent.display()))?;
            let mode = std::fs::metadata(parent)?.permissions().mode();
            anyhow::ensure!(
                mode & OTHERS_WRITE == 0,
                "everybody can write to {}, and could put a socket in the place of ours: choose another --socket-path",
                parent.display()
            );
        }
        remove_stale(path)?;
        // Nothing else is made in this moment: the daemon has no other task yet.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let incoming =
            bound.with_context(|| format!("the mesh socket {} cannot be made", path.display()))?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        let file = SocketFile { path: path.to_owned(), inode };
        if let Some(group) = group {
            let opened = std::os::unix::fs::chown(path, None, Some(group)).and_then(|()| {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
            });
            opened.with_context(|| format!("{} cannot be given its group", path.display()))?;
        }
        Ok(Self { incoming, has_group: group.is_some(), file })
    }

    /// Serves in the background until the process ends; the file goes with the returned task.
    pub(crate) fn serve(self, server: Server) -> SocketFile {
        let Self { incoming, has_group, file } = self;
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        tokio::spawn(async move {
            loop {
                match incoming.accept().await {
                    Ok((stream, _)) => {
                        let Some(caller) = caller_of(&stream, has_group) else { continue };
                        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
                        let server = server.clone();
                        tokio::spawn(async move {
                            let _slot = slot;
                            // The client sees the end of its connection as well as we do.
                            let _ = connection(stream, server, caller).await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the mesh socket cannot accept");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
        file
    }
}

/// Removes the socket file when dropped.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if is_ours {
            // A file that stays behind is stale and replaced by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    anyhow::ensure!(
        metadata.file_type().is_socket(),
        "{shown} is no socket and is not replaced: choose another --socket-path"
    );
    match BlockingStream::connect(path) {
        Ok(_) => anyhow::bail!(
            "a mesh daemon answers on {shown} already: stop it, or choose another --socket-path"
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
                .with_context(|| format!("{shown} is stale and cannot be removed"))
        }
        Err(error) => Err(error)
            .with_context(|| format!("it is not clear whether a daemon listens on {shown}")),
    }
}

fn group_id(name: &str) -> Result<u32> {
    let found = nix::unistd::Group::from_name(name).context("the groups cannot be read")?;
    let group = found.with_context(|| format!("there is no group {name}: see --socket-group"))?;
    Ok(group.gid.as_raw())
}

fn caller_of(stream: &UnixStream, has_group: bool) -> Option<Caller> {
    let peer = stream.peer_cred().ok()?;
    let found = caller::of(peer.uid(), nix::unistd::geteuid().as_raw(), has_group);
    if found.is_none() {
        tracing::warn!(uid = peer.uid(), "a stranger was refused at the mesh socket");
    }
    found
}

async fn send(write: &mut OwnedWriteHalf, mut line: String) -> io::Result<()> {
    line.push('\n');
    let writing = write.write_all(line.as_bytes());
    tokio::time::timeout(WRITE_MAX, writing).await.map_err(io::Error::from)?
}

async fn connection(stream: UnixStream, server: Server, caller: Caller) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let mut partial = Vec::new();
    let mut watched: Option<watch::Receiver<MeshStatus>> = None;
    loop {
        let line = tokio::select! {
            line = next_line(&mut lines, &mut partial) => line?,
            changed = changed(&mut watched) => {
                let Some(status) = changed else { return Ok(()) };
                send(&mut write, notification(&status)).await?;
                continue;
            }
        };
        let Some(line) = line else { return Ok(()) };
        let (answer, leaving) = match server.handle(&line, caller).await {
            Outcome::Answer(answer) => (answer, false),
            Outcome::Leave(answer) => (answer, true),
            Outcome::Watch(answer) => {
                let mut statuses = server.statuses.clone();
                statuses.mark_changed();
                watched = Some(statuses);
                (answer, false)
            }
            Outcome::Unwatch(answer) => {
                watched = None;
                (answer, false)
            }
        };
        send(&mut write, answer).await?;
        if leaving {
            server.leave.cancel();
        }
    }
}

/// The next status of a watch; waits for ever without one, `None` when the daemon stops.
async fn changed(watched: &mut Option<watch::Receiver<MeshStatus>>) -> Option<MeshStatus> {
    match watched {
        None => std::future::pending().await,
        Some(statuses) => {
            statuses.changed().await.ok()?;
            Some(statuses.borrow_and_update().clone())
        }
    }
}

/// The next line without its line feed; the last one counts without it. `None` at the end, and
/// after a line that is too long: the connection is then closed without an answer. Keeps what it
/// has read in `partial` when it is cancelled.
async fn next_line<R: AsyncBufRead + Unpin>(
    lines: &mut R,
    partial: &mut Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    let room = (REQUEST_LINE_MAX_BYTES + 1).saturating_sub(partial.len());
    let mut bounded = lines.take(u64::try_from(room).unwrap_or_default());
    bounded.read_until(b'\n', partial).await?;
    let mut line = std::mem::take(partial);
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() > REQUEST_LINE_MAX_BYTES {
        return Ok(None);
    }
    Ok(Some(line))
}
