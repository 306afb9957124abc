//! Whether a peer is reached directly or through an introducer, without flapping between the two.
//!
//! ```text
//!            no handshake for 8 s, or both NATs symmetric, or a tunnel that
//!            stood is silent for 35 s and the peer answers no probe
//!   direct ───────────────────────────────────────────────────────────> wants a relay
//!      ^                                                                     │
//!      └── a handshake since, and the pause is over: none the first time, ───┘
//!          then 30 s, doubled each time that the direct path fails again
//! ```
//!
//! Each of a pair tells the other what it wants, through the introducer. They are relayed while
//! either wants it: one that sends through the introducer is heard only if the other expects it.

use super::event::Now;
use crate::key::PublicKey;

/// A direct tunnel has this long to come up.
const TRIAL_MS: u64 = 8_000;
/// Both ends send a keepalive each 25 s: one that is silent for longer has no tunnel.
pub(super) const TUNNEL_SILENT_MS: u64 = 35_000;
const HOLD_MS: u64 = 30_000;
const HOLD_DOUBLINGS_MAX: u32 = 5;
/// A direct path that held for so long is trusted anew.
const PROVEN_MS: u64 = 600_000;
/// What the other wants is true until it says otherwise, or says nothing for so long.
const WORD_MAX_MS: u64 = 25_000;
pub(super) const WORD_EVERY_MS: u64 = 10_000;
/// That the direct path is good is said this often, at this pace: one lost word would cost 25 s.
const GOOD_WORDS: u8 = 3;
const GOOD_WORD_EVERY_MS: u64 = 1_000;

/// What is known of a peer's direct path.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Facts {
    /// The peer is an introducer, or we are, or we share a LAN: there is nothing to relay.
    pub(super) is_near: bool,
    pub(super) is_forced: bool,
    pub(super) both_symmetric: bool,
    pub(super) handshake_at: Option<u64>,
    pub(super) is_live: bool,
    /// When something last came through the direct tunnel.
    pub(super) received_at: Option<u64>,
    pub(super) is_unheard: bool,
}

/// What the other end said last.
#[derive(Debug, Clone, Copy)]
struct Word {
    wants_relay: bool,
    /// The introducer that handed it on.
    by: PublicKey,
    at: u64,
}

#[derive(Debug, Clone)]
pub(super) struct PathState {
    wants_relay: bool,
    since: u64,
    failures: u32,
    theirs: Option<Word>,
    /// Through whom; directly when none.
    pub(super) relay: Option<PublicKey>,
    pub(super) relay_since: u64,
    said_at: Option<u64>,
    good_words: u8,
}

impl PathState {
    pub(super) fn new(now: Now) -> Self {
        Self {
            wants_relay: false,
            since: now.mono_ms,
            failures: 0,
            theirs: None,
            relay: None,
            relay_since: now.mono_ms,
            said_at: None,
            good_words: 0,
        }
    }

    /// Begins the direct trial anew, or as if it had begun then.
    pub(super) fn tried_since(&mut self, at: u64) {
        self.since = self.since.min(at);
    }

    pub(super) fn heard(&mut self, wants_relay: bool, by: PublicKey, now: Now) {
        self.theirs = Some(Word { wants_relay, by, at: now.mono_ms });
    }

    pub(super) fn wants_relay(&self) -> bool {
        self.wants_relay
    }

    /// Through whom the other end said that it is relayed, if it still is.
    pub(super) fn their_relay(&self, now: Now) -> Option<PublicKey> {
        let word = self.theirs.filter(|word| word.wants_relay)?;
        (now.mono_ms < word.at + WORD_MAX_MS).then_some(word.by)
    }

    /// Takes the facts in; returns whether the peer should be relayed now.
    pub(super) fn decide(&mut self, facts: Facts, now: Now) -> bool {
        let wanted = self.wants_relay;
        self.wants_relay = self.wish(facts, now);
        if wanted != self.wants_relay {
            let held = now.mono_ms.saturating_sub(self.since);
            if self.wants_relay && facts.handshake_at.is_some() {
                self.failures = if held >= PROVEN_MS { 1 } else { self.failures + 1 };
            }
            self.since = now.mono_ms;
            self.said_at = None;
            self.good_words = if self.wants_relay { 0 } else { GOOD_WORDS };
        }
        !facts.is_near && (self.wants_relay || self.their_relay(now).is_some())
    }

    fn wish(&self, facts: Facts, now: Now) -> bool {
        if facts.is_near || facts.is_forced {
            return facts.is_forced && !facts.is_near;
        }
        let received_at = facts.received_at.max(facts.handshake_at).unwrap_or_default();
        let is_silent = now.mono_ms >= received_at + TUNNEL_SILENT_MS;
        if self.wants_relay {
            let is_new = facts.handshake_at.is_some_and(|at| at > self.since);
            let is_proven = facts.is_live && is_new && !is_silent;
            return !(is_proven && now.mono_ms >= self.since + self.hold_ms());
        }
        if facts.is_live {
            return facts.is_unheard && is_silent;
        }
        facts.both_symmetric || facts.handshake_at.is_some() || now.mono_ms >= self.since + TRIAL_MS
    }

    /// How long a relay stays before the direct path gets another chance.
    fn hold_ms(&self) -> u64 {
        match self.failures {
            0 => 0,
            failures => HOLD_MS << (failures - 1).min(HOLD_DOUBLINGS_MAX),
        }
    }

