//! The bus between server and agents: NATS in life, memory in tests.
//!
//! Everything on it is at-least-once with late arrivals. A time-out says nothing about delivery,
//! so every message can be taken twice.

mod memory;
mod nats;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

pub use memory::MemoryBus;
pub use nats::{NatsBus, NatsOptions};

/// Messages that wait for a subscriber, at most.
pub const SUBSCRIPTION_MESSAGES_MAX: usize = 4096;
/// How long one publish may take.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub payload: Vec<u8>,
    /// Subject to answer on, when an answer is wanted.
    pub reply: Option<String>,
}

/// Whether the bus carries messages now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusState {
    Connecting,
    Connected,
    Disconnected { reason: String },
}

impl BusState {
    /// Nothing, or why no message can be sent now.
    fn check(&self) -> Result<(), BusError> {
        let reason = match self {
            Self::Connected => return Ok(()),
            Self::Connecting => "still connecting",
            Self::Disconnected { reason } => reason,
        };
        Err(BusError::NotConnected { reason: reason.to_owned() })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("not connected to NATS: {reason}")]
    NotConnected { reason: String },
    #[error("the NATS connection could not be set up")]
    Connect(#[source] async_nats::ConnectError),
    #[error("the key for NATS is not an nkey seed")]
    Key(#[source] nkeys::error::Error),
    #[error("publishing on {subject} failed")]
    Publish { subject: String, source: async_nats::PublishError },
    #[error("storing a message on {subject} failed")]
    Put { subject: String, source: async_nats::jetstream::context::PublishError },
    #[error("{subject} gave no answer within {} ms", after.as_millis())]
    Timeout { subject: String, after: Duration },
    #[error("nobody listens on {subject}")]
    NoResponders { subject: String },
    #[error("asking on {subject} failed")]
    Request { subject: String, source: async_nats::RequestError },
    #[error("listening on {subject} failed")]
    Subscribe { subject: String, source: async_nats::SubscribeError },
    #[error("the stream of assignments could not be made")]
    Stream(#[source] async_nats::jetstream::context::CreateStreamError),
    #[error("reading the newest message on {subject} failed: {problem}")]
    Last { subject: String, problem: String },
    #[error("the bus is closed")]
    Closed,
}

/// What server and agents need of a bus.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends a message. Fails at once when not connected, within 2 s otherwise.
    async fn publish(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError>;

    /// Sends a message and waits for the answer.
    async fn request(
        &self,
        subject: &str,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, BusError>;

    /// Listens. The queue is bounded, goes on through reconnects and re-binds, and ends when the
    /// bus is closed.
    async fn subscribe(&self, subject: &str) -> Result<mpsc::Receiver<Message>, BusError>;

    /// Stores a message in the stream `KNIT_TASKS`, which keeps the newest of each subject.
    async fn put(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError>;

    /// The newest stored message on a subject.
    async fn last(&self, subject: &str) -> Result<Option<Vec<u8>>, BusError>;

    fn state(&self) -> watch::Receiver<BusState>;
}
