//! Erases what is kept for a time only.

use std::time::Duration;

use knit_runtime::clock;
use tokio_util::sync::CancellationToken;

use crate::app::App;

const EVERY: Duration = Duration::from_hours(1);

/// Erases until told to stop.
pub async fn run(app: &App, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = app.erase_old_secrets(clock::now()).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "old values were not erased; trying again in an hour");
        }
    }
}
