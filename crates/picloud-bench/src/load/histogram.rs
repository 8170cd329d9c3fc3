//! Times, counted in buckets that are as fine as they need to be: each is within 0.4 % of its value.

use std::time::Duration;

/// Buckets for each doubling, as a power of two.
const FINENESS_BITS: u32 = 8;
const FINENESS: u64 = 1 << FINENESS_BITS;
/// Enough for every number of nanoseconds.
const BUCKETS: usize = (64 - FINENESS_BITS as usize + 1) << FINENESS_BITS;

#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, time: Duration) {
        self.buckets[bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))] += 1;
        self.count += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += others;
        }
        self.count += other.count;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The time that this many of a hundred did not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> Duration {
        let wanted = self.count as f64 * percent / 100.0;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return Duration::from_nanos(lower_edge(index));
            }
        }
        Duration::ZERO
    }
}

/// Small numbers have a bucket each; above, each doubling has as many as the one before.
fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(FINENESS_BITS + 1);
    let index = u64::from(shift) * FINENESS + (nanos >> shift);
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

fn lower_edge(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / FINENESS).saturating_sub(1);
    (index - shift * FINENESS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_within_four_thousandths_of_its_values() {
        for nanos in [0, 1, 255, 256, 511, 512, 999, 123_456, 7_654_321, 10_u64.pow(12), u64::MAX] {
            let edge = lower_edge(bucket(nanos));
            assert!(edge <= nanos && (nanos - edge) as f64 <= nanos as f64 * 0.004, "{nanos} {edge}");
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for index in 1..BUCKETS {
            assert_eq!(bucket(lower_edge(index)), index);
            assert_eq!(bucket(lower_edge(index) - 1), index - 1);
        }
    }

    #[test]
    fn percentiles_are_those_of_the_times_added() {
        let mut histogram = Histogram::default();
        let mut other = Histogram::default();
        for micros in 1..=50 {
            histogram.add(Duration::from_micros(micros));
            other.add(Duration::from_micros(micros + 50));
        }
        histogram.merge(&other);
        assert_eq!(histogram.count(), 100);
        for (percent, micros) in [(50.0, 50.0), (99.0, 99.0), (100.0, 100.0)] {
            let measured = histogram.percentile(percent).as_secs_f64() * 1e6;
            assert!((measured - micros).abs() < micros * 0.005, "{percent}: {measured}");
        }
    }
}
