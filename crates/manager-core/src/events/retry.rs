//! When a delivery that failed is tried again.

use std::time::Duration;

/// Attempts unless a trigger says otherwise.
const ATTEMPTS_DEFAULT: u16 = 5;
const BASE_MS_DEFAULT: u32 = 2_000;
/// An hour.
const CAP_MS_DEFAULT: u32 = 3_600_000;
/// A pause grows by this with each attempt.
const FACTOR: u32 = 4;
/// How much of a pause is left to chance, so that what failed together does not come back together.
const JITTER: f64 = 0.2;

/// How often a delivery is tried and how long the pauses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    pub(crate) max_attempts: u16,
    /// The pause after the first attempt. Later ones are four times as long each, up to `cap_ms`;
    /// with both equal they are all the same.
    pub(crate) base_ms: u32,
    pub(crate) cap_ms: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: ATTEMPTS_DEFAULT, base_ms: BASE_MS_DEFAULT, cap_ms: CAP_MS_DEFAULT }
    }
}

impl RetryPolicy {
    /// One attempt only.
    pub(crate) const ONCE: Self = Self { max_attempts: 1, base_ms: 0, cap_ms: 0 };

    /// The pause after the attempt of this number; `chance` is uniform over all of its values.
    pub(crate) fn pause(self, attempt: u16, chance: u32) -> Duration {
        let steps = u32::from(attempt.saturating_sub(1));
        let grown = FACTOR.checked_pow(steps).and_then(|factor| self.base_ms.checked_mul(factor));
        let ms = f64::from(grown.unwrap_or(u32::MAX).min(self.cap_ms));
        let spread = f64::from(chance) / f64::from(u32::MAX) * 2.0 - 1.0;
        Duration::from_secs_f64(ms * (1.0 + spread * JITTER) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_fourfold_up_to_an_hour() {
        let middle = u32::MAX / 2;
        let seconds: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 25]
            .map(|attempt| RetryPolicy::default().pause(attempt, middle).as_secs_f64().round())
            .into();
        assert_eq!(seconds, [2.0, 8.0, 32.0, 128.0, 512.0, 2_048.0, 3_600.0, 3_600.0]);
    }

    proptest! {
        #[test]
        fn a_pause_is_within_a_fifth_of_its_length(attempt in 1..=25_u16, chance: u32, base in 0..10_000_u32) {
            let policy = RetryPolicy { base_ms: base, cap_ms: 10_000, ..RetryPolicy::default() };
            let pause = policy.pause(attempt, chance).as_secs_f64();
            let middle = policy.pause(attempt, u32::MAX / 2).as_secs_f64();
            prop_assert!(pause >= middle * 0.799 && pause <= middle * 1.201);
        }
    }
}
