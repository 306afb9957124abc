//! The bus on a real NATS server.
//!
//! ```text
//!  NatsBus ── Link (one client, bound to one local address) ── nats-server
//!     │          └ forwarder per subscription ──> its bounded queue
//!     └ rebind: a new Link takes the subscriptions over, the old one is dropped
//! ```
//!
//! async-nats fixes the local address of a client for its life, so a host whose mesh address moves
//! gets a new client. Inside one client, reconnecting is async-nats' own business: for ever, at
//! most a second apart.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, RequestErrorKind, ServerError};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use knit_rpc::subject;
use nkeys::KeyPair;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{Bus, BusError, BusState, Message, PUBLISH_TIMEOUT, SUBSCRIPTION_MESSAGES_MAX};

/// Bytes of one message, at most.
const MESSAGE_BYTES_MAX: i32 = 8 * 1024 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);
/// A client that never connected does not notice that it was dropped: its next try is put off.
const NEVER: Duration = Duration::from_hours(24 * 365);
const LAST_TIMEOUT: Duration = Duration::from_secs(3);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How to reach NATS, and as whom.
#[derive(Clone)]
pub struct NatsOptions {
    /// Shown in the server's connection list.
    pub name: String,
    /// For example `nats://10.45.75.206:7422`.
    pub url: String,
    /// Address that the connection leaves from.
    pub local_address: Option<Ipv4Addr>,
    /// Prefix of reply subjects.
    pub inbox_prefix: Option<String>,
    /// `S…`.
    pub nkey_seed: String,
    /// Read at each connect, so that a renewed token is used without a new client.
    pub jwt: watch::Receiver<String>,
    /// File with the certificates in PEM that NATS' own must be signed by, for a URL of `tls://`.
    /// The system's when there is none.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsOptions")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("local_address", &self.local_address)
            .finish_non_exhaustive()
    }
}

/// A bus on NATS; cheap to clone.
#[derive(Clone)]
pub struct NatsBus {
    shared: Arc<Shared>,
}

struct Shared {
    options: NatsOptions,
    key: Arc<KeyPair>,
    state: Arc<watch::Sender<BusState>>,
    link: RwLock<Option<Link>>,
    subscriptions: RwLock<Vec<Subscription>>,
}

/// One client and what hangs on it.
struct Link {
    client: Client,
    forwarders: Vec<AbortHandle>,
    /// Events of a link that was replaced say nothing about the bus any more.
    current: watch::Sender<bool>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.current.send_replace(false);
        for forwarder in &self.forwarders {
            forwarder.abort();
        }
    }
}

#[derive(Clone)]
struct Subscription {
    subject: String,
    queue: mpsc::Sender<Message>,
}

impl NatsBus {
    /// Returns at once and connects in the background, for ever.
    pub async fn connect(options: NatsOptions) -> Result<Self, BusError> {
        let key = Arc::new(KeyPair::from_seed(&options.nkey_seed).map_err(BusError::Key)?);
        let state = Arc::new(watch::Sender::new(BusState::Connecting));
        let (url, local) = (options.url.clone(), options.local_address);
        let bus = Self {
            shared: Arc::new(Shared {
                options,
                key,
                state,
                link: RwLock::new(None),
                subscriptions: RwLock::new(Vec::new()),
            }),
        };
        bus.rebind(&url, local).await?;
        Ok(bus)
    }

    /// Moves the bus to another server address or local address; subscriptions go along.
    pub async fn rebind(&self, url: &str, local_address: Option<Ipv4Addr>) -> Result<(), BusError> {
        let current = watch::Sender::new(true);
        self.shared.state.send_replace(BusState::Connecting);
        let options = self.shared.connect_options(url, local_address, current.subscribe());
        let client = options.connect(url).await.map_err(BusError::Connect)?;
        let mut link = Link { client, forwarders: Vec::new(), current };
        let subscriptions: Vec<_> = read(&self.shared.subscriptions).clone();
        for subscription in subscriptions {
            link.forwarders.push(forward(&link.client, subscription).await?);
        }
        let old = write(&self.shared.link).replace(link);
        drop(old);
        Ok(())
    }

