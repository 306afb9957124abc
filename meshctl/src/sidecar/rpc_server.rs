//! The mesh socket's server: the Go daemon's five methods byte for byte, and ours beside them.
//!
//! ```text
//!   listener ── lines ──> request (parse, as Go parses) ──> dispatch ──> Query to the actor
//!                                                     └──> watch: notifications on this line
//! ```
//!
//! It is not jsonrpsee's server, because the answers to odd requests must be the Go daemon's: it
//! answers notifications, echoes ids through a float and refuses with codes of its own.

pub(super) mod caller;
mod go_json;
pub(super) mod listener;
mod request;
pub(super) mod view;

use std::net::{IpAddr, SocketAddr};

use knit_rpc::jsonrpc::{
    INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, KEPT_OUT, KeptOutList, KeptOutPeer, LEAVE,
    MESH_PEERS, MESH_STATUS, METHOD_NOT_FOUND, MeshDetail, MeshPeer, MeshPeers, MeshStatus,
    PARSE_ERROR, PEERS_COUNT, PEERS_GET, PEERS_LIST, PING, PeerCount, PeerInfo, PeerList, Pong,
    REVOKE, ROTATE, RotationStarted, STATUS, UNWATCH, WATCH,
};
use meshctl_core::authority::Revocation;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use caller::Caller;
use go_json::render;
use request::Request;

/// What the server asks of the actor.
pub(super) enum Query {
    Status(oneshot::Sender<MeshStatus>),
    Peers(oneshot::Sender<Vec<PeerInfo>>),
    Peer(String, oneshot::Sender<Option<PeerInfo>>),
    Count(oneshot::Sender<PeerCount>),
    Detail(oneshot::Sender<MeshDetail>),
    PeerDetails(oneshot::Sender<Vec<MeshPeer>>),
    /// Not for the socket: where the WireGuard of the peer with this mesh address is.
    Endpoint(IpAddr, oneshot::Sender<Option<SocketAddr>>),
    /// Not for the socket: the page that is scraped.
    Metrics(oneshot::Sender<String>),
    KeptOut(oneshot::Sender<Vec<KeptOutPeer>>),
    /// Answered with the moment until which the old secret is accepted, or why it is not changed.
    Rotate {
        secret: Zeroizing<String>,
        grace_secs: i64,
        to: oneshot::Sender<Result<String, String>>,
    },
    /// Answered with whether an authority of this node signed it.
    Revoke(Box<Revocation>, oneshot::Sender<bool>),
}

impl Query {
    /// Whether the answer tells what the device shows, and should not be a second old.
    pub(super) fn tells_of_device(&self) -> bool {
        matches!(self, Self::Detail(_) | Self::PeerDetails(_) | Self::Metrics(_))
    }
}

/// What every connection shares.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) queries: mpsc::Sender<Query>,
    pub(super) statuses: watch::Receiver<MeshStatus>,
    pub(super) leave: CancellationToken,
}

/// What is done with a request line.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// Send this line.
    Answer(String),
    /// Send this line, then a notification at each change.
    Watch(String),
    Unwatch(String),
    /// Send this line, then leave the mesh.
    Leave(String),
}

struct Refusal {
    code: i32,
    message: String,
}

impl Server {
    /// Answers one line without its line feed.
    pub(super) async fn handle(&self, line: &[u8], caller: Caller) -> Outcome {
        let request = match request::parse(line) {
            Ok(request) => request,
            Err(message) => {
                let message = format!("failed to parse request: {message}");
                return Outcome::Answer(failure(RawValue::NULL, PARSE_ERROR, &message));
            }
        };
        if request.jsonrpc != "2.0" {
            let message = "invalid jsonrpc version, must be 2.0";
            return Outcome::Answer(failure(&request.id, INVALID_REQUEST, message));
        }
        match request.method.as_str() {
            WATCH => Outcome::Watch(success(&request.id, &view::SUBSCRIPTION)),
            UNWATCH => Outcome::Unwatch(success(&request.id, &true)),
            LEAVE | REVOKE | ROTATE if caller == Caller::Group => {
                let message = "only root and the daemon's own user may tell it to do that";
                Outcome::Answer(failure(&request.id, INVALID_REQUEST, message))
            }
            LEAVE => Outcome::Leave(success(&request.id, &true)),
            _ => Outcome::Answer(match self.call(&request).await {
                Ok(answer) => answer,
                Err(refusal) => failure(&request.id, refusal.code, &refusal.message),
            }),
        }
    }

