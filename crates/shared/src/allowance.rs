//! What the calls of one execution may use up besides their number and their bytes, counted where they are
//! carried out, which a worker cannot reach.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::call::{CallCode, CallError};
use crate::limits::{EMAILS_MAX, EVENTS_MAX, OUTBOUND_REQUESTS_MAX, ROWS_MAX};

/// Something that calls use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// Requests to the world.
    Requests,
    /// Rows of the app's data that are read or changed.
    Rows,
    /// Events that are caused, one for each trigger that hears of it.
    Events,
    /// Mails.
    Mails,
}

/// What each execution begins with, in the order of [`Allowance`].
const BEGINNING: [u32; 4] = [OUTBOUND_REQUESTS_MAX, ROWS_MAX, EVENTS_MAX, EMAILS_MAX];

/// What an execution has left. Its calls come one after the other, so nothing here is raced for.
#[derive(Debug)]
pub struct Left([AtomicU32; BEGINNING.len()]);

impl Default for Left {
    fn default() -> Self {
        Self(BEGINNING.map(AtomicU32::new))
    }
}

impl Left {
    /// Takes so much; when there is less, takes nothing and says so.
    pub fn spend(&self, what: Allowance, amount: usize) -> Result<(), CallError> {
        let take = |left: u32| left.checked_sub(u32::try_from(amount).ok()?);
        let taken = self.0[what as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| {
            let most = BEGINNING[what as usize];
            let message = match what {
                Allowance::Requests => format!("an execution has {most} requests at most"),
                Allowance::Rows => format!("an execution reads and changes {most} rows at most"),
                Allowance::Events => format!("an execution causes {most} events at most"),
                Allowance::Mails => format!("an execution sends {most} mails at most"),
            };
            CallError::new(CallCode::BudgetExhausted, message)
        })
    }

    /// Takes back what was not used after all.
    pub fn give_back(&self, what: Allowance, amount: usize) {
        self.0[what as usize].fetch_add(u32::try_from(amount).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_own_limit_and_too_much_takes_nothing() {
        let left = Left::default();
        let most = EVENTS_MAX as usize;
        assert!(left.spend(Allowance::Events, most + 1).is_err());
        assert!(left.spend(Allowance::Events, usize::MAX).is_err());
        assert!(left.spend(Allowance::Events, most).is_ok());
        let refused = left.spend(Allowance::Events, 1).unwrap_err();
        assert_eq!(refused.code, CallCode::BudgetExhausted);
        assert!(left.spend(Allowance::Rows, 1).is_ok() && left.spend(Allowance::Requests, 1).is_ok());
    }

    #[test]
    fn what_was_not_used_can_be_used_later() {
        let left = Left::default();
        assert!(left.spend(Allowance::Rows, ROWS_MAX as usize).is_ok());
        left.give_back(Allowance::Rows, 10);
        assert!(left.spend(Allowance::Rows, 11).is_err() && left.spend(Allowance::Rows, 10).is_ok());
    }
}
