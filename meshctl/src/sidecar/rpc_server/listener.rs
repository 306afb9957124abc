//! The socket file, its connections and their lines.
//!
//! Invariant: the file is mode 0600 from its birth, replaces only a socket on which nobody
//! answers, and is removed at the end only if it still is ours.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use knit_rpc::jsonrpc::REQUEST_LINE_MAX_BYTES;
use nix::sys::stat::{Mode, umask};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::{Outcome, Server, notification};
use knit_rpc::jsonrpc::MeshStatus;

pub(crate) struct Listener {
    listener: UnixListener,
    file: SocketFile,
}

impl Listener {
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("the directory {} cannot be made", parent.display()))?;
        }
        remove_stale(path)?;
        // Nothing else is made in this moment: the daemon has no other task yet.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener =
            bound.with_context(|| format!("the mesh socket {} cannot be made", path.display()))?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// Serves in the background until the process ends; the file goes with the returned task.
    pub(crate) fn serve(self, server: Server) -> SocketFile {
        let Self { listener, file } = self;
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let server = server.clone();
                        tokio::spawn(async move {
                            // The client sees the end of its connection as well as we do.
                            let _ = connection(stream, server).await;
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

async fn connection(stream: UnixStream, server: Server) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let mut partial = Vec::new();
    let mut watched: Option<watch::Receiver<MeshStatus>> = None;
    loop {
        let line = tokio::select! {
            line = next_line(&mut lines, &mut partial) => line?,
            changed = changed(&mut watched) => {
                let Some(status) = changed else { return Ok(()) };
                write.write_all(format!("{}\n", notification(&status)).as_bytes()).await?;
                continue;
            }
        };
        let Some(line) = line else { return Ok(()) };
        let (mut answer, leaving) = match server.handle(&line).await {
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
        answer.push('\n');
        write.write_all(answer.as_bytes()).await?;
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
