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
    /// What the host did for the guest when nothing was left: the guest's slice has to pay for it.
    owed: u64,
    /// What the host did for the guest since others ran.
    outside: u64,
}

impl Tank {
    pub(super) fn new(fuel: u64) -> Self {
        Self { left: fuel, ..Self::default() }
    }

    /// Takes the next slice, as the guest's counter shows it; None if there is none. `over` is what the
    /// guest burnt beyond its last one.
    pub(super) fn slice(&mut self, over: u32) -> Option<i64> {
        self.left = self.left.saturating_sub(over.into());
        self.outside = 0;
        let slice = self.left.min(TIME_SLICE_FUEL);
        self.left -= slice;
        (slice > 0).then(|| -slice.cast_signed())
    }

    /// Takes what the host is to do for the guest; false when that is more than all slices are good for.
    pub(super) fn burn(&mut self, units: u64) -> bool {
        self.outside = self.outside.saturating_add(units);
        self.owed = self.owed.saturating_add(units.saturating_sub(self.left));
        self.left = self.left.saturating_sub(units);
        self.owed <= TIME_SLICE_FUEL
    }

    /// Whether the host did as much for the guest as a slice has, so that others are to run. Asked, it counts anew.
    pub(super) fn is_turn_over(&mut self) -> bool {
        let is_over = self.outside >= TIME_SLICE_FUEL;
        if is_over {
            self.outside = 0;
        }
        is_over
    }

    /// What is left if the guest's counter stands at `counter`.
    pub(super) fn left_with(&self, counter: i64) -> u64 {
        self.left
            .saturating_add_signed(counter.min(0).saturating_neg())
            .saturating_sub(counter.max(0).unsigned_abs())
            .saturating_sub(self.owed)
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

    #[test]
    fn the_host_ends_a_turn_when_it_did_as_much_as_a_slice_has() {
        let mut tank = Tank::new(10 * TIME_SLICE_FUEL);
        assert!(tank.burn(TIME_SLICE_FUEL - 1) && !tank.is_turn_over());
        assert!(tank.burn(1) && tank.is_turn_over() && !tank.is_turn_over());
        assert!(tank.burn(TIME_SLICE_FUEL - 1));
        assert!(tank.slice(0).is_some(), "others ran meanwhile");
        assert!(tank.burn(1) && !tank.is_turn_over());
    }

    #[test]
    fn the_last_slice_pays_for_what_the_host_does() {
        let mut tank = Tank::new(TIME_SLICE_FUEL / 2);
        assert_eq!(tank.slice(0), Some(-125_000));
        assert!(tank.burn(25_000));
        assert_eq!((tank.left_with(-125_000), tank.left_with(-10_000)), (100_000, 0));
        assert!(!tank.burn(TIME_SLICE_FUEL), "it cannot have so much");
        assert_eq!(tank.left_with(-125_000), 0);
    }
}
