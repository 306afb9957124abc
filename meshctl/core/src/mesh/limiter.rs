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

/// Says for each source whether it may be told of in the log again.
#[derive(Default)]
pub(super) struct Muffle {
    told_at: BTreeMap<IpAddr, u64>,
}

const TELL_EVERY_MS: u64 = 60_000;
const TOLD_MAX: usize = 64;

impl Muffle {
    pub(super) fn may_tell(&mut self, source: IpAddr, now: Now) -> bool {
        self.told_at.retain(|_, at| *at + TELL_EVERY_MS > now.mono_ms);
        let may = self.told_at.len() < TOLD_MAX && !self.told_at.contains_key(&source);
        if may {
            self.told_at.insert(source, now.mono_ms);
        }
        may
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

    #[test]
    fn a_source_is_told_of_once_a_minute_and_many_sources_not_at_all() {
        let mut muffle = Muffle::default();
        let mut told = |host: u8, mono_ms: u64| {
            muffle.may_tell(IpAddr::from([192, 0, 2, host]), Now { mono_ms, unix: 0 })
        };
        assert!(told(1, 1) && !told(1, 2) && !told(1, 60_000) && told(1, 60_001));
        assert_eq!((2..=255).filter(|host| told(*host, 60_002)).count(), TOLD_MAX - 1);
    }
}
