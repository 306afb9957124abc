//! The client's part of a rendezvous: to ask an introducer for a peer, and to try when it says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::effect::Effect;
use super::event::Now;
use super::peer::{Peer, Via};
use super::{HANDSHAKE_LIVE_MS, Mesh};
use crate::derive::pair_seed;
use crate::envelope::{Kind, Opened};
use crate::key::PublicKey;
use crate::message::rendezvous::{HeardStart, Offer, read_start};

/// A Go node asks in this part of each period, by the pair's seed, so that both of a pair do.
const PERIOD_SECS: u64 = 20;
const WINDOW_SECS: u64 = 4;
const INTRODUCERS_MAX: usize = 3;
/// The first tries follow at once, later ones wait for a window.
const EAGER_TRIES: u32 = 2;
const RETRY_MS: [u64; 4] = [8_200, 15_000, 30_000, 60_000];
/// However many peers are out of reach, no more are asked for at once.
const OFFER_PAUSE_MS: u64 = 250;
const OFFER_BURST_MS: u64 = 16 * OFFER_PAUSE_MS;
const PUNCHES_MAX: usize = 16;
const PUNCH_AGAIN_MS: u64 = 6_000;
const PUNCH_MS: u64 = 4_000;
const PUNCH_EVERY_MS: u64 = 300;
/// What a member can make us send to hosts of its choice.
const HELLO_PAUSE_MS: u64 = 50;
const HELLO_BURST_MS: u64 = 16 * HELLO_PAUSE_MS;
/// A handshake this soon after a punch is its doing.
const PUNCHED_MS: u64 = 30_000;

#[derive(Default)]
pub(super) struct Rendezvous {
    asked: BTreeMap<PublicKey, Asked>,
    punches: BTreeMap<PublicKey, Punch>,
    offers: Pace<OFFER_PAUSE_MS, OFFER_BURST_MS>,
    certificates: Pace<OFFER_PAUSE_MS, OFFER_BURST_MS>,
    hellos: Pace<HELLO_PAUSE_MS, HELLO_BURST_MS>,
}

struct Asked {
    tries: u32,
    next_at: u64,
}

struct Punch {
    start_at: u64,
    next_at: u64,
    candidates: Vec<SocketAddr>,
    has_begun: bool,
}

/// Bounds what may go out: `BURST / PAUSE` at once, then one each `PAUSE` milliseconds.
#[derive(Default)]
struct Pace<const PAUSE: u64, const BURST: u64> {
    full_at: u64,
}

impl<const PAUSE: u64, const BURST: u64> Pace<PAUSE, BURST> {
    fn take(&mut self, now: Now) -> bool {
        let full_at = self.full_at.max(now.mono_ms);
        let may = full_at + PAUSE <= now.mono_ms + BURST;
        if may {
            self.full_at = full_at + PAUSE;
        }
        may
    }
}

impl Rendezvous {
    /// Whether one more certificate may be asked for; notes that it is.
    pub(super) fn may_ask_for_certificate(&mut self, now: Now) -> bool {
        self.certificates.take(now)
    }
}

