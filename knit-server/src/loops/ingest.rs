//! Takes heartbeats and reports in.
//!
//! Reports are drained in batches: one transaction, then every answer, so a thousand agents that
//! report at once cost a few writes.

use knit_link::bus::{Bus, Message};
use knit_rpc::id::NodeId;
use knit_rpc::message::{Heartbeat, InstanceReport, ReportStored};
use knit_rpc::subject;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::app::reports::Received;
use crate::app::{App, AppError};

/// Reports of one transaction, at most.
const BATCH_MAX: usize = 256;

/// Takes heartbeats in until told to stop.
pub async fn heartbeats(app: &App, mut messages: Receiver<Message>, stop: CancellationToken) {
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = messages.recv() => message,
        };
        let Some(message) = message else { return };
        let parsed = (subject::node_of(&message.subject), parse::<Heartbeat>(&message));
        let (Some(sender), Some(beat)) = parsed else { continue };
        match app.beat(&sender, beat).await {
            Ok(()) => {}
            Err(AppError::Refused(why)) => tracing::debug!(why, "heartbeat refused"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a heartbeat could not be taken in");
            }
        }
    }
}

/// Takes reports in until told to stop.
pub async fn reports(
    app: &App,
    bus: &dyn Bus,
    mut messages: Receiver<Message>,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = messages.recv_many(&mut batch, BATCH_MAX) => received,
        };
        if received == 0 {
            return;
        }
        store(app, bus, std::mem::take(&mut batch)).await;
    }
}

async fn store(app: &App, bus: &dyn Bus, batch: Vec<Message>) {
    let mut reports = Vec::new();
    let mut answers = Vec::new();
    for message in batch {
        let parsed = (subject::node_of(&message.subject), parse::<InstanceReport>(&message));
        let (Some(sender), Some(report)) = parsed else { continue };
        let reply = message.reply.filter(|reply| is_own_inbox(&sender, reply));
        answers.push((sender.clone(), reply, report.sequence));
        reports.push(Received { sender, report });
    }
    // Unanswered reports are sent again.
    let strangers = match app.store_reports(reports).await {
        Ok(strangers) => strangers,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "reports could not be stored");
            return;
        }
    };
    answers.retain(|(sender, ..)| !strangers.contains(sender));
    for (_, reply, sequence) in answers {
        let (Some(reply), Ok(payload)) = (reply, serde_json::to_vec(&ReportStored { sequence }))
        else {
            continue;
        };
        if let Err(error) = bus.publish(&reply, payload).await {
            tracing::debug!(%error, "a report could not be answered");
        }
    }
}

/// Whether an answer goes to who asked. The server may speak on any subject: answering wherever a
/// node says would lend it that right, for example to empty the stream of assignments.
fn is_own_inbox(sender: &NodeId, reply: &str) -> bool {
    let inbox = reply.strip_prefix(&subject::inbox_prefix(sender));
    inbox.is_some_and(|rest| rest.starts_with('.'))
}

fn parse<T: serde::de::DeserializeOwned>(message: &Message) -> Option<T> {
    serde_json::from_slice(&message.payload)
        .inspect_err(|error| {
            tracing::debug!(subject = message.subject, %error, "a message that makes no sense");
        })
        .ok()
}