    /// Makes the stream that keeps each node's newest assignment. For the server only.
    pub async fn ensure_tasks_stream(&self) -> Result<(), BusError> {
        let context = jetstream::new(self.client()?);
        let config = stream::Config {
            name: subject::TASKS_STREAM.to_owned(),
            subjects: vec![subject::ALL_TASKS.to_owned()],
            max_messages_per_subject: 1,
            max_message_size: MESSAGE_BYTES_MAX,
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::Old,
            allow_direct: true,
            ..Default::default()
        };
        context.get_or_create_stream(config).await.map_err(BusError::Stream)?;
        Ok(())
    }

    /// Sends what waits and ends; subscriptions end too.
    pub async fn close(&self) {
        let link = write(&self.shared.link).take();
        write(&self.shared.subscriptions).clear();
        if let Some(link) = link {
            drop(timeout(CLOSE_TIMEOUT, link.client.drain()).await);
        }
        self.shared.state.send_replace(BusState::Disconnected { reason: "closed".to_owned() });
    }

    fn client(&self) -> Result<Client, BusError> {
        read(&self.shared.link).as_ref().map(|link| link.client.clone()).ok_or(BusError::Closed)
    }

    /// The client, if it is connected: async-nats would queue and then block.
    fn connected(&self) -> Result<Client, BusError> {
        self.shared.state.borrow().check()?;
        self.client()
    }
}