impl Mesh {
    /// Asks introducers for those that they know and that we have no direct tunnel with.
    pub(super) fn ask_introducers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.settings.no_punching || self.settings.introducer {
            return;
        }
        let is_wanted =
            |key: &&PublicKey| self.is_out_of_reach(key, now) || self.lacks_relay(key, now);
        let wanted: Vec<PublicKey> = self.mentions.keys().filter(is_wanted).copied().collect();
        self.rendezvous.asked.retain(|key, _| wanted.contains(key));
        for target in wanted {
            let introducers = self.introducers_for(&target, now);
            if introducers.is_empty() || !self.is_offer_due(&target, now) {
                continue;
            }
            for address in introducers {
                effects.push(self.offer(target, address, None, now));
            }
        }
    }

    fn is_offer_due(&mut self, target: &PublicKey, now: Now) -> bool {
        let seed = pair_seed(&self.settings.public_key, target);
        let unix = u64::try_from(now.unix).unwrap_or_default();
        let in_window = (unix + PERIOD_SECS - seed % PERIOD_SECS) % PERIOD_SECS < WINDOW_SECS;
        let fresh = Asked { tries: 0, next_at: now.mono_ms };
        let asked = self.rendezvous.asked.entry(*target).or_insert(fresh);
        let due = now.mono_ms >= asked.next_at && (in_window || asked.tries < EAGER_TRIES);
        if !due || !self.rendezvous.offers.take(now) {
            return false;
        }
        let index = usize::try_from(asked.tries).unwrap_or(usize::MAX).min(RETRY_MS.len() - 1);
        asked.next_at = now.mono_ms + RETRY_MS[index];
        asked.tries += 1;
        true
    }

    /// Whether a peer, or one that is only heard of, could do with a rendezvous.
    fn is_out_of_reach(&self, key: &PublicKey, now: Now) -> bool {
        *key != self.settings.public_key
            && self.peers.get(key).is_none_or(|peer| {
                !peer.is_live(now) && !peer.is_near(now) && peer.leaving_since.is_none()
            })
    }

    /// Whether a relay is wanted and no introducer is known that could: what they told may be old.
    fn lacks_relay(&self, key: &PublicKey, now: Now) -> bool {
        let wants = |peer: &Peer| peer.path.wants_relay() && peer.path.relay.is_none();
        self.peers.get(key).is_some_and(|peer| peer.is_active(now) && wants(peer))
    }

    /// Where those introducers are that both of a pair ask, the same for both.
    fn introducers_for(&self, target: &PublicKey, now: Now) -> Vec<SocketAddr> {
        let own = self.settings.public_key;
        let known: Vec<SocketAddr> = self
            .peers
            .all()
            .filter(|peer| peer.introducer && peer.key != *target && peer.is_active(now))
            .filter(|peer| !peer.vitals.is_unheard(now))
            .filter_map(|peer| Some(self.control_of(peer.endpoint_address()?.ip())))
            .collect();
        let count = u64::try_from(known.len()).unwrap_or(u64::MAX);
        let first = pair_seed(&own, target).checked_rem(count).unwrap_or_default();
        let first = usize::try_from(first).unwrap_or_default();
        known.iter().cycle().skip(first).take(known.len().min(INTRODUCERS_MAX)).copied().collect()
    }

    pub(super) fn offer(
        &self,
        target: PublicKey,
        to: SocketAddr,
        relay: Option<bool>,
        now: Now,
    ) -> Effect {
        let offer = Offer::new(self.settings.public_key, target, relay, now.unix);
        let plaintext = self.word(&offer);
        Effect::Send { to, kind: Kind::Offer, plaintext }
    }

    /// An introducer says when and where to try, or what the peer wants.
    pub(super) fn start_heard(&mut self, from: SocketAddr, opened: &Opened, now: Now) {
        let own = self.settings.public_key;
        let by = self.peers.all().find(|peer| {
            peer.introducer && peer.is_active(now) && self.is_from(&peer.key, from.ip())
        });
        let Some(by) = by.map(|peer| peer.key) else { return };
        if !self.is_own_word(&by, from, opened, now) {
            return;
        }
        let Some(start) = read_start(&opened.body, &own).filter(|start| start.peer != by) else {
            return;
        };
        if let Some(told) = &start.told {
            self.heard_of(by, told, now);
        }
        if let Some(wants_relay) = start.relay {
            if self.came_through_tunnel_of(&by, from.ip())
                && let Some(peer) = self.peers.get_mut(&start.peer)
            {
                peer.path.heard(wants_relay, by, now);
            }
        } else if !start.candidates.is_empty()
            && self.is_out_of_reach(&start.peer, now)
            && !self.settings.no_punching
        {
            self.schedule_punch(start, now);
        }
    }

    fn schedule_punch(&mut self, start: HeardStart, now: Now) {
        let candidates: Vec<SocketAddr> = start
            .candidates
            .into_iter()
            .filter(|candidate| self.is_underlay(candidate.ip()))
            .collect();
        let punches = &mut self.rendezvous.punches;
        let is_free = match punches.get(&start.peer) {
            Some(punch) => now.mono_ms >= punch.start_at + PUNCH_AGAIN_MS,
            None => punches.len() < PUNCHES_MAX,
        };
        if is_free {
            let start_at = now.mono_ms + start.start_in_ms;
            let punch = Punch { start_at, next_at: start_at, candidates, has_begun: false };
            punches.insert(start.peer, punch);
        }
    }

    /// Sends what is due towards peers that try at the same moment.
    pub(super) fn punch(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut punches = std::mem::take(&mut self.rendezvous.punches);
        punches.retain(|key, punch| {
            if now.mono_ms < punch.start_at {
                return true;
            }
            if !punch.has_begun {
                punch.has_begun = true;
                self.counters.punches += 1;
                effects.extend(self.shake_hands(key, now));
            }
            if let Some(peer) = self.peers.get_mut(key)
                && peer.handshake_at.is_some_and(|at| at >= punch.start_at)
            {
                peer.met(Via::Rendezvous);
                self.counters.punched += 1;
                return false;
            }
            let heard = self.peers.get(key).and_then(|peer| peer.message_at);
            let is_over = now.mono_ms >= punch.start_at + PUNCH_MS
                || heard.is_some_and(|at| at >= punch.start_at);
            if !is_over && now.mono_ms >= punch.next_at {
                punch.next_at = now.mono_ms + PUNCH_EVERY_MS;
                for candidate in &punch.candidates {
                    if self.rendezvous.hellos.take(now) {
                        let hello = self.hello(*candidate, now);
                        effects.push(hello);
                    }
                }
            }
            now.mono_ms < punch.start_at + PUNCHED_MS.min(HANDSHAKE_LIVE_MS)
        });
        punches.append(&mut self.rendezvous.punches);
        self.rendezvous.punches = punches;
    }

    /// Has the device begin a handshake now, towards where the introducer's own tunnel to the peer
    /// leads: behind a cone that is where everybody reaches it.
    fn shake_hands(&mut self, key: &PublicKey, now: Now) -> Option<Effect> {
        let told = self.mentions.get(key)?.told.endpoint;
        let endpoint = match told {
            crate::message::Claim::Address(address) => Some(address),
            crate::message::Claim::Source(_) | crate::message::Claim::Unusable => None,
        };
        let endpoint = endpoint.filter(|address| self.is_underlay(address.ip()));
        let peer = self.peers.get_mut(key)?;
        if let Some(endpoint) = endpoint {
            peer.offer_endpoint(endpoint, Via::Rendezvous, now);
        }
        let mut config = self.configured.get(key)?.clone();
        config.endpoint = peer.endpoint_address();
        self.configured.insert(*key, config.clone());
        Some(Effect::SetPeer(config))
    }
}
