//! Whom to say HELLO to before he is a peer: the user's seeds, and those we only heard of.
//!
//! Hearsay never makes a peer. It makes a HELLO, and who answers is a peer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::event::Now;
use crate::key::PublicKey;

const HEARSAY_MAX: usize = 1000;
const HEARSAY_TRIES: u32 = 5;
const HEARSAY_FORGET_MS: u64 = 60_000;
/// Hearsay is greeted at this pace at most: whoever tells of hosts does not aim us at them.
const HEARSAY_PAUSE_MS: u64 = 30;
const HEARSAY_BURST_MS: u64 = 32 * HEARSAY_PAUSE_MS;
const HEARSAY_HOST_EVERY_MS: u64 = 500;
/// A REPLY this long after the last HELLO to its sender answers nothing.
const ASKED_MAX_MS: u64 = 10_000;
const SEED_KNOWN_EVERY_MS: u64 = 45_000;

#[derive(Default)]
pub(super) struct Contacts {
    seeds: BTreeMap<SocketAddr, Seed>,
    hearsay: BTreeMap<PublicKey, Hearsay>,
    /// When each address last got a HELLO of whatever reason.
    greeted: BTreeMap<SocketAddr, u64>,
    /// Whom a HELLO went to, when.
    asked: BTreeMap<SocketAddr, u64>,
    /// When hearsay may be greeted with a full burst again.
    hearsay_full_at: u64,
}

struct Seed {
    /// HELLOs since it last answered.
    tries: u32,
    next_at: u64,
    answered_at: Option<u64>,
}

/// A seed as `meshctl status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedView {
    pub address: SocketAddr,
    /// How long ago it last said something, in milliseconds; `None` when it never did.
    pub answered_ms_ago: Option<u64>,
}

struct Hearsay {
    control: SocketAddr,
    tries: u32,
    next_at: u64,
}

impl Contacts {
    /// Replaces the seeds; those that stay keep their pace.
    pub(super) fn set_seeds(&mut self, addresses: &[SocketAddr], now: Now) {
        self.seeds.retain(|address, _| addresses.contains(address));
        for address in addresses {
            self.seeds.entry(*address).or_insert(Seed {
                tries: 0,
                next_at: now.mono_ms,
                answered_at: None,
            });
        }
    }

    /// A message came from this address: it needs no hurry any more.
    pub(super) fn answered(&mut self, key: &PublicKey, from: SocketAddr, now: Now) {
        self.hearsay.remove(key);
        if let Some(seed) = self.seeds.get_mut(&from) {
            let next_at = now.mono_ms + SEED_KNOWN_EVERY_MS;
            *seed = Seed { tries: 0, next_at, answered_at: Some(now.mono_ms) };
        }
    }

    pub(super) fn seeds(&self, now: Now) -> Vec<SeedView> {
        let view = |(address, seed): (&SocketAddr, &Seed)| SeedView {
            address: *address,
            answered_ms_ago: seed.answered_at.map(|at| now.mono_ms.saturating_sub(at)),
        };
        self.seeds.iter().map(view).collect()
    }

    /// Whether the user named this host.
    pub(super) fn is_seed(&self, host: IpAddr) -> bool {
        self.seeds.keys().any(|address| address.ip() == host)
    }

    /// Another node named this one.
    pub(super) fn hear_of(&mut self, key: PublicKey, control: SocketAddr, now: Now) {
        if self.hearsay.len() < HEARSAY_MAX {
            let fresh = Hearsay { control, tries: 0, next_at: now.mono_ms };
            self.hearsay.entry(key).or_insert(fresh);
        }
    }

    /// Whether an address may be greeted now although no timer asks for it; notes that it was.
    pub(super) fn may_greet(&mut self, address: SocketAddr, every_ms: u64, now: Now) -> bool {
        let due = self.greeted.get(&address).is_none_or(|at| at + every_ms <= now.mono_ms);
        if due {
            self.greeted.insert(address, now.mono_ms);
        }
        due
    }

    pub(super) fn asked(&mut self, address: SocketAddr, now: Now) {
        self.asked.retain(|_, at| *at + ASKED_MAX_MS > now.mono_ms);
        self.asked.insert(address, now.mono_ms);
    }

    /// Whether a REPLY from there answers a HELLO of ours.
    pub(super) fn was_asked(&self, address: SocketAddr, now: Now) -> bool {
        self.asked.get(&address).is_some_and(|at| at + ASKED_MAX_MS > now.mono_ms)
    }

