//! The asked end of `meshctl bench`.
//!
//! Safety: only a peer of the mesh is served, one at a time, for 30 s at most, and never on a wildcard
//! address. Beside the tunnel a port is open for three seconds, for one connection from the address
//! where the asker's WireGuard is, and it must say a token that went through the tunnel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::bench::stream;
use crate::bench::wire::{Answer, Direction, Request, TOKEN_BYTES};
use crate::sidecar::rpc_server::Query;

/// How long the port beside the tunnel waits for its one connection.
const OFFER_MAX: Duration = Duration::from_secs(3);
/// Strangers that may knock there meanwhile.
const KNOCKS_MAX: usize = 16;

/// What all connections to the probe port share.
#[derive(Clone)]
pub(crate) struct Bench {
    /// `None` with `--no-bench`.
    slot: Option<Arc<Semaphore>>,
    queries: mpsc::Sender<Query>,
}

impl Bench {
    pub(crate) fn new(enabled: bool, queries: mpsc::Sender<Query>) -> Self {
        Self { slot: enabled.then(|| Arc::new(Semaphore::new(1))), queries }
    }

    /// Does what a line asks for, and ends the connection.
    pub(crate) async fn serve<R, W>(
        &self,
        line: &[u8],
        asker: IpAddr,
        read: &mut R,
        write: &mut W,
    ) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let served = self.try_serve(line, asker, read, write).await?;
        if let Err(why) = served {
            say(write, &Answer::No(why.to_owned())).await?;
        }
        Ok(())
    }

    async fn try_serve<R, W>(
        &self,
        line: &[u8],
        asker: IpAddr,
        read: &mut R,
        write: &mut W,
    ) -> io::Result<Result<(), &'static str>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Some(slot) = &self.slot else {
            return Ok(Err("it is switched off there (--no-bench)"));
        };
        let request = match str::from_utf8(line).unwrap_or_default().parse::<Request>() {
            Ok(request) => request,
            Err(why) => return Ok(Err(why)),
        };
        // A host behind a peer gets this far too.
        let Some(endpoint) = self.endpoint(asker).await else {
            return Ok(Err("only a node of the mesh may ask"));
        };
        let Ok(_slot) = slot.try_acquire() else {
            return Ok(Err("it is measuring with another node"));
        };
        tracing::info!(%asker, %request, "measuring throughput for a peer");
        if request.beside {
            return beside(request, endpoint.ip(), write).await;
        }
        run(request, read, write).await.map(Ok)
    }

    async fn endpoint(&self, asker: IpAddr) -> Option<SocketAddr> {
        let (to, from) = oneshot::channel();
        self.queries.send(Query::Endpoint(asker, to)).await.ok()?;
        from.await.ok()?
    }
}

/// Opens a port where the asker's host can see it, and serves the one that says the token.
async fn beside<W: AsyncWrite + Unpin>(
    request: Request,
    asker: IpAddr,
    write: &mut W,
) -> io::Result<Result<(), &'static str>> {
    let Ok(local) = facing(asker).await else {
        return Ok(Err("no way leads from there to this host beside the tunnel"));
    };
    let listener = TcpListener::bind((local, 0)).await?;
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).map_err(io::Error::other)?;
    let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let port = listener.local_addr()?.port();
    say(write, &Answer::At { port, token: token.clone() }).await?;
    let deadline = Instant::now() + OFFER_MAX;
    for _ in 0..KNOCKS_MAX {
        let Ok(accepted) = timeout_at(deadline, listener.accept()).await else { break };
        let (stream, from) = accepted?;
        if from.ip().to_canonical() != asker {
            continue;
        }
        drop(listener);
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        if stream::line(&mut read, OFFER_MAX).await? == token {
            run(request, &mut read, &mut write).await?;
        }
        return Ok(Ok(()));
    }
    Ok(Ok(()))
}

async fn run<R, W>(request: Request, read: &mut R, write: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let span = Duration::from_secs(request.seconds.into());
    say(write, &Answer::Go).await?;
    match request.direction {
        // An asker that takes nothing must not keep the slot.
        Direction::Down => {
            let sending = stream::send(write, span);
            tokio::time::timeout(span + stream::TAIL_MAX, sending).await.map_err(io::Error::from)?
        }
        Direction::Up => {
            let arrived = stream::receive(read, span).await?;
            let micros = u64::try_from(arrived.took.as_micros()).unwrap_or(u64::MAX);
            say(write, &Answer::Got { bytes: arrived.bytes, micros }).await
        }
    }
}

async fn say<W: AsyncWrite + Unpin>(write: &mut W, answer: &Answer) -> io::Result<()> {
    write.write_all(format!("{answer}\n").as_bytes()).await
}

/// The address of this host that `other` would see.
async fn facing(other: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if other.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((other, 9)).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// What is answered to a line when the asker is a peer at 127.0.0.1, or none.
    async fn answer(enabled: bool, line: &str, is_peer: bool) -> String {
        let (queries, mut queue) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(query) = queue.recv().await {
                if let Query::Endpoint(_, to) = query {
                    let endpoint = is_peer.then(|| SocketAddr::from(([127, 0, 0, 1], 51820)));
                    to.send(endpoint).unwrap();
                }
            }
        });
        let bench = Bench::new(enabled, queries);
        let (mut read, mut write) = (tokio::io::empty(), Vec::new());
        let asker = IpAddr::from([10, 45, 0, 2]);
        bench.serve(line.as_bytes(), asker, &mut read, &mut write).await.unwrap();
        String::from_utf8_lossy(&write).lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn only_a_peer_with_a_sound_request_is_served() {
        for (enabled, line, is_peer, expected) in [
            (true, "bench up 1", true, "bench go"),
            (true, "bench up 1", false, "bench no only a node of the mesh may ask"),
            (true, "bench up 31", true, "bench no it lasts 1 to 30 seconds"),
            (true, "bench sideways 1", true, "bench no the request is not understood"),
            (false, "bench up 1", true, "bench no it is switched off there (--no-bench)"),
        ] {
            assert_eq!(answer(enabled, line, is_peer).await, expected, "{line}");
        }
    }

    #[tokio::test]
    async fn the_port_beside_serves_the_token_alone_and_once() {
        let request = Request { beside: true, direction: Direction::Up, seconds: 1 };
        for (says_token, expected) in [(true, "bench go\nbench got 5 "), (false, "")] {
            let (mut told, mut write) = tokio::io::duplex(1024);
            let serving = tokio::spawn(async move {
                beside(request, [127, 0, 0, 1].into(), &mut write).await.unwrap().unwrap();
            });
            let mut reader = BufReader::new(&mut told);
            let line = stream::line(&mut reader, OFFER_MAX).await.unwrap();
            let Ok(Answer::At { port, token }) = line.parse() else { panic!("{line}") };
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let said = if says_token { format!("{token}\n") } else { "f".repeat(32) + "\n" };
            stream.write_all(said.as_bytes()).await.unwrap();
            stream.write_all(b"12345").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            // A refused one is cut off, perhaps in the middle of what it says.
            let _ = tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await;
            assert!(answer.starts_with(expected), "{answer}");
            assert_eq!(answer.is_empty(), !says_token, "{answer}");
            serving.await.unwrap();
            assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "once");
        }
    }
}
