//! One app's budget and what it has used of it. Pure bookkeeping: the time is given.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use shared::invocation::Refusal;

use crate::store::budgets::{Budget, OnExhausted, SetBudget};
use crate::store::usage::Used;

pub(super) const MINUTE_S: i64 = 60;
pub(super) const DAY_S: i64 = 24 * 60 * 60;
/// Most minutes' worth of fuel that an app can owe, so that one long execution beside a small budget
/// does not stop it for a day.
const OWED_MINUTES_MAX: i64 = 60;
/// Share of a budget from which on people are warned: time enough to do something.
const WARN_PERCENT: i64 = 80;

/// How near an app is to being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    Warn,
    Throttle,
    Freeze,
}

/// Something that scripts send out, with a budget of its own for each day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    Request,
    Mail,
}

impl Sending {
    /// One of them.
    pub(super) const fn one(self) -> Used {
        let nothing = Used { executions: 0, fuel: 0, requests: 0, mails: 0 };
        match self {
            Self::Request => Used { requests: 1, ..nothing },
            Self::Mail => Used { mails: 1, ..nothing },
        }
    }
}

/// The day's budget of something that is sent is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the app has used up its budget {setting} of {budget}; it begins anew in {ends_in_s} s, at midnight (UTC)"
)]
pub(crate) struct Spent {
    /// As in the app's budgets.
    setting: &'static str,
    budget: i64,
    ends_in_s: i64,
}

/// What was used in the present minute or day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// Which minute or day since the Unix epoch.
    number: i64,
    pub(crate) used: Used,
}

impl Window {
    pub(super) const fn of_day(day: i64, used: Used) -> Self {
        Self { number: day, used }
    }

    /// Begins anew when its time is over. A clock that was set back does not. What was burnt beyond
    /// the budgets of the time that has passed is still owed: executions are charged when they end, and
    /// many long ones begun at once would else be worth many budgets.
    fn roll(&mut self, number: i64, budget: Option<i64>) {
        if number <= self.number {
            return;
        }
        let owed = budget.map_or(0, |budget| {
            let paid = budget.saturating_mul(number - self.number);
            self.used.fuel.saturating_sub(paid).clamp(0, budget.saturating_mul(OWED_MINUTES_MAX))
        });
        *self = Self { number, used: Used { fuel: owed, ..Used::default() } };
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    pub(crate) budget: Budget,
    /// Which of the app's budgets it is; none when none was set.
    pub(super) set_at: Option<DateTime<Utc>>,
    pub(crate) minute: Window,
    pub(crate) day: Window,
}

impl Meter {
    pub(super) fn set(&mut self, budget: Option<SetBudget>) {
        self.budget = budget.map(|set| set.budget).unwrap_or_default();
        self.set_at = budget.map(|set| set.set_at);
    }

    pub(super) fn roll(&mut self, now_s: i64) {
        self.minute.roll(now_s.div_euclid(MINUTE_S), self.budget.fuel_per_minute);
        self.day.roll(now_s.div_euclid(DAY_S), None);
    }

    /// Whether one more execution may start.
    pub(super) fn permit(&mut self, now_s: i64) -> Result<(), Refusal> {
        self.roll(now_s);
        if self.budget.frozen {
            return Err(Refusal::Frozen);
        }
        let after = |length: i64| Refusal::OverBudget {
            retry_after_s: u32::try_from(length - now_s.rem_euclid(length)).unwrap_or(u32::MAX),
        };
        if self.day_percent() >= 100 {
            return Err(after(DAY_S));
        }
        if self.minute_percent() >= 100 {
            return Err(Refusal::OverBudget { retry_after_s: self.minute_is_paid_after(now_s) });
        }
        Ok(())
    }

    /// Counts an execution or a compilation that has ended. True when it used up what freezes the app.
    pub(super) fn charge(&mut self, now_s: i64, used: Used) -> bool {
        self.roll(now_s);
        self.add(used);
        let freezes = self.budget.on_exhausted == OnExhausted::Freeze
            && !self.budget.frozen
            && self.day_percent() >= 100;
        self.budget.frozen |= freezes;
        freezes
    }

