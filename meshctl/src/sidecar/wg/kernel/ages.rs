//! How old the kernel's handshakes are, whatever the wall clock does meanwhile.
//!
//! The kernel tells when a handshake was by the wall clock. Set back by an hour, that would make each
//! one of before new for an hour, and every dead peer a live one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use knit_rpc::Timestamp;
use meshctl_core::key::PublicKey;

#[derive(Default)]
pub(super) struct Ages {
    /// What the kernel said of each handshake, when that was first seen, and how old it was then.
    known: BTreeMap<PublicKey, (Timestamp, Instant, Duration)>,
    looked_at: Option<Instant>,
}

impl Ages {
    /// The age of each peer's last handshake, given the moments that the kernel tells. Whoever is not
    /// told of is forgotten.
    pub(super) fn look(
        &mut self,
        told: &[(PublicKey, Timestamp)],
        wall: Timestamp,
        steady: Instant,
    ) -> BTreeMap<PublicKey, Duration> {
        let since_look = self.looked_at.map(|at| steady.saturating_duration_since(at));
        self.looked_at = Some(steady);
        let known = std::mem::take(&mut self.known);
        let mut ages = BTreeMap::new();
        for (key, moment) in told {
            let (seen_at, age) = match (known.get(key), since_look) {
                (Some((same, seen_at, age)), _) if same == moment => (*seen_at, *age),
                // There was another one at the last look: this one came after it.
                (Some(_), Some(since_look)) => (steady, wall.since(*moment).min(since_look)),
                (Some(_) | None, _) => (steady, wall.since(*moment)),
            };
            self.known.insert(*key, (*moment, seen_at, age));
            ages.insert(*key, age + steady.saturating_duration_since(seen_at));
        }
        ages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_makes_no_handshake_younger_or_older() {
        let key = PublicKey::from_bytes([1; 32]);
        let (mut ages, start) = (Ages::default(), Instant::now());
        let mut age = |told: u64, wall: u64, steady: u64| {
            let told = [(key, Timestamp::from_millis(told * 1000))];
            let steady = start + Duration::from_secs(steady);
            ages.look(&told, Timestamp::from_millis(wall * 1000), steady)[&key].as_secs()
        };
        assert_eq!(age(10_000, 10_100, 0), 100);
        assert_eq!(age(10_000, 10_101, 1), 101);
        assert_eq!(age(10_000, 6_502, 2), 102, "set back by an hour");
        assert_eq!(age(10_000, 20_000, 3), 103, "set ahead");
        assert_eq!(age(6_600, 20_001, 4), 1, "a new one, by the clock of before");
        assert_eq!(age(6_600, 6_601, 9), 6);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let key = PublicKey::from_bytes([1; 32]);
        let (mut ages, start) = (Ages::default(), Instant::now());
        ages.look(&[(key, Timestamp::from_millis(5))], Timestamp::from_millis(9), start);
        assert!(ages.look(&[], Timestamp::from_millis(9), start).is_empty());
        assert!(ages.known.is_empty());
    }
}
