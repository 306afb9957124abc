//! A client of the mesh daemon that makes its connection on demand and anew after any fault.
//!
//! Invariant: no call takes longer than connecting plus one request deadline, and no answer of
//! the daemon makes a later call fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::client::{
    Client, ClientT, Error as RpcError, Subscription, SubscriptionClientT,
};
use jsonrpsee::core::params::{ArrayParams, ObjectParams};
use jsonrpsee::core::traits::ToRpcParams;
use knit_rpc::jsonrpc::{
    KEPT_OUT, KeptOutList, KeptOutPeer, LEAVE, MESH_PEERS, MESH_STATUS, METHOD_NOT_FOUND,
    MeshDetail, MeshPeer, MeshPeers, MeshStatus, PEERS_COUNT, PEERS_GET, PEERS_LIST, PING,
    PeerCount, PeerInfo, PeerList, Pong, REVOKE, ROTATE, RotationStarted, STATUS, UNWATCH, WATCH,
};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::socket::{self, SocketError};

const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Why the mesh daemon could not be asked. The cause, where there is one, is the `source()`.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error(
        "no mesh daemon answers on {}: start one with `meshctl join`, or name its socket with --mesh-socket or WGMESH_SOCKET",
        .path.display()
    )]
    Connect { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the mesh socket {} is not for this user: use sudo, or have the daemon join with --socket-group and be in that group", .path.display())]
    Denied { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the mesh daemon on {} did not answer `{method}` within {} s: restart it if this persists", .path.display(), REQUEST_MAX.as_secs())]
    Timeout { path: PathBuf, method: &'static str },
    #[error("the mesh daemon on {} refused `{method}`: {message} (code {code})", .path.display())]
    Refused { path: PathBuf, method: &'static str, code: i32, message: String },
    #[error("the mesh daemon on {} does not know `{method}`: only `meshctl join` offers it", .path.display())]
    Unsupported { path: PathBuf, method: &'static str },
    #[error("the mesh daemon on {} gave no usable answer to `{method}`", .path.display())]
    Protocol {
        path: PathBuf,
        method: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A cheap handle; clones share one connection.
#[derive(Debug, Clone)]
pub struct MeshClient {
    path: Arc<Path>,
    connection: Arc<Mutex<Option<Arc<Client>>>>,
}

impl MeshClient {
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().into(), connection: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub async fn ping(&self) -> Result<Pong, MeshError> {
        self.call(PING, ArrayParams::new()).await
    }

    pub async fn status(&self) -> Result<MeshStatus, MeshError> {
        self.call(STATUS, ArrayParams::new()).await
    }

    /// The peers heard within five minutes, sorted by key.
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, MeshError> {
        let list: PeerList = self.call(PEERS_LIST, ArrayParams::new()).await?;
        let mut peers = list.peers;
        peers.sort_by(|left, right| left.pubkey.cmp(&right.pubkey));
        Ok(peers)
    }

    pub async fn peer(&self, key: &str) -> Result<PeerInfo, MeshError> {
        let mut params = ObjectParams::new();
        params.insert("pubkey", key).map_err(|source| MeshError::Protocol {
            path: self.path.to_path_buf(),
            method: PEERS_GET,
            source: source.into(),
        })?;
        self.call(PEERS_GET, params).await
    }

    pub async fn count(&self) -> Result<PeerCount, MeshError> {
        self.call(PEERS_COUNT, ArrayParams::new()).await
    }

    /// Everything of the local node. A Go daemon does not know this: [`MeshError::Unsupported`].
    pub async fn detail(&self) -> Result<MeshDetail, MeshError> {
        self.call(MESH_STATUS, ArrayParams::new()).await
    }

    /// Everything of every known peer, sorted by key. A Go daemon does not know this:
    /// [`MeshError::Unsupported`].
    pub async fn peer_details(&self) -> Result<Vec<MeshPeer>, MeshError> {
        let list: MeshPeers = self.call(MESH_PEERS, ArrayParams::new()).await?;
        let mut peers = list.peers;
        peers.sort_by(|left, right| left.info.pubkey.cmp(&right.info.pubkey));
        Ok(peers)
    }

    /// Has the daemon say goodbye to the mesh, remove its interface and end.
    pub async fn leave(&self) -> Result<(), MeshError> {
        let _: serde_json::Value = self.call(LEAVE, ArrayParams::new()).await?;
        Ok(())
    }

    /// Hands over an authority's word that a node is no member any more.
    pub async fn revoke(&self, revocation: &str) -> Result<(), MeshError> {
        let mut params = ObjectParams::new();
        params.insert("revocation", revocation).map_err(|source| MeshError::Protocol {
            path: self.path.to_path_buf(),
            method: REVOKE,
            source: source.into(),
        })?;
        let _: serde_json::Value = self.call(REVOKE, params).await?;
        Ok(())
    }

    /// Gives the daemon a new secret; both are accepted for so many seconds.
    pub async fn rotate(
        &self,
        secret: &str,
        grace_secs: i64,
    ) -> Result<RotationStarted, MeshError> {
        let mut params = ObjectParams::new();
        let inserted =
            params.insert("secret", secret).and_then(|()| params.insert("grace_secs", grace_secs));
        inserted.map_err(|source| MeshError::Protocol {
            path: self.path.to_path_buf(),
            method: ROTATE,
            source: source.into(),
        })?;
        self.call(ROTATE, params).await
    }

    /// Who has the mesh secret and is kept out, sorted by key.
    pub async fn kept_out(&self) -> Result<Vec<KeptOutPeer>, MeshError> {
        let list: KeptOutList = self.call(KEPT_OUT, ArrayParams::new()).await?;
        Ok(list.peers)
    }

    /// Follows the daemon's status on a connection of its own.
    pub async fn watch(&self) -> Result<MeshWatch, MeshError> {
        let client = self.connect().await?;
        let subscribing = client.subscribe::<MeshStatus, _>(WATCH, ArrayParams::new(), UNWATCH);
        match tokio::time::timeout(REQUEST_MAX, subscribing).await {
            Ok(Ok(statuses)) => Ok(MeshWatch { _client: client, statuses }),
            Ok(Err(error)) => Err(self.explain(WATCH, error)),
            Err(_) => Err(MeshError::Timeout { path: self.path.to_path_buf(), method: WATCH }),
        }
    }

    async fn call<R, P>(&self, method: &'static str, params: P) -> Result<R, MeshError>
    where
        R: DeserializeOwned,
        P: ToRpcParams + Send,
    {
        let client = self.connected().await?;
        // jsonrpsee's own deadline starts once the request is written: a daemon that does not
        // read would hold the caller for ever.
        let answer = tokio::time::timeout(REQUEST_MAX, client.request(method, params)).await;
        let error = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => self.explain(method, error),
            Err(_) => MeshError::Timeout { path: self.path.to_path_buf(), method },
        };
        if !matches!(error, MeshError::Refused { .. } | MeshError::Unsupported { .. }) {
            self.forget(&client).await;
        }
        Err(error)
    }

    async fn connected(&self) -> Result<Arc<Client>, MeshError> {
        let mut connection = self.connection.lock().await;
        if let Some(client) = connection.as_ref().filter(|client| client.is_connected()) {
            return Ok(Arc::clone(client));
        }
        let client = self.connect().await?;
        *connection = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn connect(&self) -> Result<Arc<Client>, MeshError> {
        let client = socket::connect(&self.path, REQUEST_MAX).await;
        let path = self.path.to_path_buf();
        client.map(Arc::new).map_err(|source| {
            let denied = std::io::ErrorKind::PermissionDenied;
            let is_denied = matches!(&source, SocketError::Io(error) if error.kind() == denied);
            let source = source.into();
            if is_denied {
                MeshError::Denied { path, source }
            } else {
                MeshError::Connect { path, source }
            }
        })
    }

    /// Drops a connection that went wrong, unless another call has replaced it already.
    async fn forget(&self, broken: &Arc<Client>) {
        let mut connection = self.connection.lock().await;
        if connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, broken)) {
            *connection = None;
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else jsonrpsee reports is one fault"
    )]
    fn explain(&self, method: &'static str, error: RpcError) -> MeshError {
        let path = self.path.to_path_buf();
        match error {
            RpcError::Call(refusal) if refusal.code() == METHOD_NOT_FOUND => {
                MeshError::Unsupported { path, method }
            }
            RpcError::Call(refusal) => MeshError::Refused {
                path,
                method,
                code: refusal.code(),
                message: refusal.message().chars().filter(|char| !char.is_control()).collect(),
            },
            RpcError::RequestTimeout => MeshError::Timeout { path, method },
            other => MeshError::Protocol { path, method, source: root_cause(other) },
        }
    }
}

/// The statuses of a daemon, from now on.
#[derive(Debug)]
pub struct MeshWatch {
    /// The subscription ends with the last handle of its client.
    _client: Arc<Client>,
    statuses: Subscription<MeshStatus>,
}

impl MeshWatch {
    /// The next status; the first comes at once. `None` when the daemon is gone.
    pub async fn next(&mut self) -> Option<MeshStatus> {
        self.statuses.next().await?.ok()
    }
}

/// Digs the transport's own words out of jsonrpsee's wrapping.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever else jsonrpsee reports is one fault")]
fn root_cause(error: RpcError) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        RpcError::RestartNeeded(inner) => match &*inner {
            RpcError::Transport(cause) => match cause.downcast_ref::<SocketError>() {
                Some(cause) => cause.to_string().into(),
                None => cause.to_string().into(),
            },
            other => other.to_string().into(),
        },
        RpcError::Transport(cause) => cause,
        other => other.into(),
    }
}
