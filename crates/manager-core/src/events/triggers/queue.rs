//! `queue`: the consumer of a queue. A queue has one, which may run several messages at once; until
//! it has one, its messages wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::limits::QUEUE_CONCURRENCY_MAX;
use shared::name::QueueName;

use super::InvalidConfig;

/// Few enough not to take an app's other executions their place.
const CONCURRENCY_DEFAULT: u16 = 4;

/// The queue, and how it is worked off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueConfig {
    pub(crate) queue: QueueName,
    /// Messages that are handled at the same time.
    #[serde(default = "concurrency_default")]
    #[schemars(range(min = 1, max = QUEUE_CONCURRENCY_MAX))]
    pub(crate) concurrency: u16,
}

const fn concurrency_default() -> u16 {
    CONCURRENCY_DEFAULT
}

impl QueueConfig {
    pub(super) fn checked(self) -> Result<Self, InvalidConfig> {
        if (1..=QUEUE_CONCURRENCY_MAX).contains(&self.concurrency) {
            return Ok(self);
        }
        let detail = format!("concurrency is {}; it may be 1 to {QUEUE_CONCURRENCY_MAX}", self.concurrency);
        Err(InvalidConfig::new("concurrency", detail))
    }
}
