//! The TCP probe: `ping` → `pong` on the mesh address, and our own asking.
//!
//! Beside `ping` there is one more word, `bench` (see [`crate::bench`]).
//!
//! A Go daemon evicts a peer that does not answer it once handshakes pause.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bench::Bench;
use crate::bench::wire::Request;
use meshctl_core::mesh::{PROBE_MAX_MS, Probe};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Peers keep theirs open, and a bench needs one more.
const CONNECTIONS_MAX: usize = 320;
const IDLE_MAX: Duration = Duration::from_secs(10);
const LINE_MAX_BYTES: u64 = 64;
/// Shorter than the time after which a peer closes one that says nothing.
const KEPT_IDLE_MAX: Duration = Duration::from_secs(8);
/// A kept connection that is silent for so long gives way to a new one.
const KEPT_TRIAL: Duration = Duration::from_millis(400);
/// As many as a peer answers at once; in a larger mesh the rest is asked by new ones.
const KEPT_MAX: usize = 200;
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

/// Connections to peers that stay open between two probes: an idle peer is asked more often than it
/// closes an unused one, and a new connection costs far more than a word.
#[derive(Clone, Default)]
pub(crate) struct Asker {
    kept: Arc<Mutex<BTreeMap<Ipv4Addr, Kept>>>,
}

struct Kept {
    stream: TcpStream,
    used: Instant,
}

impl Asker {
    /// Asks a peer through the tunnel.
    pub(crate) async fn ask(&self, peer: Ipv4Addr, port: u16) -> Probe {
        let limit = Duration::from_millis(PROBE_MAX_MS);
        match tokio::time::timeout(limit, self.exchange(peer, port)).await {
            Ok(Ok(micros)) => Probe::Pong { micros },
            // Each of these was sent by the peer.
            Ok(Err(error)) if is_from_peer(error.kind()) => Probe::Refused,
            Ok(Err(_)) | Err(_) => Probe::Silence,
        }
    }

    /// What a kept connection fails to do says nothing of the peer: it may have started anew.
    async fn exchange(&self, peer: Ipv4Addr, port: u16) -> io::Result<u64> {
        if let Some(mut stream) = self.take(peer)
            && let Ok(Ok(micros)) = tokio::time::timeout(KEPT_TRIAL, ping(&mut stream)).await
        {
            self.keep(peer, stream);
            return Ok(micros);
        }
        let mut stream = TcpStream::connect((peer, port)).await?;
        let micros = ping(&mut stream).await?;
        self.keep(peer, stream);
        Ok(micros)
    }

    fn take(&self, peer: Ipv4Addr) -> Option<TcpStream> {
        let kept = self.kept.lock().ok()?.remove(&peer)?;
        (kept.used.elapsed() < KEPT_IDLE_MAX).then_some(kept.stream)
    }

    fn keep(&self, peer: Ipv4Addr, stream: TcpStream) {
        let Ok(mut kept) = self.kept.lock() else { return };
        kept.retain(|_, one| one.used.elapsed() < KEPT_IDLE_MAX);
        if kept.len() < KEPT_MAX {
            kept.insert(peer, Kept { stream, used: Instant::now() });
        }
    }
}

/// Returns the round trip in microseconds.
async fn ping(stream: &mut TcpStream) -> io::Result<u64> {
    let start = Instant::now();
    stream.write_all(b"ping\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
}

fn is_from_peer(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::UnexpectedEof
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A peer that answers so many words of each connection, then closes it or says nothing more.
    async fn peer(answers: usize, closes: bool) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut line = [0; 5];
                    for _ in 0..answers {
                        stream.read_exact(&mut line).await.unwrap();
                        stream.write_all(b"pong\n").await.unwrap();
                    }
                    if !closes {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        (port, accepted)
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_one_that_is_dead_is_no_silence() {
        for (answers, closes, connections) in
            [(usize::MAX, false, 1), (1, true, 3), (1, false, 3), (2, true, 2)]
        {
            let (port, accepted) = peer(answers, closes).await;
            let asker = Asker::default();
            for _ in 0..3 {
                let outcome = asker.ask(Ipv4Addr::LOCALHOST, port).await;
                assert!(matches!(outcome, Probe::Pong { .. }), "{outcome:?}");
            }
            assert_eq!(accepted.load(Ordering::Relaxed), connections, "{answers} {closes}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_silence() {
        let asker = Asker::default();
        let (port, _) = peer(0, true).await;
        assert_eq!(asker.ask(Ipv4Addr::LOCALHOST, port).await, Probe::Refused, "closed");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        assert_eq!(asker.ask(Ipv4Addr::LOCALHOST, port).await, Probe::Refused);
        let (port, _) = peer(0, false).await;
        assert_eq!(asker.ask(Ipv4Addr::LOCALHOST, port).await, Probe::Silence);
    }
}
