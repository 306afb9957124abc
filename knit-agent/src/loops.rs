//! What runs for as long as the agent does, each in a loop of its own.

pub mod assignments;
pub mod heartbeat;
pub mod peers;
pub mod reach;
pub mod reconcile;
pub mod reports;
pub mod upkeep;

use std::time::Duration;

/// A duration up to a tenth longer or shorter, so that a fleet does not beat as one.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * random_fraction())
}

/// Somewhere between nothing and `duration`.
pub(crate) fn anywhere_in(duration: Duration) -> Duration {
    duration.mul_f64(random_fraction())
}

fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
