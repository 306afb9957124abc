//! Wrong tokens, counted by address: nobody may try many.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that cost nothing.
const BURST: u32 = 10;
/// One more is allowed after this long.
const PAUSE: Duration = Duration::from_secs(3);
const ADDRESSES_MAX: usize = 4096;

/// The failures of the last half minute.
#[derive(Default)]
pub struct Failures(Mutex<BTreeMap<IpAddr, Instant>>);

impl Failures {
    /// How long an address has to wait before it is listened to again; `None`: not at all.
    pub fn wait(&self, from: IpAddr) -> Option<Duration> {
        let forgiven = *self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&from)?;
        let owed = forgiven.saturating_duration_since(Instant::now());
        owed.checked_sub(PAUSE * BURST).filter(|wait| !wait.is_zero())
    }

    /// Notes one. Each is forgiven [`PAUSE`] after the one before it.
    pub fn note(&self, from: IpAddr) {
        let now = Instant::now();
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, forgiven| *forgiven > now);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&from) {
            // Who owes least is forgotten.
            let least = failures.iter().min_by_key(|(_, forgiven)| **forgiven).map(|(ip, _)| *ip);
            least.and_then(|ip| failures.remove(&ip));
        }
        let forgiven = failures.entry(from).or_insert(now);
        *forgiven = (*forgiven).max(now) + PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_failures_are_free_and_then_one_every_three_seconds() {
        let failures = Failures::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..BURST {
            assert_eq!(failures.wait(one), None);
            failures.note(one);
        }
        failures.note(one);
        assert_eq!(failures.wait(one), Some(PAUSE));
        assert_eq!(failures.wait(other), None);
        tokio::time::advance(PAUSE).await;
        assert_eq!(failures.wait(one), None);
        failures.note(one);
        assert_eq!(failures.wait(one), Some(PAUSE));
        tokio::time::advance(PAUSE * (BURST + 1)).await;
        failures.note(other);
        assert_eq!(failures.0.lock().unwrap().len(), 1, "what is forgiven is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn no_number_of_addresses_fills_the_memory() {
        let failures = Failures::default();
        for number in 0..u32::try_from(2 * ADDRESSES_MAX).unwrap() {
            failures.note(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(failures.0.lock().unwrap().len(), ADDRESSES_MAX);
    }
}
