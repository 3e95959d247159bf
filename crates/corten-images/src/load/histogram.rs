//! Latencies in buckets of at most 1/64 of their value: constant memory, and percentiles that are right to two digits.

use std::time::Duration;

/// Buckets a doubling.
const FINE: usize = 64;
/// Doublings from 1 µs: up to some 19 hours.
const COARSE: usize = 31;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; FINE * COARSE].into(),
            count: 0,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    /// Counts a duration.
    pub(crate) fn add(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.buckets[index(micros).min(FINE * COARSE - 1)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The duration that this share of all does not exceed; zero when there are none.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among calls"
        )]
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return Duration::from_micros(highest(index)).min(self.max);
            }
        }
        self.max
    }

    /// The longest.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

/// The bucket of a value: exact below 64, then 64 buckets a doubling.
fn index(value: u64) -> usize {
    let fine = FINE as u64;
    if value < fine {
        return usize::try_from(value).expect("less than 64");
    }
    let shift = value.ilog2() - fine.ilog2();
    let within = (value >> shift) - fine;
    usize::try_from(u64::from(shift + 1) * fine + within).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn highest(index: usize) -> u64 {
    let (row, within) = (index / FINE, (index % FINE) as u64);
    if row == 0 {
        within
    } else {
        ((FINE as u64 + within + 1) << (row - 1)) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in (0..100_000).chain([1 << 20, (1 << 20) + 1, 1 << 30, 12_345_678_901]) {
            let index = index(value);
            assert!(highest(index) >= value, "{value}");
            assert!(index == 0 || highest(index - 1) < value, "{value}");
        }
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), Duration::ZERO);
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        let close = |share: f64, expect: u64| {
            let got = histogram.percentile(share).as_micros();
            assert!(
                got.abs_diff(u128::from(expect)) <= u128::from(expect / 32),
                "{share}: {got}"
            );
        };
        close(0.5, 500);
        close(0.9, 900);
        close(0.99, 990);
        assert_eq!(histogram.percentile(1.0), Duration::from_micros(1000));
    }
}