    fn may_greet_hearsay(&mut self, control: SocketAddr, now: Now) -> bool {
        let full_at = self.hearsay_full_at.max(now.mono_ms);
        let admitted = full_at + HEARSAY_PAUSE_MS <= now.mono_ms + HEARSAY_BURST_MS
            && self.may_greet(control, HEARSAY_HOST_EVERY_MS, now);
        if admitted {
            self.hearsay_full_at = full_at + HEARSAY_PAUSE_MS;
        }
        admitted
    }

    /// Who is to be greeted now.
    pub(super) fn due(&mut self, now: Now) -> Vec<SocketAddr> {
        self.greeted.retain(|_, at| *at + HEARSAY_FORGET_MS > now.mono_ms);
        let mut to = Vec::new();
        for (address, seed) in &mut self.seeds {
            if seed.next_at <= now.mono_ms {
                seed.next_at = now.mono_ms + seed_pause_ms(seed.tries);
                seed.tries = seed.tries.saturating_add(1);
                to.push(*address);
            }
        }
        let mut hearsay = std::mem::take(&mut self.hearsay);
        hearsay.retain(|_, one| {
            if one.next_at > now.mono_ms {
                return true;
            }
            if one.tries < HEARSAY_TRIES {
                if !self.may_greet_hearsay(one.control, now) {
                    return true;
                }
                to.push(one.control);
            }
            // After the last try the entry only keeps the next mention from starting anew.
            one.tries += 1;
            one.next_at = now.mono_ms
                + if one.tries < HEARSAY_TRIES { 500 << one.tries } else { HEARSAY_FORGET_MS };
            one.tries <= HEARSAY_TRIES + 1
        });
        self.hearsay = hearsay;
        to
    }
}

/// Fast while the seed may be starting just now, then patient, never slower than 5 s.
fn seed_pause_ms(tries: u32) -> u64 {
    match tries {
        0..8 => 250,
        8..30 => 1_000,
        _ => 5_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix: 0 }
    }

    #[test]
    fn a_silent_seed_is_greeted_often_at_first_and_for_ever() {
        let seed: SocketAddr = "192.0.2.1:52448".parse().unwrap();
        let mut contacts = Contacts::default();
        contacts.set_seeds(&[seed], at(0));
        let greeted = |contacts: &mut Contacts, from: u64, to: u64| -> usize {
            (from..to).step_by(50).map(|ms| contacts.due(at(ms)).len()).sum()
        };
        assert_eq!(greeted(&mut contacts, 0, 2_000), 8);
        assert!(greeted(&mut contacts, 2_000, 60_000) > 20);
        assert_eq!(greeted(&mut contacts, 100_000, 160_000), 12);

        let key = PublicKey::from_bytes([1; 32]);
        contacts.answered(&key, seed, at(160_000));
        assert_eq!(greeted(&mut contacts, 160_000, 200_000), 0);
        assert_eq!(greeted(&mut contacts, 200_000, 206_000), 4, "unanswered again: fast again");
    }

    #[test]
    fn hearsay_of_a_thousand_hosts_is_followed_slowly() {
        let mut contacts = Contacts::default();
        for number in 1..=200_u8 {
            let control = SocketAddr::from(([192, 0, 2, number], 1));
            contacts.hear_of(PublicKey::from_bytes([number; 32]), control, at(0));
        }
        let first = contacts.due(at(0)).len();
        let second: usize = (1..1_000).map(|ms| contacts.due(at(ms)).len()).sum();
        assert_eq!((first, second), (32, 33));
        let one = "198.51.100.1:1".parse().unwrap();
        let mut aimed = Contacts::default();
        for number in 1..=200_u8 {
            aimed.hear_of(PublicKey::from_bytes([number; 32]), one, at(0));
        }
        let sent: usize = (0..10_000).step_by(50).map(|ms| aimed.due(at(ms)).len()).sum();
        assert_eq!(sent, 20, "one host is not greeted more than twice a second");
    }

    #[test]
    fn hearsay_is_tried_a_few_times_and_then_left_alone() {
        let (key, control) = (PublicKey::from_bytes([1; 32]), "192.0.2.1:1".parse().unwrap());
        let mut contacts = Contacts::default();
        let mut sent = 0;
        for ms in (0..60_000).step_by(100) {
            contacts.hear_of(key, control, at(ms));
            sent += contacts.due(at(ms)).len();
        }
        assert_eq!(sent, 5);
    }
}
