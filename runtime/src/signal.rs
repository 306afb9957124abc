//! SIGINT and SIGTERM as a token that all loops wait on.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long after the first signal another one still counts as the same word: a terminal, sudo and
/// a script that traps Ctrl-C may each pass it on.
const SAME_WORD: Duration = Duration::from_secs(1);

/// A token that is cancelled at the first SIGINT or SIGTERM.
///
/// A later SIGINT while the program still stops ends it at once: whoever presses Ctrl-C twice
/// does not want to wait. Must be called inside a tokio runtime.
pub fn shutdown() -> CancellationToken {
    let token = CancellationToken::new();
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => {
            tokio::spawn(watch(token.clone(), interrupt, terminate));
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be caught: this program stops hard when told to");
        }
    }
    token
}

async fn watch(token: CancellationToken, mut interrupt: Signal, mut terminate: Signal) {
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    tracing::info!(signal = name, "stopping");
    token.cancel();
    let first = Instant::now();
    while interrupt.recv().await.is_some() {
        if first.elapsed() > SAME_WORD {
            tracing::warn!("interrupted a second time: leaving at once");
            std::process::exit(128 + SignalKind::interrupt().as_raw_value());
        }
    }
}
