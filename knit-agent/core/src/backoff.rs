//! How long to wait before trying again.

use std::time::Duration;

/// Longest pause between two starts of a container that keeps ending.
pub const RESTART_PAUSE_MAX: Duration = Duration::from_mins(1);
/// A container that ran this long did not fail to start: its next pause is the shortest again.
pub const STABLE_AFTER: Duration = Duration::from_mins(1);
/// A container that has ended before, and so is likely to end again, counts as running once it is
/// up this long.
pub const SETTLE_AGAIN: Duration = Duration::from_secs(5);
/// Ends in a row, without a stable run between, that make a crash loop.
pub const CRASH_LOOP_ENDS: u32 = 3;
/// Pause before something is tried again that waiting is not expected to mend.
pub const PERMANENT_RETRY: Duration = Duration::from_secs(30);

/// 1 s doubling to a minute: the pause after `failures` failures in a row.
pub fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    Duration::from_secs(1 << doublings).min(RESTART_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_from_a_second_to_a_minute() {
        let seconds: Vec<u64> = (0..10).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX), RESTART_PAUSE_MAX);
    }
}
