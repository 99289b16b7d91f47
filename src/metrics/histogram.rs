//! Latency histograms with fixed buckets.
//!
//! Each put and each get makes an observation, so it takes no lock and allocates nothing:
//! a search among 22 bounds, and two additions.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bound of each bucket but the last, which has none: in nanoseconds, and in
/// seconds as the text format writes it.
const BOUNDS: [(u64, &str); BUCKETS - 1] = [
    (1_000, "1e-06"),
    (2_500, "2.5e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (25_000, "2.5e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
];

const BUCKETS: usize = 23;

/// Counts durations by length. Any number of threads may add and read.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The observations in each bucket alone. Their total is not stored: it is the sum,
    /// and so never at odds with them.
    counts: [AtomicU64; BUCKETS],
    /// The sum of durations in nanoseconds; wraps after 584 years.
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a duration. Costs some nanoseconds.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanos);
        // Nothing else depends on these counts, so they need no ordering among each
        // other.
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The current counts. Each number is exact; they are not of one instant.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (count, counter) in snapshot.counts.iter_mut().zip(&self.counts) {
            *count = counter.load(Ordering::Relaxed);
        }
        snapshot.sum = self.sum.load(Ordering::Relaxed);
        snapshot
    }
}

/// The counts of a [`Histogram`] when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    counts: [u64; BUCKETS],
    /// In nanoseconds.
    sum: u64,
}

impl Snapshot {
    /// Observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// For each bound, in seconds as text and ascending, the observations that took no
    /// longer; the last bound is `+Inf`, with all of them.
    pub fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let bounds = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        bounds.zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_ascend_and_are_written_as_they_are() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (nanos, text) in BOUNDS {
            let seconds = Duration::from_nanos(nanos).as_secs_f64();
            assert_eq!(text.parse(), Ok(seconds), "{text}");
            // As the specification demands: with a point or an exponent, and with an
            // exponent of two digits.
            assert!(text.contains(['.', 'e']), "{text}");
            assert_eq!(text.contains('e'), seconds < 1e-4, "{text}");
        }
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        for (place, (nanos, _)) in BOUNDS.iter().enumerate() {
            let histogram = Histogram::new();
            histogram.observe(Duration::from_nanos(*nanos));
            histogram.observe(Duration::from_nanos(nanos + 1));
            let counts = histogram.snapshot().counts;
            assert_eq!((counts[place], counts[place + 1]), (1, 1));
        }
        let histogram = Histogram::new();
        histogram.observe(Duration::ZERO);
        histogram.observe(Duration::MAX);
        let counts = histogram.snapshot().counts;
        assert_eq!((counts[0], counts[BUCKETS - 1]), (1, 1));
    }

    #[test]
    fn threads_lose_nothing() {
        let histogram = Histogram::new();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let histogram = &histogram;
                scope.spawn(move || {
                    (0..10_000).for_each(|n| histogram.observe(Duration::from_micros(n * thread)));
                });
            }
        });
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 40_000);
        let sum = (0..10_000).sum::<u64>() * (1 + 2 + 3 + 4);
        assert_eq!(snapshot.sum(), Duration::from_micros(sum));
    }

    proptest! {
        #[test]
        fn a_bound_counts_all_that_took_no_longer(
            observed in prop::collection::vec(0u32..35, 0..200),
        ) {
            let observed: Vec<_> = observed.iter().map(|bits| (1u64 << bits) - 1).collect();
            let histogram = Histogram::new();
            observed.iter().for_each(|nanos| histogram.observe(Duration::from_nanos(*nanos)));
            let snapshot = histogram.snapshot();
            prop_assert_eq!(snapshot.count(), observed.len() as u64);
            prop_assert_eq!(snapshot.sum(), Duration::from_nanos(observed.iter().sum()));
            prop_assert_eq!(snapshot.cumulative().count(), BUCKETS);
            for (bound, count) in snapshot.cumulative() {
                let bound: f64 = bound.parse().unwrap();
                let seconds = observed.iter().map(|nanos| *nanos as f64 / 1e9);
                let model = seconds.filter(|seconds| *seconds <= bound).count();
                prop_assert_eq!(count, model as u64);
            }
        }
    }
}