    /// What the other end is to be told now, if anything.
    pub(super) fn word_due(&mut self, now: Now) -> Option<bool> {
        let every = if self.wants_relay { WORD_EVERY_MS } else { GOOD_WORD_EVERY_MS };
        let is_due = self.said_at.is_none_or(|at| now.mono_ms >= at + every);
        if !is_due || !(self.wants_relay || self.good_words > 0) {
            return None;
        }
        self.said_at = Some(now.mono_ms);
        self.good_words = self.good_words.saturating_sub(1);
        Some(self.wants_relay)
    }

    /// Takes the path that was found; a new one is told at once.
    pub(super) fn set_relay(&mut self, relay: Option<PublicKey>, now: Now) -> bool {
        let changed = self.relay != relay;
        if changed {
            self.relay = relay;
            self.relay_since = now.mono_ms;
            self.said_at = None;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_000_000;

    fn at(ms: u64) -> Now {
        Now { mono_ms: START_MS + ms, unix: 0 }
    }

    /// Lives `secs` seconds, one by one; returns when the path changed.
    fn live(
        path: &mut PathState,
        secs: std::ops::Range<u64>,
        facts: impl Fn(u64) -> Facts,
    ) -> Vec<u64> {
        let mut changes = Vec::new();
        let mut before = path.wants_relay;
        for sec in secs {
            let relayed = path.decide(facts(sec), at(sec * 1000));
            if relayed != before {
                changes.push(sec);
                before = relayed;
            }
        }
        changes
    }

    fn handshake(sec: u64) -> Facts {
        let handshake_at = Some(START_MS + sec * 1000);
        Facts { is_live: true, handshake_at, received_at: handshake_at, ..Facts::default() }
    }

    #[test]
    fn a_direct_path_has_its_trial_and_its_return_stays() {
        let mut path = PathState::new(at(0));
        let changes = live(&mut path, 0..120, |sec| match sec {
            0..30 => Facts::default(),
            // A keepalive each 25 s.
            _ => Facts {
                received_at: Some(START_MS + (30 + (sec - 30) / 25 * 25) * 1000),
                is_unheard: sec % 25 > 20,
                ..handshake(30)
            },
        });
        assert_eq!(
            changes,
            [8, 30],
            "relayed after its trial, direct with the handshake, and so it stays"
        );
    }

    #[test]
    fn who_needs_no_trial_gets_none() {
        for (facts, expected) in [
            (Facts { both_symmetric: true, ..Facts::default() }, true),
            (Facts { is_forced: true, ..handshake(0) }, true),
            (Facts { is_forced: true, is_near: true, ..Facts::default() }, false),
            (Facts { both_symmetric: true, ..handshake(0) }, false),
            // The tunnel of an earlier time is over.
            (Facts { is_live: false, ..handshake(0) }, true),
            (Facts { is_unheard: true, ..handshake(0) }, false),
        ] {
            assert_eq!(PathState::new(at(0)).decide(facts, at(1)), expected, "{facts:?}");
        }
    }

    /// Handshakes pass and nothing else does: the worst that a path can do.
    #[test]
    fn a_path_that_keeps_failing_is_tried_less_and_less() {
        let mut path = PathState::new(at(0));
        let changes = live(&mut path, 0..3600, |sec| {
            // A handshake every 15 s, as long as nothing answers.
            let last = sec / 15 * 15;
            let received_at = Some(START_MS.saturating_sub(1));
            let is_unheard = sec > 10;
            Facts { received_at, is_unheard, handshake_at: Some(START_MS), ..handshake(last) }
        });
        let mut path_two = PathState::new(at(0));
        let flapping = live(&mut path_two, 0..3600, |sec| {
            let last = START_MS + sec / 100 * 100_000;
            let handshake_at = Some(last);
            let is_unheard = sec % 100 > 10;
            Facts { received_at: handshake_at, is_unheard, handshake_at, ..handshake(0) }
        });
        assert_eq!(changes, [35], "a handshake of before proves nothing: {changes:?}");
        assert!(flapping.len() <= 16, "{} changes in an hour: {flapping:?}", flapping.len());
    }

    #[test]
    fn either_end_has_them_relayed_and_each_is_told() {
        let by = PublicKey::from_bytes([7; 32]);
        let mut path = PathState::new(at(0));
        assert!(!path.decide(handshake(0), at(0)));
        path.heard(true, by, at(100));
        assert!(path.decide(handshake(0), at(200)), "the other wants it");
        assert_eq!(path.their_relay(at(200)), Some(by));
        assert_eq!(path.word_due(at(200)), None, "we do not");
        assert!(!path.decide(handshake(0), at(25_100)), "a word lapses");
        path.heard(true, by, at(26_000));
        path.heard(false, by, at(27_000));
        assert!(!path.decide(handshake(0), at(27_000)), "and can be taken back");

        let mut path = PathState::new(at(0));
        path.decide(Facts::default(), at(8_000));
        let said: Vec<u64> =
            (8..30).filter(|sec| path.word_due(at(sec * 1000)) == Some(true)).collect();
        assert_eq!(said, [8, 18, 28]);
        path.decide(handshake(30), at(30_500));
        let said: Vec<u64> =
            (31..60).filter(|sec| path.word_due(at(sec * 1000)) == Some(false)).collect();
        assert_eq!(said, [31, 32, 33]);
    }
}
