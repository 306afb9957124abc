//! What happened, for whoever watches: the last events, and each new one as it comes.
//!
//! Invariant: a watcher that is too slow loses events and is cut off; it never holds up a loop.

use std::collections::VecDeque;
use std::sync::Mutex;

use knit_rpc::Timestamp;
use knit_rpc::event::{Event, EventKind};
use tokio::sync::broadcast;

/// Events that are kept for watchers that come back.
const EVENTS_KEPT_MAX: usize = 1024;

/// The events of this server's life.
pub struct Feed {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Event>,
}

struct Kept {
    next: u64,
    events: VecDeque<Event>,
}

impl Default for Feed {
    fn default() -> Self {
        let (live, _) = broadcast::channel(EVENTS_KEPT_MAX);
        Self { kept: Mutex::new(Kept { next: 1, events: VecDeque::new() }), live }
    }
}

impl Feed {
    /// Tells everybody.
    pub fn tell(&self, at: Timestamp, kind: EventKind) {
        let Ok(mut kept) = self.kept.lock() else { return };
        let event = Event { sequence: kept.next, at, kind };
        kept.next += 1;
        if kept.events.len() == EVENTS_KEPT_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Nobody listening is fine.
        let _ = self.live.send(event);
    }

    /// The kept events after `after` (none without it), and all that follow, without a gap.
    pub fn watch(&self, after: Option<u64>) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let Ok(kept) = self.kept.lock() else { return (Vec::new(), self.live.subscribe()) };
        // A number from a former life of the server: all of this life is news.
        let after = after.map(|after| if after >= kept.next { 0 } else { after });
        let missed = match after {
            Some(after) => {
                kept.events.iter().filter(|event| event.sequence > after).cloned().collect()
            }
            None => Vec::new(),
        };
        (missed, self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u8) -> EventKind {
        EventKind::NodeChanged {
            node: knit_rpc::id::NodeId::from_bytes([n; 16]),
            name: String::new(),
            state: "ready".into(),
        }
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_once() {
        let feed = Feed::default();
        for n in 0..5 {
            feed.tell(Timestamp::from_millis(1), event(n));
        }
        let numbers =
            |after| feed.watch(after).0.iter().map(|event| event.sequence).collect::<Vec<_>>();
        assert_eq!(numbers(None), [0; 0]);
        assert_eq!(numbers(Some(0)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(Some(3)), [4, 5]);
        assert_eq!(numbers(Some(5)), [0; 0]);
        assert_eq!(numbers(Some(99)), [1, 2, 3, 4, 5], "a number from a former life");
    }

    #[test]
    fn only_the_last_events_are_kept() {
        let feed = Feed::default();
        for _ in 0..EVENTS_KEPT_MAX + 10 {
            feed.tell(Timestamp::from_millis(1), event(1));
        }
        let (missed, _) = feed.watch(Some(0));
        assert_eq!((missed.len(), missed[0].sequence), (EVENTS_KEPT_MAX, 11));
    }
}
