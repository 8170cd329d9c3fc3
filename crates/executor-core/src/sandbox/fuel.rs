//! The fuel of an execution, given out in slices.
//!
//! The guest counts what it burns (see the crate `metering`); its counter is below 0 while there is
//! fuel. When a slice is burnt it asks for the next, and waits for its turn.

/// Fuel after which a guest lets others run: about 25 µs. Shorter slices cost throughput, longer
/// ones cost others latency.
pub(crate) const TIME_SLICE_FUEL: u64 = 250_000;

/// What an execution may burn beyond the slice that its guest has.
#[derive(Debug, Default)]
pub(super) struct Tank {
    left: u64,
}

impl Tank {
    pub(super) fn new(fuel: u64) -> Self {
        Self { left: fuel }
    }

    /// Takes the next slice, as the guest's counter shows it; None if there is none. `over` is what the
    /// guest burnt beyond its last one.
    pub(super) fn slice(&mut self, over: u32) -> Option<i64> {
        self.burn(over.into());
        let slice = self.left.min(TIME_SLICE_FUEL);
        self.left -= slice;
        (slice > 0).then(|| -slice.cast_signed())
    }

    /// Takes what the host did for the guest.
    pub(super) fn burn(&mut self, units: u64) {
        self.left = self.left.saturating_sub(units);
    }

    /// What is left if the guest's counter stands at `counter`.
    pub(super) fn left_with(&self, counter: i64) -> u64 {
        self.left
            .saturating_add_signed(counter.min(0).saturating_neg())
            .saturating_sub(counter.max(0).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_out_every_unit_once() {
        let mut tank = Tank::new(2 * TIME_SLICE_FUEL + 10);
        assert_eq!(tank.slice(0), Some(-250_000));
        assert_eq!(tank.left_with(-250_000), 2 * TIME_SLICE_FUEL + 10);
        assert_eq!(tank.slice(4), Some(-250_000));
        assert_eq!(tank.slice(0), Some(-6));
        assert_eq!(tank.left_with(-2), 2);
        assert_eq!(tank.slice(0), None);
        assert_eq!(tank.left_with(1_000), 0);
    }

    #[test]
    fn a_debt_is_never_more_than_there_is() {
        let mut tank = Tank::new(100);
        assert_eq!(tank.slice(u32::MAX), None);
        assert_eq!(Tank::new(5).left_with(i64::MAX), 0);
        assert_eq!(Tank::new(5).left_with(i64::MIN), 5 + i64::MAX.unsigned_abs());
    }
}
