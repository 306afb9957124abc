//! The only place that reads the wall clock.
//!
//! Invariant: everything else takes `now` as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use knit_rpc::Timestamp;

/// The wall clock's time; a clock set before 1970 reads as 1970.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this file is where the clock is read")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn now_is_after_this_was_written() {
        assert!(super::now().as_millis() > 1_700_000_000_000);
    }
}
