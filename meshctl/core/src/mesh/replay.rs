//! Remembers nonces: a datagram counts once, and only from where it first came.
//!
//! The clock window is ±10 minutes, so 20 minutes of memory cover every datagram that opens.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::event::Now;
use crate::envelope::NONCE_LEN;

const MEMORY_MS: u64 = 20 * 60 * 1000;
const NONCES_MAX: usize = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    First,
    /// A Go daemon sends one HELLO up to 40 times: answer it again, learn nothing from it.
    AgainFromTheSame,
    /// Somebody re-sends what he overheard.
    FromElsewhere,
}

#[derive(Default)]
pub(super) struct Replay {
    /// Where each came from, and whether it is to be answered when it comes again.
    nonces: BTreeMap<[u8; NONCE_LEN], (SocketAddr, bool)>,
    by_age: VecDeque<(u64, [u8; NONCE_LEN])>,
}

impl Replay {
    pub(super) fn check(&mut self, nonce: [u8; NONCE_LEN], from: SocketAddr, now: Now) -> Seen {
        match self.nonces.get(&nonce) {
            Some((first, _)) if *first == from => return Seen::AgainFromTheSame,
            Some(_) => return Seen::FromElsewhere,
            None => {}
        }
        if self.by_age.len() >= NONCES_MAX
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.nonces.remove(&oldest);
        }
        self.nonces.insert(nonce, (from, false));
        self.by_age.push_back((now.mono_ms, nonce));
        Seen::First
    }

    /// This HELLO got a REPLY: whoever sends it again gets another.
    pub(super) fn answered(&mut self, nonce: [u8; NONCE_LEN]) {
        if let Some((_, answered)) = self.nonces.get_mut(&nonce) {
            *answered = true;
        }
    }

    pub(super) fn was_answered(&self, nonce: &[u8; NONCE_LEN]) -> bool {
        self.nonces.get(nonce).is_some_and(|(_, answered)| *answered)
    }

    pub(super) fn lapse(&mut self, now: Now) {
        while let Some((at, nonce)) = self.by_age.front().copied() {
            if at + MEMORY_MS > now.mono_ms {
                return;
            }
            self.by_age.pop_front();
            self.nonces.remove(&nonce);
        }
    }
}
