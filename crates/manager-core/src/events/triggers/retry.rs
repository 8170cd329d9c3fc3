//! How often an event is tried, and how long is waited between.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::limits::ATTEMPTS_MAX;

use super::InvalidConfig;

/// Five times over about three minutes outlast a restart, not a night.
const ATTEMPTS_DEFAULT: u16 = 5;
const BASE_MS_DEFAULT: u32 = 2_000;
const CAP_MS_DEFAULT: u32 = 60 * 60 * 1_000;
/// A day: who waits longer has forgotten what for.
const PAUSE_MS_MAX: u32 = 24 * 60 * 60 * 1_000;

/// What is waited after a failure: with each the same, or four times as long as after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backoff {
    Fixed,
    Exponential,
}

/// Every setting, as it is kept with the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RetryPolicy {
    /// Attempts in all, the first one too.
    pub(crate) max_attempts: u16,
    pub(crate) backoff: Backoff,
    /// After the first failure.
    pub(crate) base_ms: u32,
    /// At most.
    pub(crate) cap_ms: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: ATTEMPTS_DEFAULT,
            backoff: Backoff::Exponential,
            base_ms: BASE_MS_DEFAULT,
            cap_ms: CAP_MS_DEFAULT,
        }
    }
}

/// Settings as a request gives them; what is absent stays as it is, and is the default at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetryPatch {
    #[schemars(range(min = 1, max = ATTEMPTS_MAX))]
    pub(crate) max_attempts: Option<u16>,
    pub(crate) backoff: Option<Backoff>,
    #[schemars(range(min = 1, max = PAUSE_MS_MAX))]
    pub(crate) base_ms: Option<u32>,
    #[schemars(range(min = 1, max = PAUSE_MS_MAX))]
    pub(crate) cap_ms: Option<u32>,
}

impl RetryPatch {
    pub(crate) fn over(self, old: RetryPolicy) -> Result<RetryPolicy, InvalidConfig> {
        let policy = RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(old.max_attempts),
            backoff: self.backoff.unwrap_or(old.backoff),
            base_ms: self.base_ms.unwrap_or(old.base_ms),
            cap_ms: self.cap_ms.unwrap_or(old.cap_ms),
        };
        let attempts = (u32::from(policy.max_attempts), u32::from(ATTEMPTS_MAX));
        for (field, (value, most)) in [
            ("max_attempts", attempts),
            ("base_ms", (policy.base_ms, PAUSE_MS_MAX)),
            ("cap_ms", (policy.cap_ms, PAUSE_MS_MAX)),
        ] {
            if !(1..=most).contains(&value) {
                return Err(InvalidConfig::new(field, format!("{field} is {value}; it may be 1 to {most}")));
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_what_is_given_has_bounds() {
        let patch = RetryPatch { max_attempts: Some(1), ..RetryPatch::default() };
        let policy = patch.over(RetryPolicy::default()).unwrap();
        assert_eq!(policy, RetryPolicy { max_attempts: 1, ..RetryPolicy::default() });
        for (patch, field) in [
            (RetryPatch { max_attempts: Some(0), ..RetryPatch::default() }, "max_attempts"),
            (RetryPatch { max_attempts: Some(ATTEMPTS_MAX + 1), ..RetryPatch::default() }, "max_attempts"),
            (RetryPatch { base_ms: Some(0), ..RetryPatch::default() }, "base_ms"),
            (RetryPatch { cap_ms: Some(PAUSE_MS_MAX + 1), ..RetryPatch::default() }, "cap_ms"),
        ] {
            assert_eq!(patch.over(RetryPolicy::default()).unwrap_err().field, field);
        }
    }
}