    async fn call(&self, request: &Request) -> Result<String, Refusal> {
        let id = &request.id;
        match request.method.as_str() {
            PING => Ok(success(id, &Pong { pong: true, version: view::VERSION.to_owned() })),
            STATUS => Ok(success(id, &self.ask(Query::Status).await?)),
            PEERS_COUNT => Ok(success(id, &self.ask(Query::Count).await?)),
            PEERS_LIST => Ok(success(id, &PeerList { peers: self.ask(Query::Peers).await? })),
            MESH_STATUS => Ok(success(id, &self.ask(Query::Detail).await?)),
            MESH_PEERS => {
                Ok(success(id, &MeshPeers { peers: self.ask(Query::PeerDetails).await? }))
            }
            PEERS_GET => {
                let key = request.params.as_ref().and_then(|params| params.get("pubkey"));
                let key = key.and_then(Value::as_str).filter(|key| !key.is_empty());
                let key = key.ok_or_else(|| Refusal {
                    code: INVALID_PARAMS,
                    message: "missing or invalid 'pubkey' parameter".to_owned(),
                })?;
                let peer = self.ask(|to| Query::Peer(key.to_owned(), to)).await?;
                let not_found =
                    || Refusal { code: INVALID_PARAMS, message: format!("peer not found: {key}") };
                Ok(success(id, &peer.ok_or_else(not_found)?))
            }
            KEPT_OUT => Ok(success(id, &KeptOutList { peers: self.ask(Query::KeptOut).await? })),
            REVOKE => self.revoke(request).await,
            ROTATE => self.rotate(request).await,
            other => Err(Refusal {
                code: METHOD_NOT_FOUND,
                message: format!("method not found: {other}"),
            }),
        }
    }

    async fn revoke(&self, request: &Request) -> Result<String, Refusal> {
        let invalid = |message: &str| Refusal { code: INVALID_PARAMS, message: message.to_owned() };
        let text = request.params.as_ref().and_then(|params| params.get("revocation"));
        let text = text.and_then(Value::as_str).unwrap_or_default();
        let revocation = Revocation::parse(text).map_err(|error| invalid(&error.to_string()))?;
        let signed = self.ask(|to| Query::Revoke(Box::new(revocation), to)).await?;
        if signed {
            return Ok(success(&request.id, &true));
        }
        Err(invalid(
            "no authority that this node knows signed it: join it with --require-signed or --authority, or ask another node",
        ))
    }

    async fn rotate(&self, request: &Request) -> Result<String, Refusal> {
        let invalid = |message: &str| Refusal { code: INVALID_PARAMS, message: message.to_owned() };
        let param = |name: &str| request.params.as_ref().and_then(|params| params.get(name));
        let secret = param("secret").and_then(Value::as_str);
        let secret = secret.ok_or_else(|| invalid("missing or invalid 'secret' parameter"))?;
        let grace_secs = param("grace_secs").and_then(Value::as_i64);
        let grace_secs =
            grace_secs.ok_or_else(|| invalid("missing or invalid 'grace_secs' parameter"))?;
        let secret = Zeroizing::new(secret.to_owned());
        let until = self.ask(|to| Query::Rotate { secret, grace_secs, to }).await?;
        let until = until.map_err(|why| invalid(&why))?;
        Ok(success(&request.id, &RotationStarted { until }))
    }

    async fn ask<R>(&self, query: impl FnOnce(oneshot::Sender<R>) -> Query) -> Result<R, Refusal> {
        let stopping =
            || Refusal { code: INTERNAL_ERROR, message: "the daemon is stopping".to_owned() };
        let (to, from) = oneshot::channel();
        self.queries.send(query(to)).await.map_err(|_| stopping())?;
        from.await.map_err(|_| stopping())
    }
}

fn success(id: &RawValue, result: &impl Serialize) -> String {
    format!(r#"{{"jsonrpc":"2.0","result":{},"id":{}}}"#, render(result), go_json::id(id))
}

fn failure(id: &RawValue, code: i32, message: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","error":{{"code":{code},"message":{}}},"id":{}}}"#,
        render(&message),
        go_json::id(id)
    )
}

/// One notification of a watch.
fn notification(status: &MeshStatus) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"{WATCH}","params":{{"subscription":{},"result":{}}}}}"#,
        view::SUBSCRIPTION,
        render(status)
    )
}

#[cfg(test)]
pub(super) mod scripted;
#[cfg(test)]
mod tests;
