//! From what a trigger is to what its events are.

use super::event::EventKind;
use super::retry::RetryPolicy;
use super::triggers::{Backoff, Kind, RetryPolicy as TriggerRetry};

impl From<Kind> for EventKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Cron => Self::Cron,
            Kind::Kv => Self::Kv,
            Kind::Docs => Self::Docs,
            Kind::Files => Self::Files,
            Kind::Pubsub => Self::Pubsub,
            Kind::Queue => Self::Queue,
            Kind::DeadLetter => Self::DeadLetter,
            Kind::Webhook => Self::Webhook,
        }
    }
}

impl EventKind {
    /// The kind of trigger that an event is of; none for requests and calls.
    pub(crate) fn of_trigger(self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| Self::from(*kind) == self)
    }
}

impl From<TriggerRetry> for RetryPolicy {
    fn from(retry: TriggerRetry) -> Self {
        let TriggerRetry { max_attempts, backoff, base_ms, cap_ms } = retry;
        let cap_ms = match backoff {
            // Where the longest pause is the first, all are the same.
            Backoff::Fixed => base_ms,
            Backoff::Exponential => cap_ms.max(base_ms),
        };
        Self { max_attempts, base_ms, cap_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trigger_is_one_of_events_with_the_same_name() {
        for kind in Kind::ALL {
            let event = EventKind::from(kind);
            assert_eq!((event.as_str(), event.of_trigger()), (kind.as_str(), Some(kind)));
        }
        assert_eq!(EventKind::Http.of_trigger(), None);
    }

    #[test]
    fn fixed_pauses_do_not_grow() {
        let fixed = TriggerRetry { backoff: Backoff::Fixed, base_ms: 7, ..TriggerRetry::default() };
        assert_eq!(RetryPolicy::from(fixed), RetryPolicy { max_attempts: 5, base_ms: 7, cap_ms: 7 });
    }
}