    /// Counts one that is about to be sent, if the day's budget has one left. What is used up stops these calls and
    /// nothing else.
    pub(super) fn spend(&mut self, now_s: i64, sending: Sending) -> Result<(), Spent> {
        self.roll(now_s);
        let (setting, used, budget) = match sending {
            Sending::Request => ("requests_per_day", self.day.used.requests, self.budget.requests_per_day),
            Sending::Mail => ("mails_per_day", self.day.used.mails, self.budget.mails_per_day),
        };
        match budget.filter(|budget| used >= *budget) {
            Some(budget) => Err(Spent { setting, budget, ends_in_s: DAY_S - now_s.rem_euclid(DAY_S) }),
            None => {
                self.add(sending.one());
                Ok(())
            }
        }
    }

    fn add(&mut self, used: Used) {
        self.minute.used += used;
        self.day.used += used;
    }

    pub(crate) fn level(&self) -> Level {
        match self.day_percent().max(self.minute_percent()) {
            _ if self.budget.frozen => Level::Freeze,
            100.. => Level::Throttle,
            WARN_PERCENT..100 => Level::Warn,
            _ if self.sending_percent() >= WARN_PERCENT => Level::Warn,
            _ => Level::Ok,
        }
    }

    fn day_percent(&self) -> i64 {
        percent(self.day.used.fuel, self.budget.fuel_per_day)
            .max(percent(self.day.used.executions, self.budget.executions_per_day))
    }

    fn sending_percent(&self) -> i64 {
        percent(self.day.used.requests, self.budget.requests_per_day)
            .max(percent(self.day.used.mails, self.budget.mails_per_day))
    }

    /// Seconds until what was burnt is below the budgets of the minutes since.
    fn minute_is_paid_after(&self, now_s: i64) -> u32 {
        let budget = self.budget.fuel_per_minute.unwrap_or(i64::MAX).max(1);
        let minutes = (self.minute.used.fuel / budget).clamp(1, OWED_MINUTES_MAX + 1);
        u32::try_from(minutes * MINUTE_S - now_s.rem_euclid(MINUTE_S)).unwrap_or(u32::MAX)
    }

