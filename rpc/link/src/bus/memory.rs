//! The bus within one process, for tests; it can fail on command.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use knit_rpc::subject;

use super::{Bus, BusError, BusState, Message, SUBSCRIPTION_MESSAGES_MAX};

/// One client of a broker in memory. Clones share the connection; [`MemoryBus::client`] makes
/// another one to the same broker.
#[derive(Clone)]
pub struct MemoryBus {
    broker: Arc<Mutex<Broker>>,
    state: Arc<watch::Sender<BusState>>,
}

#[derive(Default)]
struct Broker {
    subscriptions: Vec<Subscription>,
    newest: BTreeMap<String, Vec<u8>>,
    inboxes: u64,
}

struct Subscription {
    pattern: String,
    queue: mpsc::Sender<Message>,
    /// Whether its client is connected.
    state: watch::Receiver<BusState>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBus {
    pub fn new() -> Self {
        Self::on(Arc::default())
    }

    /// Another client of the same broker.
    #[must_use]
    pub fn client(&self) -> Self {
        Self::on(self.broker.clone())
    }

    /// Cuts this client off, or lets it back: what is sent to it meanwhile is lost.
    pub fn fail(&self, fail: bool) {
        self.state.send_replace(if fail {
            BusState::Disconnected { reason: "cut off on command".to_owned() }
        } else {
            BusState::Connected
        });
    }

    fn on(broker: Arc<Mutex<Broker>>) -> Self {
        Self { broker, state: Arc::new(watch::Sender::new(BusState::Connected)) }
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self) -> Result<(), BusError> {
        self.state.borrow().check()
    }
}

impl Broker {
    /// Hands a message to everybody who listens; answers how many there were.
    fn deliver(&mut self, message: &Message) -> usize {
        self.subscriptions.retain(|subscription| !subscription.queue.is_closed());
        self.subscriptions
            .iter()
            .filter(|to| *to.state.borrow() == BusState::Connected)
            .filter(|to| matches(&to.pattern, &message.subject))
            .filter(|to| to.queue.try_send(message.clone()).is_ok())
            .count()
    }

    fn listen(
        &mut self,
        pattern: &str,
        state: watch::Receiver<BusState>,
    ) -> mpsc::Receiver<Message> {
        let (queue, messages) = mpsc::channel(SUBSCRIPTION_MESSAGES_MAX);
        self.subscriptions.push(Subscription { pattern: pattern.to_owned(), queue, state });
        messages
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError> {
        self.connected()?;
        let message = Message { subject: subject.to_owned(), payload, reply: None };
        self.broker().deliver(&message);
        Ok(())
    }

    async fn request(
        &self,
        subject: &str,
        payload: Vec<u8>,
        after: Duration,
    ) -> Result<Vec<u8>, BusError> {
        self.connected()?;
        let mut answers = {
            let mut broker = self.broker();
            broker.inboxes += 1;
            let prefix = subject::node_of(subject)
                .map_or_else(|| "_INBOX".to_owned(), |node| subject::inbox_prefix(&node));
            let inbox = format!("{prefix}.{}", broker.inboxes);
            let answers = broker.listen(&inbox, self.state.subscribe());
            let message = Message { subject: subject.to_owned(), payload, reply: Some(inbox) };
            if broker.deliver(&message) == 0 {
                return Err(BusError::NoResponders { subject: subject.to_owned() });
            }
            answers
        };
        match timeout(after, answers.recv()).await {
            Ok(Some(answer)) => Ok(answer.payload),
            Ok(None) => Err(BusError::Closed),
            Err(_) => Err(BusError::Timeout { subject: subject.to_owned(), after }),
        }
    }

    async fn subscribe(&self, subject: &str) -> Result<mpsc::Receiver<Message>, BusError> {
        Ok(self.broker().listen(subject, self.state.subscribe()))
    }

    async fn put(&self, subject: &str, payload: Vec<u8>) -> Result<(), BusError> {
        self.connected()?;
        let mut broker = self.broker();
        broker.newest.insert(subject.to_owned(), payload.clone());
        broker.deliver(&Message { subject: subject.to_owned(), payload, reply: None });
        Ok(())
    }

    async fn last(&self, subject: &str) -> Result<Option<Vec<u8>>, BusError> {
        self.connected()?;
        Ok(self.broker().newest.get(subject).cloned())
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.subscribe()
    }
}

/// NATS' wildcards: `*` is one token, `>` is all that follow.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in pattern.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (token, Some(found)) if token == found => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_those_of_nats() {
        for (pattern, subject, fits) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b", "a", false),
        ] {
            assert_eq!(matches(pattern, subject), fits, "{pattern} {subject}");
        }
    }

    #[tokio::test]
    async fn a_client_that_is_cut_off_neither_sends_nor_receives() {
        let (here, there) = {
            let bus = MemoryBus::new();
            (bus.client(), bus)
        };
        let mut messages = here.subscribe("a.*").await.unwrap();
        here.fail(true);
        there.publish("a.1", vec![1]).await.unwrap();
        assert!(here.publish("a.2", vec![2]).await.is_err());
        here.fail(false);
        there.publish("a.3", vec![3]).await.unwrap();
        assert_eq!(messages.recv().await.unwrap().payload, [3]);
    }

    #[tokio::test]
    async fn the_newest_message_of_a_subject_is_kept() {
        let bus = MemoryBus::new();
        assert_eq!(bus.last("knit.tasks.x").await.unwrap(), None);
        bus.put("knit.tasks.x", vec![1]).await.unwrap();
        bus.put("knit.tasks.x", vec![2]).await.unwrap();
        assert_eq!(bus.last("knit.tasks.x").await.unwrap(), Some(vec![2]));
    }
}
