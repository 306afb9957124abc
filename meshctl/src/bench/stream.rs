//! Bytes as fast as they go, for a bounded time.

use std::io;
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _,
};
use tokio::time::{Instant, timeout_at};

use super::wire::LINE_MAX_BYTES;

const PIECE_BYTES: usize = 128 * 1024;
/// What is on its way at the end of the time may still arrive.
pub(crate) const TAIL_MAX: Duration = Duration::from_secs(3);

/// What arrived, and in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

impl Arrived {
    /// Bits in a microsecond are megabits in a second.
    pub(crate) fn mbit_per_second(self) -> Option<u64> {
        let micros = self.took.as_micros();
        let rate = (u128::from(self.bytes) * 8).checked_div(micros)?;
        u64::try_from(rate).ok()
    }
}

/// Sends for `span`, then says that it was all.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), span: Duration) -> io::Result<()> {
    let piece = vec![0; PIECE_BYTES];
    let end = Instant::now() + span;
    while Instant::now() < end {
        match timeout_at(end, to.write(&piece)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => drop(written?),
            Err(_) => break,
        }
    }
    to.shutdown().await
}

/// Counts what arrives until its sender says that it was all, for `span` and a little more at most.
pub(crate) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    span: Duration,
) -> io::Result<Arrived> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    let start = Instant::now();
    let mut last = start;
    loop {
        match timeout_at(start + span + TAIL_MAX, from.read(&mut piece)).await {
            Ok(Ok(0)) | Err(_) => break,
            Ok(read) => {
                bytes += u64::try_from(read?).unwrap_or_default();
                last = Instant::now();
            }
        }
    }
    Ok(Arrived { bytes, took: last - start })
}

/// One line without its line feed; an error when there is none in `max`.
pub(crate) async fn line(
    from: &mut (impl AsyncBufRead + Unpin),
    max: Duration,
) -> io::Result<String> {
    let mut line = String::new();
    let mut bounded = from.take(LINE_MAX_BYTES);
    let reading = bounded.read_line(&mut line);
    tokio::time::timeout(max, reading).await.map_err(io::Error::from)??;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_bits_over_time() {
        for (bytes, millis, expected) in
            [(125_000_000, 1_000, Some(1_000)), (0, 1_000, Some(0)), (1, 0, None)]
        {
            let arrived = Arrived { bytes, took: Duration::from_millis(millis) };
            assert_eq!(arrived.mbit_per_second(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_sent_arrives_and_the_end_is_seen() {
        let (mut one, mut other) = tokio::io::duplex(64 * 1024);
        let span = Duration::from_millis(50);
        let sending = tokio::spawn(async move { send(&mut one, span).await });
        let arrived = receive(&mut other, span).await.unwrap();
        sending.await.unwrap().unwrap();
        assert!(arrived.bytes > 0 && arrived.took < TAIL_MAX, "{arrived:?}");
    }
}
