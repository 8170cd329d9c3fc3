//! Why an execution runs: its place in a chain of events, and the delivery that it is an attempt of.

use crate::id::{DeliveryId, ExecutionId};

/// The place of an execution, or of an event, in the chain that led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// Where the chain began: the first execution. Where no execution began it, as with a timer, it
    /// is the id of the first delivery, which is also the id of that delivery's first execution.
    pub root: ExecutionId,
    /// The execution that brought this about; none at the beginning of a chain.
    pub parent: Option<ExecutionId>,
    /// Events between the beginning and this.
    pub depth: u32,
}

impl Cause {
    /// A chain that begins with this execution.
    pub const fn root(execution: ExecutionId) -> Self {
        Self { root: execution, parent: None, depth: 0 }
    }

    /// A chain that begins with an event that no execution brought about.
    pub const fn root_event(delivery: DeliveryId) -> Self {
        Self { root: ExecutionId::from_uuid(delivery.as_uuid()), parent: None, depth: 1 }
    }

    /// What an execution with this cause brings about.
    pub const fn child(self, execution: ExecutionId) -> Self {
        Self { root: self.root, parent: Some(execution), depth: self.depth.saturating_add(1) }
    }
}

/// The delivery that an execution is an attempt of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    /// Counted from 1.
    pub attempt: u32,
    /// The delivery that was given up and is now tried again.
    pub replay_of: Option<DeliveryId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_keeps_its_beginning_and_counts_its_events() {
        let (first, second) = (ExecutionId::new(), ExecutionId::new());
        let event = Cause::root(first).child(first);
        assert_eq!((event.root, event.parent, event.depth), (first, Some(first), 1));
        let next = event.child(second);
        assert_eq!((next.root, next.parent, next.depth), (first, Some(second), 2));
        let deep = Cause { depth: u32::MAX, ..event };
        assert_eq!(deep.child(first).depth, u32::MAX);
    }

    #[test]
    fn an_event_of_nobody_begins_its_own_chain() {
        let delivery = DeliveryId::new();
        let cause = Cause::root_event(delivery);
        assert_eq!((cause.root.to_bytes(), cause.parent, cause.depth), (delivery.to_bytes(), None, 1));
    }
}
