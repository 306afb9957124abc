//! The control socket: how `knit dev stop|start|kill|restart` reach the running `knit dev`.
//!
//! One JSON line asks, one JSON line answers. The socket lies in a directory only its owner enters.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::plan::Part;

const REQUEST_BYTES_MAX: u64 = 4096;
/// Longer than the longest grace that a program gets.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// What a running dev cluster can be asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Stop everything and leave nothing behind.
    Stop,
    /// Start a program that is dead.
    Start { node: u8, part: Part },
    /// Send a program a signal.
    Kill { node: u8, part: Part, signal: i32 },
    /// Stop a program politely and start it again.
    Restart { node: u8, part: Part },
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("no dev cluster runs here: start one with `knit dev --nodes 2`")]
    NotRunning(#[source] io::Error),
    #[error("the dev cluster did not answer")]
    Silent(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
}

/// Opens the socket.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path)
}

/// Answers requests until dropped; a stop cancels `stop`.
pub(crate) async fn serve(listener: UnixListener, cluster: Arc<Cluster>, stop: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let (cluster, stop) = (cluster.clone(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &cluster, &stop).await {
                tracing::debug!(%error, "a control connection broke");
            }
        });
    }
}

async fn answer(
    stream: UnixStream,
    cluster: &Arc<Cluster>,
    stop: &CancellationToken,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(REQUEST_BYTES_MAX)).read_line(&mut line).await?;
    let error = match serde_json::from_str(&line) {
        Ok(request) => carry_out(request, cluster, stop).await.err(),
        Err(error) => Some(format!("not understood: {error}")),
    };
    let mut text = serde_json::to_vec(&Answer { error })?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn carry_out(
    request: Request,
    cluster: &Arc<Cluster>,
    stop: &CancellationToken,
) -> Result<(), String> {
    match request {
        Request::Stop => {
            stop.cancel();
            Ok(())
        }
        Request::Start { node, part } => cluster.start(node, part).await,
        Request::Kill { node, part, signal } => cluster.kill(node, part, signal).await,
        Request::Restart { node, part } => cluster.restart(node, part).await,
    }
    .map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Asks the running dev cluster behind `socket`.
pub(crate) async fn ask(socket: &Path, request: &Request) -> Result<(), ControlError> {
    let stream = UnixStream::connect(socket).await.map_err(ControlError::NotRunning)?;
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, exchange(stream, request)).await;
    let answer = asked
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(ControlError::Silent)?;
    answer.error.map_or(Ok(()), |error| Err(ControlError::Refused(error)))
}

async fn exchange(stream: UnixStream, request: &Request) -> io::Result<Answer> {
    let (reader, mut writer) = stream.into_split();
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}
