//! Has NATS refuse the nodes that were removed, as soon as each has its farewell.
//!
//! ```text
//! World::revocations ─> due ─┬─> nats.json, for a nats-server that starts again
//!                            └─> the account's claims, to the one that runs: it drops them at once
//! ```
//!
//! Invariant: what NATS was told is told again when it comes back, and from time to time, since one
//! that reads its own old configuration again has forgotten it.

use std::collections::BTreeMap;
use std::time::Duration;

use knit_link::bus::BusState;
use knit_runtime::clock;
use knit_server_core::revocation::due;
use tokio_util::sync::CancellationToken;

use crate::app::{App, CutOff};
use crate::nats_server::Account;

/// How often the farewells are looked at while one is under way.
const TICK: Duration = Duration::from_millis(500);
/// How often NATS is told what it was told already.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// Tells NATS until told to stop.
pub async fn run(app: &App, account: &Account, stop: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut state = app.bus_state.subscribe();
    let mut told: Option<(BTreeMap<String, u64>, tokio::time::Instant)> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.wake_revoker.notified() => {}
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                told = None;
            }
            _ = tick.tick() => {}
        }
        if *state.borrow() != BusState::Connected {
            continue;
        }
        let keys = due(&app.world().await.revocations, clock::now());
        let is_known = told.as_ref().is_some_and(|(before, at)| {
            *before == keys && (keys.is_empty() || at.elapsed() < AGAIN_AFTER)
        });
        if is_known {
            continue;
        }
        let outcome = match told {
            // A NATS that just came up and has nobody to refuse need not be told so.
            None if keys.is_empty() => Ok(()),
            _ => account.refuse(app, &keys).await,
        };
        match outcome {
            Ok(()) => {
                told = Some((keys.clone(), tokio::time::Instant::now()));
                app.cut_off.send_replace(CutOff::Told(keys));
            }
            Err(why) => say(app, &why),
        }
        if let Err(error) = app.forget_revocations().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "an old revocation was not forgotten");
        }
    }
}

fn say(app: &App, why: &str) {
    let failed = CutOff::Failed(why.to_owned());
    let is_new = app.cut_off.send_replace(failed.clone()) != failed;
    if is_new {
        tracing::error!(why, "NATS could not be told which nodes to refuse; trying on");
    }
}
