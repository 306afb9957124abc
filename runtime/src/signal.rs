//! SIGINT and SIGTERM as a token that all loops wait on.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGINT or SIGTERM.
///
/// A second signal while the program still stops ends it at once: whoever presses Ctrl-C twice
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
    let code = first(&mut interrupt, &mut terminate).await;
    tracing::info!(signal = name(code), "stopping");
    token.cancel();
    let code = first(&mut interrupt, &mut terminate).await;
    tracing::warn!(signal = name(code), "told to stop a second time: leaving at once");
    std::process::exit(128 + code);
}

async fn first(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
    }
}

fn name(code: i32) -> &'static str {
    nix::sys::signal::Signal::try_from(code).map_or("unknown", nix::sys::signal::Signal::as_str)
}
