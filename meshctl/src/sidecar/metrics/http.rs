//! As much HTTP as a scrape needs: one request for each connection, bounded in size, time and number.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::address::Place;
use crate::sidecar::net::probe;
use crate::sidecar::rpc_server::Query;

const CONNECTIONS_MAX: usize = 16;
const REQUEST_MAX_BYTES: usize = 8 * 1024;
/// For the request, and again for the answer.
const STEP_MAX: Duration = Duration::from_secs(5);
const BIND_RETRY: Duration = Duration::from_millis(500);

/// Serves in the background. That a loopback port is taken is an error at once; the mesh address may
/// come late and move.
pub(crate) async fn serve(
    place: Place,
    address: watch::Receiver<Option<IpAddr>>,
    interface: String,
    queries: mpsc::Sender<Query>,
) -> Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    match place {
        Place::Loopback(to) => {
            let bound = TcpListener::bind(to).await;
            let listener = bound.with_context(|| {
                format!("the metrics cannot be served at {to}: choose another --metrics")
            })?;
            tokio::spawn(async move {
                loop {
                    accept(&listener, &slots, &queries).await;
                    tokio::time::sleep(BIND_RETRY).await;
                }
            });
        }
        Place::Mesh(port) => drop(tokio::spawn(in_mesh(address, interface, port, queries, slots))),
    }
    Ok(())
}

async fn in_mesh(
    mut address: watch::Receiver<Option<IpAddr>>,
    interface: String,
    port: u16,
    queries: mpsc::Sender<Query>,
    slots: Arc<Semaphore>,
) {
    loop {
        let ip = *address.borrow_and_update();
        match ip.map(|ip| (ip, probe::listen(ip, &interface, port))) {
            Some((_, Ok(listener))) => tokio::select! {
                () = accept(&listener, &slots, &queries) => {}
                changed = address.changed() => if changed.is_err() { return },
            },
            Some((ip, Err(error))) => {
                tracing::warn!(%error, %ip, port, "the metrics cannot be served yet");
            }
            None => {}
        }
        tokio::time::sleep(BIND_RETRY).await;
    }
}

/// Returns only when the listener is broken.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>, queries: &mpsc::Sender<Query>) {
    loop {
        let (stream, from): (TcpStream, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a scrape cannot be accepted");
                return;
            }
        };
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { continue };
        let queries = queries.clone();
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = answer(stream, &queries).await {
                tracing::debug!(%error, %from, "a scrape failed");
            }
        });
    }
}

async fn answer(mut stream: TcpStream, queries: &mpsc::Sender<Query>) -> io::Result<()> {
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let head = tokio::time::timeout(STEP_MAX, head(&mut stream)).await.map_err(timed_out)??;
    let answer = match judge(&head) {
        Ok(()) => {
            let (to, from) = oneshot::channel();
            let gone = || io::Error::other("the daemon is stopping");
            queries.send(Query::Metrics(to)).await.map_err(|_| gone())?;
            response("200 OK", &from.await.map_err(|_| gone())?)
        }
        Err(status) => response(status, "the metrics are at /metrics\n"),
    };
    tokio::time::timeout(STEP_MAX, stream.write_all(answer.as_bytes()))
        .await
        .map_err(timed_out)??;
    stream.shutdown().await
}

/// Reads up to the empty line, or as much as is allowed.
async fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < REQUEST_MAX_BYTES && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let len = stream.read(&mut piece).await?;
        if len == 0 {
            break;
        }
        head.extend_from_slice(&piece[..len]);
    }
    Ok(head)
}

/// What is wrong with a request, as a status line's end.
fn judge(head: &[u8]) -> Result<(), &'static str> {
    let complete = head.windows(4).any(|end| end == b"\r\n\r\n");
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else { return Err("400 Bad Request") };
    if !complete || !version.starts_with(b"HTTP/1.") {
        return Err("400 Bad Request");
    }
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (*method, path) {
        (b"GET", b"/metrics") => Ok(()),
        (b"GET", _) => Err("404 Not Found"),
        _ => Err("405 Method Not Allowed"),
    }
}

fn response(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scrape_is_answered() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Ok(())),
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", Ok(())),
            ("GET / HTTP/1.1\r\n\r\n", Err("404 Not Found")),
            ("POST /metrics HTTP/1.1\r\n\r\n", Err("405 Method Not Allowed")),
            ("GET /metrics HTTP/2\r\n\r\n", Err("400 Bad Request")),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Err("400 Bad Request")),
            ("\r\n\r\n", Err("400 Bad Request")),
            ("", Err("400 Bad Request")),
        ] {
            assert_eq!(judge(head.as_bytes()), expected, "{head:?}");
        }
    }
}
