//! The TCP probe: `ping` → `pong` on the mesh address, and our own asking.
//!
//! Beside `ping` there is one more word, `bench` (see [`crate::bench`]).
//!
//! A Go daemon evicts a peer that does not answer it once handshakes pause.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bench::Bench;
use crate::bench::wire::Request;
use meshctl_core::mesh::{PROBE_MAX_MS, Probe};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

const CONNECTIONS_MAX: usize = 256;
const IDLE_MAX: Duration = Duration::from_secs(10);
const LINE_MAX_BYTES: u64 = 64;
const BIND_RETRY: Duration = Duration::from_millis(500);

/// Serves for ever on a mesh address, also after it has moved, and where there is none yet.
pub(crate) async fn serve(
    mut address: watch::Receiver<Option<IpAddr>>,
    interface: String,
    port: u16,
    bench: Bench,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let ip = *address.borrow_and_update();
        let Some(ip) = ip else {
            match address.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        match listen(ip, &interface, port) {
            Ok(listener) => {
                tokio::select! {
                    () = accept(&listener, &slots, &bench) => {}
                    changed = address.changed() => if changed.is_err() { return },
                }
            }
            Err(error) => tracing::debug!(%error, %ip, "the probe cannot listen yet"),
        }
        tokio::time::sleep(BIND_RETRY).await;
    }
}

pub(crate) fn listen(ip: IpAddr, interface: &str, port: u16) -> io::Result<TcpListener> {
    let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // The address alone would also answer a neighbour that routes it here.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(SocketAddr::from((ip, port)))?;
    socket.listen(128)
}

/// Returns only when the listener is broken.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>, bench: &Bench) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the probe cannot accept");
                return;
            }
        };
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            let bench = bench.clone();
            tokio::spawn(async move {
                let _slot = slot;
                // Whoever probes sees a closed connection as well as we do.
                let _ = answer(stream, &bench).await;
            });
        }
    }
}

async fn answer(stream: TcpStream, bench: &Bench) -> io::Result<()> {
    let asker = stream.peer_addr()?.ip();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut lines).take(LINE_MAX_BYTES);
        let reading = bounded.read_until(b'\n', &mut line);
        let len = tokio::time::timeout(IDLE_MAX, reading).await.map_err(io::Error::from)??;
        if len == 0 || line.last() != Some(&b'\n') {
            return Ok(());
        }
        if line.trim_ascii() == b"ping" {
            write.write_all(b"pong\n").await?;
        } else if Request::is_one(line.trim_ascii()) {
            let line = std::mem::take(&mut line);
            return bench.serve(line.trim_ascii(), asker, &mut lines, &mut write).await;
        }
    }
}

/// Asks a peer through the tunnel.
pub(crate) async fn ask(peer: Ipv4Addr, port: u16) -> Probe {
    let asking = async {
        let mut stream = TcpStream::connect((peer, port)).await?;
        let start = Instant::now();
        stream.write_all(b"ping\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
    };
    match tokio::time::timeout(Duration::from_millis(PROBE_MAX_MS), asking).await {
        Ok(Ok(micros)) => Probe::Pong { micros },
        // Each of these was sent by the peer.
        Ok(Err(error)) if is_from_peer(error.kind()) => Probe::Refused,
        Ok(Err(_)) | Err(_) => Probe::Silence,
    }
}

fn is_from_peer(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}
