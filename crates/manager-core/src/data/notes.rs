//! What is noted of an execution from one call to the next. It is gone when the execution ends.

use std::sync::OnceLock;

use shared::call::HostCall;

use super::read_ahead::Reader;
use super::uploads::OpenUploads;

#[derive(Debug, Default)]
pub(super) struct ExecutionNotes {
    pub(super) reader: OnceLock<Reader>,
    pub(super) uploads: OpenUploads,
}

impl ExecutionNotes {
    /// Those of the execution that makes the call; none if somebody notes something else of it.
    pub(super) fn of(call: &HostCall) -> Option<&Self> {
        call.context.notes.get_or_init(Self::default)
    }
}
