//! `/events`: what happens, as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use knit_rpc::api::ErrorBody;
use knit_rpc::event::Event;
use knit_rpc::id::ProjectName;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use utoipa::IntoParams;

use super::Shared;
use super::access::Caller;
use super::error::ApiError;
use super::params::{InProject, listed};

const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize, IntoParams)]
pub struct After {
    /// Begin with the event after this one; without it only new ones come.
    after: Option<u64>,
}

/// Streams events (`text/event-stream`); `Last-Event-ID` or `after` continues where it broke off.
#[utoipa::path(
    get, path = "/events", params(After, InProject),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 400, body = ErrorBody)
    )
)]
pub async fn events(
    State(shared): State<Shared>,
    caller: Caller,
    Query(query): Query<After>,
    Query(of): Query<InProject>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let only = listed(&shared.app, &caller, of.project).await?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (missed, live) = shared.app.feed.watch(last.or(query.after));
    let stream = stream::unfold((VecDeque::from(missed), live), next)
        .filter(move |event| ready(is_shown(event, &caller, only.as_ref())))
        .map(|event| Ok(written(&event)))
        .take_until(shared.stop.clone().cancelled_owned());
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What belongs to no project is news for everybody who did not ask for one.
fn is_shown(event: &Event, caller: &Caller, only: Option<&ProjectName>) -> bool {
    match event.kind.project() {
        Some(project) => only.is_none_or(|only| project == only) && caller.sees(project),
        None => only.is_none(),
    }
}

type Source = (VecDeque<Event>, Receiver<Event>);

/// The next event; a watcher that fell too far behind is cut off, and comes back with its number.
async fn next((mut missed, mut live): Source) -> Option<(Event, Source)> {
    let event = match missed.pop_front() {
        Some(event) => event,
        None => live.recv().await.ok()?,
    };
    Some((event, (missed, live)))
}

fn written(event: &Event) -> sse::Event {
    let id = event.sequence.to_string();
    // What cannot be written as JSON does not exist among events.
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().id(id).data(data)
}