impl Shared {
    fn connect_options(
        &self,
        url: &str,
        local_address: Option<Ipv4Addr>,
        current: watch::Receiver<bool>,
    ) -> ConnectOptions {
        let (key, jwt) = (self.key.clone(), self.options.jwt.clone());
        let state = self.state.clone();
        let wanted = current.clone();
        let mut options =
            ConnectOptions::with_auth_callback(move |nonce| {
                let (key, jwt) = (key.clone(), jwt.borrow().clone());
                async move { authenticate(&key, jwt, &nonce) }
            })
            .name(&self.options.name)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ignore_discovered_servers()
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .reconnect_delay_callback(move |attempt| {
                if *wanted.borrow() { reconnect_delay(attempt) } else { NEVER }
            })
            .event_callback(move |event| {
                if *current.borrow() {
                    follow(&state, event);
                }
                std::future::ready(())
            });
        if let Some(prefix) = &self.options.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        if url.starts_with("tls://") {
            options = options.require_tls(true);
            if let Some(ca) = self.options.ca.as_ref().filter(|ca| ca.exists()) {
                options = options.add_root_certificates(ca.clone());
            }
        }
        if let Some(address) = local_address {
            options = options.local_address(SocketAddr::from((address, 0)));
        }
        options
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError> {
        let client = self.connected()?;
        let sent = client.publish(subject.to_owned(), payload.into());
        match timeout(PUBLISH_TIMEOUT, sent).await {
            Ok(sent) => {
                sent.map_err(|source| BusError::Publish { subject: subject.to_owned(), source })
            }
            Err(_) => Err(timed_out(subject, PUBLISH_TIMEOUT)),
        }
    }

    async fn request(
        &self,
        subject: &str,
        payload: Vec<u8>,
        after: Duration,
    ) -> Result<Vec<u8>, BusError> {
        let client = self.connected()?;
        let request = async_nats::Request::new().payload(payload.into()).timeout(Some(after));
        let answer = client.send_request(subject.to_owned(), request).await;
        answer.map(|message| message.payload.into()).map_err(|source| match source.kind() {
            RequestErrorKind::TimedOut => timed_out(subject, after),
            RequestErrorKind::NoResponders => {
                BusError::NoResponders { subject: subject.to_owned() }
            }
            RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => BusError::Request { subject: subject.to_owned(), source },
        })
    }

    async fn subscribe(&self, subject: &str) -> Result<mpsc::Receiver<Message>, BusError> {
        let (queue, messages) = mpsc::channel(SUBSCRIPTION_MESSAGES_MAX);
        let subscription = Subscription { subject: subject.to_owned(), queue };
        let client = self.client()?;
        let forwarder = forward(&client, subscription.clone()).await?;
        write(&self.shared.subscriptions).push(subscription);
        match write(&self.shared.link).as_mut() {
            Some(link) => link.forwarders.push(forwarder),
            None => forwarder.abort(),
        }
        Ok(messages)
    }

    async fn put(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError> {
        let failed = |source| BusError::Put { subject: subject.to_owned(), source };
        let context = jetstream::new(self.connected()?);
        let stored = context.publish(subject.to_owned(), payload.into()).await.map_err(failed)?;
        stored.await.map_err(failed)?;
        Ok(())
    }

    async fn last(&self, subject: &str) -> Result<Option<Vec<u8>>, BusError> {
        let asked = format!("$JS.API.DIRECT.GET.{}.{subject}", subject::TASKS_STREAM);
        let client = self.connected()?;
        let request = async_nats::Request::new().payload("".into()).timeout(Some(LAST_TIMEOUT));
        let failed = |problem: String| BusError::Last { subject: subject.to_owned(), problem };
        let message =
            client.send_request(asked, request).await.map_err(|error| failed(error.to_string()))?;
        match message.status {
            None => Ok(Some(message.payload.into())),
            Some(async_nats::StatusCode::NOT_FOUND) => Ok(None),
            Some(status) => Err(failed(format!(
                "{status} {}",
                message.description.as_deref().unwrap_or_default()
            ))),
        }
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.shared.state.subscribe()
    }
}

fn authenticate(key: &KeyPair, jwt: String, nonce: &[u8]) -> Result<Auth, AuthError> {
    let mut auth = Auth::new();
    auth.signature = Some(key.sign(nonce).map_err(AuthError::new)?);
    auth.jwt = Some(jwt);
    Ok(auth)
}

/// 50 ms doubling to 1 s: a restarted server is found again within a second.
fn reconnect_delay(attempt: usize) -> Duration {
    let doubled = 50_u64.saturating_mul(1 << attempt.min(10));
    Duration::from_millis(doubled).min(RECONNECT_DELAY_MAX)
}

/// Keeps the state in step with what async-nats says.
fn follow(state: &watch::Sender<BusState>, event: Event) {
    let disconnected = |reason: String| {
        state.send_if_modified(|state| {
            let next = BusState::Disconnected { reason };
            let changed = *state != next;
            *state = next;
            changed
        });
    };
    match event {
        Event::Connected => {
            state.send_replace(BusState::Connected);
        }
        Event::Disconnected => disconnected("the connection was lost".to_owned()),
        Event::Closed => disconnected("the connection was closed".to_owned()),
        Event::ServerError(ServerError::AuthorizationViolation) => {
            disconnected("authorization violation".to_owned());
        }
        Event::ServerError(ServerError::Other(text)) => {
            // A refused publish or subscription is a fault of ours: it must not pass unseen.
            tracing::error!(error = %text, "NATS refused something");
            if text.to_ascii_lowercase().contains("authentication") {
                disconnected(text);
            }
        }
        Event::ServerError(ServerError::SlowConsumer(_)) | Event::SlowConsumer(_) => {
            tracing::warn!("a subscription is too slow; messages were dropped");
        }
        Event::ClientError(error) => tracing::debug!(%error, "NATS connection"),
        Event::LameDuckMode | Event::Draining => {}
    }
}

/// Carries one subscription's messages into its queue, for the life of a client.
async fn forward(client: &Client, to: Subscription) -> Result<AbortHandle, BusError> {
    let mut messages = client
        .subscribe(to.subject.clone())
        .await
        .map_err(|source| BusError::Subscribe { subject: to.subject.clone(), source })?;
    let task = tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let message = Message {
                subject: message.subject.to_string(),
                payload: message.payload.into(),
                reply: message.reply.map(|reply| reply.to_string()),
            };
            if to.queue.send(message).await.is_err() {
                break;
            }
        }
    });
    Ok(task.abort_handle())
}

fn timed_out(subject: &str, after: Duration) -> BusError {
    BusError::Timeout { subject: subject.to_owned(), after }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
