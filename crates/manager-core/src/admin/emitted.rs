//! What callers are told when an event was not accepted.

use shared::fault::Code;

use super::problem::ApiError;
use crate::events::EmitError;

/// When to try again: a full outbox is worked off in minutes.
const RETRY_AFTER_S: u32 = 60;

impl From<EmitError> for ApiError {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Full => Self::new(Code::OutboxFull, error.to_string()).retry_after(RETRY_AFTER_S),
            EmitError::Database(error) => error.into(),
        }
    }
}
