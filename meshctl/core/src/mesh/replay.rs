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
    nonces: BTreeMap<[u8; NONCE_LEN], SocketAddr>,
    by_age: VecDeque<(u64, [u8; NONCE_LEN])>,
}

impl Replay {
    pub(super) fn check(&mut self, nonce: [u8; NONCE_LEN], from: SocketAddr, now: Now) -> Seen {
        match self.nonces.get(&nonce) {
            Some(first) if *first == from => return Seen::AgainFromTheSame,
            Some(_) => return Seen::FromElsewhere,
            None => {}
        }
        if self.by_age.len() >= NONCES_MAX
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.nonces.remove(&oldest);
        }
        self.nonces.insert(nonce, from);
        self.by_age.push_back((now.mono_ms, nonce));
        Seen::First
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
