//! Takes assignments in: from the wire, or the newest stored one after each (re)connect.
//!
//! Invariant: an assignment is acted on only after its signature, cluster, node and generation
//! were found good and it is on disk. A node whose disk does not take one says so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use knit_link::bus::{Bus, BusState, Message};
use knit_rpc::message::{ProbeRequest, ReportIn};
use knit_rpc::subject;
use tokio::sync::mpsc::Receiver;
use tokio::time::sleep;

use super::{anywhere_in, jittered, reach};
use crate::last_assignment;
use crate::shared::Shared;
use knit_runtime::error::sentence;

/// Answers to a broadcast are spread over this time.
const BROADCAST_SPREAD: Duration = Duration::from_secs(5);
/// Broadcasts that are being answered, at most; others wait.
const ANSWERS_MAX: usize = 16;
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A stored assignment is looked for this often even when nothing was missed.
const LAST_EVERY: Duration = Duration::from_secs(30);
/// The same while it could not be kept on disk.
const LAST_EVERY_UNKEPT: Duration = Duration::from_secs(5);

pub async fn run(shared: Arc<Shared>, bus: Arc<dyn Bus>) {
    let node = shared.identity.node.clone();
    let (own, broadcast) = loop {
        let own = bus.subscribe(&subject::tasks(&node)).await;
        let broadcast = bus.subscribe(subject::BROADCAST).await;
        match (own, broadcast) {
            (Ok(own), Ok(broadcast)) => break (own, broadcast),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(cause = sentence(&error), "cannot listen for assignments");
                sleep(LAST_RETRY).await;
            }
        }
    };
    tokio::join!(
        take_messages(&shared, own),
        take_broadcasts(&shared, broadcast),
        read_stored(&shared, &*bus),
    );
}

async fn take_messages(shared: &Shared, mut messages: Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        take(shared, &message.payload);
    }
}

/// Answers each, beside one another: a roll call takes its time, a question does not.
async fn take_broadcasts(shared: &Shared, mut messages: Receiver<Message>) {
    let mut answers = FuturesUnordered::new();
    loop {
        tokio::select! {
            message = messages.recv(), if answers.len() < ANSWERS_MAX => {
                let Some(message) = message else { return };
                let Ok(asked) = serde_json::from_slice::<ReportIn>(&message.payload) else { continue };
                let own = shared.registration.borrow().as_ref().map(|known| known.cluster.clone());
                if own.as_ref() == Some(&asked.cluster) {
                    answers.push(answer(shared, asked));
                }
            }
            Some(()) = answers.next() => {}
        }
    }
}

async fn answer(shared: &Shared, asked: ReportIn) {
    let Some(ProbeRequest { by, mut targets }) = asked.probe else {
        sleep(anywhere_in(BROADCAST_SPREAD)).await;
        return shared.ask_report(asked.held);
    };
    let own = &shared.identity.node;
    targets.remove(own);
    if by.contains(own) && !targets.is_empty() {
        let answers = reach::ask(targets).await;
        tracing::info!(?answers, "asked other nodes whether they answer");
        shared.probed.send_modify(|probed| probed.extend(answers));
    }
}

/// Reads the newest stored assignment after each connect: what was sent while nobody listened.
async fn read_stored(shared: &Shared, bus: &dyn Bus) {
    let subject = subject::tasks(&shared.identity.node);
    let mut state = bus.state();
    let mut unkept = shared.unkept.subscribe();
    loop {
        if state.wait_for(|state| *state == BusState::Connected).await.is_err() {
            return;
        }
        match bus.last(&subject).await {
            Ok(stored) => {
                if let Some(message) = stored {
                    take(shared, &message);
                }
                let is_unkept = unkept.borrow_and_update().is_some();
                let pause = if is_unkept { LAST_EVERY_UNKEPT } else { LAST_EVERY };
                tokio::select! {
                    changed = state.changed() => if changed.is_err() { return },
                    () = sleep(jittered(pause)) => {}
                    // Now it is to be looked for more often, or less.
                    Ok(()) = unkept.changed() => {}
                }
            }
            Err(error) => {
                tracing::debug!(cause = sentence(&error), "the stored assignment was not read");
                sleep(LAST_RETRY).await;
            }
        }
    }
}

/// Takes in an assignment that is newer than the one held, if it can be believed.
pub fn take(shared: &Shared, message: &[u8]) {
    let Some(registration) = shared.registration.borrow().clone() else { return };
    let former = shared.assignment.borrow().as_ref().map(|held| Arc::clone(&held.boxes));
    let opened = last_assignment::open(
        message,
        &registration.server_key,
        &registration.cluster,
        &shared.identity.node,
        former.as_deref().map_or(&[], Vec::as_slice),
    );
    let assignment = match opened {
        Ok(assignment) => assignment,
        Err(error) => {
            tracing::warn!(cause = sentence(&error), "refused an assignment");
            return;
        }
    };
    let known = shared.assignment.borrow().as_ref().map(|held| held.generation);
    if known.is_some_and(|known| known >= assignment.generation) {
        return;
    }
    if let Err(error) = last_assignment::store(&shared.config.state_dir, message, &assignment) {
        return unkept(shared, Some(sentence(&error)));
    }
    unkept(shared, None);
    tracing::info!(
        generation = %assignment.generation,
        instances = assignment.desired.instances.len(),
        "new assignment"
    );
    shared.assignment.send_replace(Some(assignment));
}

/// Says why an assignment could not be kept, or that one could again.
fn unkept(shared: &Shared, why: Option<String>) {
    let why =
        why.map(|why| format!("an assignment cannot be kept, so nothing changes here: {why}"));
    shared.unkept.send_if_modified(|known| {
        let changed = *known != why;
        if changed {
            let text = why.as_deref().unwrap_or("assignments can be kept again");
            tracing::warn!("{text}");
            *known = why;
        }
        changed
    });
}
