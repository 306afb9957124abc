//! A token bucket for each source address, before anything is decrypted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::event::Now;

const TOKENS_MAX: u64 = 20;
const REFILL_MS: u64 = 100;
const SOURCES_MAX: usize = 4096;
/// After this long every bucket is full again and need not be kept.
const FULL_AFTER_MS: u64 = TOKENS_MAX * REFILL_MS;

#[derive(Default)]
pub(super) struct Limiter {
    /// When each source's bucket will be full again, in milliseconds.
    full_at: BTreeMap<IpAddr, u64>,
}

impl Limiter {
    pub(super) fn admit(&mut self, source: IpAddr, now: Now) -> bool {
        if self.full_at.len() >= SOURCES_MAX && !self.full_at.contains_key(&source) {
            return false;
        }
        let known = self.full_at.get(&source).copied();
        let full_at = known.unwrap_or_default().max(now.mono_ms);
        let admitted = full_at + REFILL_MS <= now.mono_ms + FULL_AFTER_MS;
        if admitted {
            self.full_at.insert(source, full_at + REFILL_MS);
        }
        admitted
    }

    pub(super) fn lapse(&mut self, now: Now) {
        self.full_at.retain(|_, full_at| *full_at > now.mono_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_at_once_and_ten_a_second_are_admitted() {
        let mut limiter = Limiter::default();
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let mut admitted = |mono_ms: u64, tries: usize| {
            (0..tries).filter(|_| limiter.admit(source, Now { mono_ms, unix: 0 })).count()
        };
        assert_eq!(admitted(10_000, 40), 20);
        assert_eq!(admitted(10_500, 40), 5);
        assert_eq!(admitted(60_000, 40), 20);
    }
}
