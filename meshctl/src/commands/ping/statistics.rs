//! What became of the requests.

use std::time::Duration;

use serde::Serialize;

/// Counts and round trips of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Statistics {
    pub(super) sent: u32,
    round_trips: Vec<Duration>,
}

/// The whole, as `-o json` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) node: String,
    pub(super) address: String,
    pub(super) sent: u32,
    pub(super) received: usize,
    pub(super) loss_percent: f64,
    /// Absent without any answer.
    pub(super) rtt_us: Option<RoundTrips>,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct RoundTrips {
    pub(super) min: u64,
    pub(super) avg: u64,
    pub(super) max: u64,
    /// Standard deviation, as `ping` gives it.
    pub(super) mdev: u64,
}

impl Statistics {
    pub(super) fn answered(&mut self, after: Duration) {
        self.round_trips.push(after);
    }

    pub(super) fn received(&self) -> usize {
        self.round_trips.len()
    }

    pub(super) fn loss_percent(&self) -> f64 {
        let received = u32::try_from(self.received()).unwrap_or(u32::MAX);
        let lost = self.sent.saturating_sub(received);
        if self.sent == 0 { 0.0 } else { f64::from(lost) * 100.0 / f64::from(self.sent) }
    }

    pub(super) fn round_trips(&self) -> Option<RoundTrips> {
        let micros =
            self.round_trips.iter().map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        let micros: Vec<u64> = micros.collect();
        let count = u64::try_from(micros.len()).ok().filter(|count| *count > 0)?;
        let avg_us = micros.iter().sum::<u64>() / count;
        let variance =
            micros.iter().map(|micros| micros.abs_diff(avg_us).pow(2)).sum::<u64>() / count;
        Some(RoundTrips {
            min: micros.iter().copied().min()?,
            avg: avg_us,
            max: micros.iter().copied().max()?,
            mdev: variance.isqrt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_round_trips_are_added_up() {
        let mut statistics = Statistics::default();
        assert_eq!((statistics.loss_percent(), statistics.round_trips()), (0.0, None));
        statistics.sent = 4;
        assert!((statistics.loss_percent() - 100.0).abs() < 0.01);
        for millis in [1, 2, 3] {
            statistics.answered(Duration::from_millis(millis));
        }
        assert!((statistics.loss_percent() - 25.0).abs() < 0.01);
        let rtt = statistics.round_trips().unwrap();
        assert_eq!((rtt.min, rtt.avg, rtt.max, rtt.mdev), (1000, 2000, 3000, 816));
    }
}
