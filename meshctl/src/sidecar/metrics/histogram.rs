//! A histogram with the buckets that Prometheus' own clients begin with.

/// Upper bounds in seconds.
pub(super) const BOUNDS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    /// Each bucket's own; what is above the last bound is in the count alone.
    buckets: [u64; BOUNDS.len()],
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Histogram {
    pub(super) fn observe(&mut self, secs: f64) {
        self.count += 1;
        self.sum += secs;
        if let Some(index) = BOUNDS.iter().position(|bound| secs <= *bound) {
            self.buckets[index] += 1;
        }
    }

    /// Each bound with how many lie at or under it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        });
        BOUNDS.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_at_or_under_their_bound() {
        let mut histogram = Histogram::default();
        for secs in [0.001, 0.005, 0.3, 99.0] {
            histogram.observe(secs);
        }
        let counts: Vec<u64> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert_eq!(histogram.count, 4);
    }
}