    fn minute_percent(&self) -> i64 {
        percent(self.minute.used.fuel, self.budget.fuel_per_minute)
    }
}

/// Of what is kept, which stops what adds to it and nothing else.
pub(crate) fn level_of_kept(bytes: i64, limit: i64) -> Level {
    if percent(bytes, Some(limit)) >= WARN_PERCENT { Level::Warn } else { Level::Ok }
}

fn percent(used: i64, budget: Option<i64>) -> i64 {
    budget.map_or(0, |budget| used.saturating_mul(100) / budget.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(budget: Budget) -> Meter {
        Meter { budget, ..Meter::default() }
    }

    /// An execution.
    fn ran(fuel: i64) -> Used {
        Used { executions: 1, fuel, ..Used::default() }
    }

    #[test]
    fn an_app_without_a_budget_is_counted_and_never_refused() {
        let mut meter = meter(Budget::default());
        for _ in 0..10 {
            meter.charge(0, ran(i64::MAX / 4));
        }
        assert_eq!(meter.permit(0), Ok(()));
        assert_eq!((meter.day.used.executions, meter.level()), (10, Level::Ok));
    }

    #[test]
    fn a_minutes_fuel_is_refused_until_the_minute_is_over() {
        let mut meter = meter(Budget { fuel_per_minute: Some(100), ..Budget::default() });
        meter.charge(DAY_S + 10, ran(80));
        assert_eq!((meter.permit(DAY_S + 10), meter.level()), (Ok(()), Level::Warn));
        meter.charge(DAY_S + 15, ran(20));
        assert_eq!(meter.permit(DAY_S + 20), Err(Refusal::OverBudget { retry_after_s: 40 }));
        assert_eq!(meter.level(), Level::Throttle);
        assert_eq!(meter.permit(DAY_S + 60), Ok(()));
        assert_eq!((meter.minute.used.fuel, meter.day.used.fuel), (0, 100));
    }

    #[test]
    fn attack_many_long_executions_begun_at_once_are_paid_in_the_minutes_after() {
        let mut meter = meter(Budget { fuel_per_minute: Some(100), ..Budget::default() });
        for _ in 0..5 {
            assert_eq!(meter.permit(0), Ok(()), "nothing is charged before it ends");
        }
        for _ in 0..5 {
            meter.charge(30, ran(90));
        }
        assert_eq!(meter.permit(30), Err(Refusal::OverBudget { retry_after_s: 4 * 60 - 30 }));
        assert_eq!(meter.permit(3 * 60), Err(Refusal::OverBudget { retry_after_s: 60 }));
        assert_eq!(meter.permit(4 * 60), Ok(()));
        assert_eq!(meter.day.used.fuel, 450);
    }

    #[test]
    fn one_execution_far_beyond_the_budget_stops_an_app_for_an_hour_at_most() {
        let mut meter = meter(Budget { fuel_per_minute: Some(100), ..Budget::default() });
        meter.charge(0, ran(i64::MAX));
        assert_eq!(meter.permit(0), Err(Refusal::OverBudget { retry_after_s: 61 * 60 }));
        assert!(meter.permit(60).is_err());
        assert_eq!(meter.permit(61 * 60), Ok(()));
    }

    #[test]
    fn a_days_executions_are_refused_until_midnight() {
        let mut meter = meter(Budget { executions_per_day: Some(2), ..Budget::default() });
        meter.charge(100, ran(1));
        assert_eq!(meter.permit(100), Ok(()));
        meter.charge(100, ran(1));
        assert_eq!(meter.permit(DAY_S - 1), Err(Refusal::OverBudget { retry_after_s: 1 }));
        assert_eq!(meter.permit(DAY_S), Ok(()));
    }

    #[test]
    fn an_app_that_freezes_stays_frozen_when_the_day_is_over() {
        let budget =
            Budget { fuel_per_day: Some(10), on_exhausted: OnExhausted::Freeze, ..Budget::default() };
        let mut meter = meter(budget);
        assert!(!meter.charge(0, ran(9)));
        assert!(meter.charge(0, ran(1)), "this one freezes it");
        assert!(!meter.charge(0, ran(1)), "it is frozen already");
        assert_eq!(meter.permit(2 * DAY_S), Err(Refusal::Frozen));
        assert_eq!(meter.level(), Level::Freeze);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_second_budget() {
        let mut meter = meter(Budget { fuel_per_minute: Some(100), ..Budget::default() });
        meter.charge(600, ran(100));
        assert!(meter.permit(540).is_err());
    }

    #[test]
    fn a_days_requests_and_mails_stop_their_own_kind_and_nothing_else() {
        let budget = Budget { requests_per_day: Some(5), mails_per_day: Some(1), ..Budget::default() };
        let mut meter = meter(budget);
        for _ in 0..3 {
            assert_eq!(meter.spend(DAY_S - 10, Sending::Request), Ok(()));
        }
        assert_eq!(meter.level(), Level::Ok);
        assert_eq!(meter.spend(DAY_S - 10, Sending::Request), Ok(()));
        assert_eq!(meter.level(), Level::Warn);
        assert_eq!(meter.spend(DAY_S - 10, Sending::Request), Ok(()));
        let spent = Spent { setting: "requests_per_day", budget: 5, ends_in_s: 10 };
        assert_eq!(meter.spend(DAY_S - 10, Sending::Request), Err(spent));
        assert_eq!((meter.permit(DAY_S - 10), meter.level()), (Ok(()), Level::Warn));
        assert_eq!(meter.spend(DAY_S - 10, Sending::Mail), Ok(()));
        assert!(meter.spend(DAY_S - 1, Sending::Mail).is_err());
        let sent = Used { requests: 5, mails: 1, ..Used::default() };
        assert_eq!(meter.day.used, sent, "what is refused is not counted");
        assert_eq!(meter.spend(DAY_S, Sending::Mail), Ok(()));
        assert_eq!(meter.spend(DAY_S, Sending::Request), Ok(()));
    }

    #[test]
    fn a_compilation_is_charged_and_is_no_execution() {
        let budget = Budget { fuel_per_day: Some(10), executions_per_day: Some(1), ..Budget::default() };
        let mut meter = meter(budget);
        meter.charge(0, Used { fuel: 9, ..Used::default() });
        assert_eq!((meter.permit(0), meter.day.used.executions), (Ok(()), 0));
        meter.charge(0, Used { fuel: 1, ..Used::default() });
        assert!(meter.permit(0).is_err());
    }

    #[test]
    fn what_is_kept_is_worth_a_warning_from_four_fifths_on_and_never_more() {
        for (bytes, level) in [(0, Level::Ok), (79, Level::Ok), (80, Level::Warn), (200, Level::Warn)] {
            assert_eq!(level_of_kept(bytes, 100), level, "{bytes}");
        }
    }
}
