//! What one execution may still ask of its parent, counted where a worker cannot change it.

use shared::limits::{
    HOST_CALL_REFUSALS_MAX, HOST_CALLS_BYTES_MAX, HOST_CALLS_MAX, LOG_BYTES_MAX, LOG_LINES_MAX,
    LOG_NOTICES_MAX, NOTICE_BYTES_MAX,
};

/// Something that an execution uses up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// Calls that nobody waits for, such as log lines, kept or not.
    Notices,
    NoticeBytes,
    LogLines,
    LogBytes,
    Calls,
    /// Calls that were not carried out, because those before were too many or had too many arguments. Its worker
    /// counts them too, and ends its guest before there are more.
    RefusedCalls,
    CallBytes,
    /// Of answers, also of those that were too long to be given.
    ReplyBytes,
}

/// Text of all notices that a worker passes on for an execution: as much as is kept, a line that goes beyond it, and
/// what it takes for framing of each and does not count.
const NOTICES_BYTES_MAX: u32 = 2 * LOG_BYTES_MAX + 64 * LOG_NOTICES_MAX;

const _: () = {
    let framing = NOTICE_BYTES_MAX - LOG_BYTES_MAX as usize;
    let honest = LOG_BYTES_MAX as usize + NOTICE_BYTES_MAX + LOG_NOTICES_MAX as usize * framing;
    assert!(honest <= NOTICES_BYTES_MAX as usize);
};

/// What each execution begins with, in the order of [`Resource`].
const BEGINNING: [u32; 8] = [
    LOG_NOTICES_MAX,
    NOTICES_BYTES_MAX,
    LOG_LINES_MAX,
    LOG_BYTES_MAX,
    HOST_CALLS_MAX,
    HOST_CALL_REFUSALS_MAX,
    HOST_CALLS_BYTES_MAX,
    HOST_CALLS_BYTES_MAX,
];

#[derive(Debug)]
pub(super) struct Budget {
    left: [u32; BEGINNING.len()],
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BEGINNING }
    }
}

impl Budget {
    /// Takes so much; when there is less, takes nothing and answers false.
    pub(super) fn spend(&mut self, resource: Resource, amount: usize) -> bool {
        let left = &mut self.left[resource as usize];
        match u32::try_from(amount).ok().and_then(|amount| left.checked_sub(amount)) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }

    /// Takes so much, or all that is left.
    pub(super) fn spend_up_to(&mut self, resource: Resource, amount: usize) {
        if !self.spend(resource, amount) {
            self.exhaust(resource);
        }
    }

    pub(super) const fn exhaust(&mut self, resource: Resource) {
        self.left[resource as usize] = 0;
    }

    pub(super) const fn is_exhausted(&self, resource: Resource) -> bool {
        self.left[resource as usize] == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_its_own_limit() {
        let mut budget = Budget::default();
        assert!(budget.spend(Resource::LogLines, LOG_LINES_MAX as usize));
        assert!(!budget.spend(Resource::LogLines, 1) && budget.is_exhausted(Resource::LogLines));
        assert!(budget.spend(Resource::Notices, 1) && budget.spend(Resource::LogBytes, 1));
    }

    #[test]
    fn what_is_too_much_takes_nothing() {
        let mut budget = Budget::default();
        assert!(!budget.spend(Resource::LogBytes, LOG_BYTES_MAX as usize + 1));
        assert!(!budget.spend(Resource::LogBytes, usize::MAX));
        assert!(budget.spend(Resource::LogBytes, LOG_BYTES_MAX as usize));
    }

    #[test]
    fn what_is_taken_whether_or_not_it_is_there_leaves_nothing_when_it_is_too_much() {
        let mut budget = Budget::default();
        budget.spend_up_to(Resource::ReplyBytes, HOST_CALLS_BYTES_MAX as usize - 1);
        assert!(!budget.is_exhausted(Resource::ReplyBytes));
        budget.spend_up_to(Resource::ReplyBytes, usize::MAX);
        assert!(budget.is_exhausted(Resource::ReplyBytes));
    }
}
