//! Requests are taken whole, and what was begun is done whole.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tracing::Instrument as _;

use super::error::ApiError;

/// Bytes of a request's body, at most: a manifest's limit and a little.
const BODY_BYTES_MAX: usize = 1024 * 1024 + 64 * 1024;
/// Of one that is larger, so much is read.
const DROPPED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// From the head until the body must be there whole.
const BODY_WITHIN: Duration = Duration::from_secs(20);

/// Takes the body in before anybody looks at it: too large or too slow a one occupies nothing.
pub(super) async fn body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY_WITHIN, take(body)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(Refused::TooLarge)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Ok(Err(Refused::BrokenOff)) => ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "the connection ended before the body was there",
        )
        .into_response(),
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            format!("the body was not there within {} s", BODY_WITHIN.as_secs()),
        )
        .into_response(),
    }
}

enum Refused {
    TooLarge,
    BrokenOff,
}

/// What is too large is read on for a while and dropped: a client that is cut off while it sends
/// does not see the answer.
async fn take(body: Body) -> Result<Vec<u8>, Refused> {
    let (mut stream, mut kept, mut length) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|_| Refused::BrokenOff)?;
        length += piece.len();
        if length <= BODY_BYTES_MAX {
            kept.extend_from_slice(&piece);
        } else if length > DROPPED_BYTES_MAX {
            break;
        }
    }
    if length <= BODY_BYTES_MAX { Ok(kept) } else { Err(Refused::TooLarge) }
}

/// Has the request answered to its end although its client went away: between what is stored, what
/// is known and what is audited there is no stopping.
pub(super) async fn end(request: Request, next: Next) -> Response {
    let answered = tokio::spawn(next.run(request).in_current_span());
    match answered.await {
        Ok(response) => response,
        // Caught and told like every other panic.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::Router;
    use axum::body::Bytes;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use futures_util::stream;
    use tokio::sync::Notify;
    use tower::ServiceExt as _;

    use super::*;

    fn with_body(body: Body) -> Request {
        Request::post("/").body(body).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_slow_or_large_is_not_waited_for() {
        let length = |bytes: Bytes| async move { bytes.len().to_string() };
        let router = Router::new()
            .route("/", post(length))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .layer(from_fn(body));
        let drip = || {
            stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
            })
        };
        let most = vec![b' '; BODY_BYTES_MAX];
        for (body, status) in [
            (Body::from_stream(drip()), 408),
            (Body::from_stream(drip().take(5)), 200),
            (Body::from(most.clone()), 200),
            (Body::from([most, vec![b' ']].concat()), 413),
        ] {
            let answer = router.clone().oneshot(with_body(body)).await.unwrap();
            assert_eq!(answer.status(), status);
        }
    }

    #[tokio::test]
    async fn what_was_begun_is_done_although_its_client_went_away() {
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let done = Arc::new(AtomicBool::new(false));
        let parts = (Arc::clone(&begun), Arc::clone(&go), Arc::clone(&done));
        let handler = move || async move {
            parts.0.notify_one();
            parts.1.notified().await;
            parts.2.store(true, Ordering::Relaxed);
        };
        let router = Router::new().route("/", post(handler)).layer(from_fn(end));
        let answered = tokio::spawn(router.oneshot(with_body(Body::empty())));
        begun.notified().await;
        answered.abort();
        assert!(answered.await.unwrap_err().is_cancelled());
        go.notify_one();
        while !done.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }
}
