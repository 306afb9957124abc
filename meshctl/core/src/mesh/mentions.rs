//! What introducers say of peers: whom they could relay to, and how those are called.
//!
//! Hearsay makes no peer. It makes a HELLO, and where that finds nobody, it makes one who is reached
//! through the introducer alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::Now;
use super::membership::Member;
use crate::key::PublicKey;
use crate::message::HeardOf;

const MENTIONED_MAX: usize = 1000;
const INTRODUCERS_MAX: usize = 8;
/// An introducer tells of its peers in turn, and of some not for long.
const MENTION_MAX_MS: u64 = 600_000;
/// Whom a relayed hello did not find either is not made a peer again for so long.
const MEET_AGAIN_MS: u64 = 600_000;

pub(super) struct Mention {
    pub(super) told: HeardOf,
    /// What its certificate says, verified; introducers tell it to who asks.
    pub(super) member: Option<Arc<Member>>,
    /// When its certificate was asked for last.
    pub(super) asked_at: Option<u64>,
    pub(super) first_at: u64,
    /// Which introducers told of it, when, and whether they could relay.
    by: BTreeMap<PublicKey, (u64, bool)>,
    made_peer_at: Option<u64>,
}

impl Mention {
    /// The introducers that told of it, sorted by key.
    pub(super) fn tellers(&self) -> impl Iterator<Item = PublicKey> {
        self.by.keys().copied()
    }

    /// The introducers that could relay to it, sorted by key.
    pub(super) fn relays(&self) -> impl Iterator<Item = PublicKey> {
        self.by.iter().filter(|(_, (_, could))| *could).map(|(key, _)| *key)
    }

    /// Whether it may become a peer by hearsay; notes that it did.
    pub(super) fn may_make_peer(&mut self, now: Now) -> bool {
        let may = self.made_peer_at.is_none_or(|at| now.mono_ms >= at + MEET_AGAIN_MS);
        if may {
            self.made_peer_at = Some(now.mono_ms);
        }
        may
    }
}

#[derive(Default)]
pub(super) struct Mentions(BTreeMap<PublicKey, Mention>);

impl Mentions {
    /// An introducer told of a peer. A Go node does not say whether it has a tunnel to it.
    pub(super) fn heard(&mut self, introducer: PublicKey, told: &HeardOf, now: Now) {
        if self.0.len() >= MENTIONED_MAX && !self.0.contains_key(&told.key) {
            return;
        }
        let mention = self.0.entry(told.key).or_insert_with(|| Mention {
            told: told.clone(),
            member: None,
            asked_at: None,
            first_at: now.mono_ms,
            by: BTreeMap::new(),
            made_peer_at: None,
        });
        mention.told = told.clone();
        if mention.by.len() < INTRODUCERS_MAX || mention.by.contains_key(&introducer) {
            mention.by.insert(introducer, (now.mono_ms, told.live.unwrap_or(true)));
        }
    }

    pub(super) fn get(&self, key: &PublicKey) -> Option<&Mention> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut Mention> {
        self.0.get_mut(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&PublicKey, &Mention)> {
        self.0.iter()
    }

    /// How many peers an introducer has told of.
    pub(super) fn told_by(&self, introducer: &PublicKey) -> u64 {
        let told = self.0.values().filter(|mention| mention.by.contains_key(introducer)).count();
        u64::try_from(told).unwrap_or(u64::MAX)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.keys()
    }

    pub(super) fn lapse(&mut self, now: Now) {
        self.0.retain(|_, mention| {
            mention.by.retain(|_, (at, _)| *at + MENTION_MAX_MS > now.mono_ms);
            !mention.by.is_empty()
        });
    }
}
