//! What a child says: kept (the last lines), and passed on to a file or to our log.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};

use super::LAST_LINES_MAX;

/// A longer line is cut into pieces of this size.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// The lines of one child, from both of its streams.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    last: VecDeque<String>,
    file: Option<File>,
}

impl Lines {
    pub(super) fn new(name: &str, log_file: Option<&Path>) -> io::Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = log_file.map(open).transpose()?;
        let inner = Inner { name: name.to_owned(), last: VecDeque::new(), file };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// Reads both streams to their ends.
    pub(super) fn read(
        &self,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let out = tokio::spawn(read_stream(self.clone(), stdout));
        let err = tokio::spawn(read_stream(self.clone(), stderr));
        async move {
            let _ = out.await;
            let _ = err.await;
        }
    }

    pub(super) fn last(&self) -> Vec<String> {
        self.lock().last.iter().cloned().collect()
    }

    fn push(&self, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        let mut inner = self.lock();
        if let Some(file) = &mut inner.file {
            // A full disk must not stop the child.
            let _ = writeln!(file, "{line}");
        } else {
            tracing::debug!(child = inner.name, "{line}");
        }
        if inner.last.len() == LAST_LINES_MAX {
            inner.last.pop_front();
        }
        inner.last.push_back(line.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_stream<R: AsyncRead + Unpin>(lines: Lines, stream: Option<R>) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match reader.fill_buf().await {
            Ok([]) | Err(_) => break,
            Ok(buffer) => take(buffer, &mut line),
        };
        reader.consume(used);
        if ended {
            lines.push(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        lines.push(&line);
    }
}

/// Moves bytes into `line` up to its end; says how many, and whether the line is complete.
fn take(buffer: &[u8], line: &mut Vec<u8>) -> (usize, bool) {
    let room = LINE_BYTES_MAX - line.len();
    let window = &buffer[..buffer.len().min(room)];
    let end = window.iter().position(|&byte| byte == b'\n').map(|position| position + 1);
    let used = end.unwrap_or(window.len());
    line.extend_from_slice(&window[..used]);
    (used, end.is_some() || line.len() == LINE_BYTES_MAX)
}
