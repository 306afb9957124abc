//! Connections, each with its bounds.
//!
//! ```text
//! accept ─> room for its address? ─> head within 30 s ─> router ─> answer ─> next head within 30 s
//! ```
//!
//! Who sends nothing, or a byte now and then, is cut off; who opens too many connections is not
//! let in and keeps nobody else out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::access::{Doorway, Origin};

/// From the connection, or the last answer, until the head of a request must be there whole.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a request's head, at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections at once, at most, of one listener.
const CONNECTIONS_MAX: usize = 4096;
/// Of one address, or of one user of this host.
const CONNECTIONS_OF_ADDRESS_MAX: usize = 256;

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub head_within: Duration,
    pub of_address: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head_within: HEAD_WITHIN, of_address: CONNECTIONS_OF_ADDRESS_MAX }
    }
}

/// Answers who connects, until told to stop; requests under way are finished.
pub async fn answer<L>(listener: L, router: Router, bounds: Bounds, stop: CancellationToken)
where
    L: Doorway,
    L::Io: Sync,
{
    let (mut listener, crowd, graceful) = (listener, Crowd::default(), GracefulShutdown::new());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head_within);
    http.max_buf_size(HEAD_BYTES_MAX);
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let origin = L::origin(&stream, &address);
        let Some(place) = crowd.enter(who(origin), bounds.of_address) else { continue };
        let router = router.clone();
        let service = service_fn(move |request| respond(router.clone(), origin, request));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // How a connection ended is its client's business.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn respond(
    router: Router,
    origin: Origin,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(origin));
    router.oneshot(request).await
}

/// Whose connections are counted together; those of root on this host are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Address(IpAddr),
    User(u32),
}

fn who(origin: Origin) -> Option<Who> {
    match origin {
        Origin::Tcp(address) => Some(Who::Address(address.ip())),
        Origin::Unix { uid: 0 } => None,
        Origin::Unix { uid } => Some(Who::User(uid)),
    }
}

/// Who is connected.
#[derive(Debug, Default, Clone)]
struct Crowd(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_who: BTreeMap<Who, usize>,
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
struct Place {
    crowd: Crowd,
    who: Option<Who>,
}

impl Crowd {
    fn enter(&self, who: Option<Who>, of_one_max: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= CONNECTIONS_MAX {
            return None;
        }
        if let Some(who) = who {
            let of_one = counts.by_who.entry(who).or_default();
            if *of_one >= of_one_max {
                return None;
            }
            *of_one += 1;
        }
        counts.all += 1;
        Some(Place { crowd: self.clone(), who })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        let Some(who) = self.who else { return };
        if let Some(of_one) = counts.by_who.get_mut(&who) {
            *of_one -= 1;
            if *of_one == 0 {
                counts.by_who.remove(&who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_keeps_no_other_out() {
        let one = Who::Address([10, 0, 0, 1].into());
        let (crowd, other) = (Crowd::default(), Who::Address([10, 0, 0, 2].into()));
        let places: Vec<_> = (0..3).map_while(|_| crowd.enter(Some(one), 2)).collect();
        assert_eq!(places.len(), 2);
        assert!(crowd.enter(Some(other), 2).is_some());
        assert!(crowd.enter(who(Origin::Unix { uid: 1000 }), 1).is_some());
        assert!(crowd.enter(who(Origin::Unix { uid: 0 }), 0).is_some(), "root on this host");
        drop(places);
        assert!(crowd.enter(Some(one), 2).is_some());
        assert!(crowd.0.lock().unwrap().by_who.is_empty(), "nothing is kept of who left");
    }
}
