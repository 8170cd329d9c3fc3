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
/// So many minutes or days may the clock be set back without a new budget: as much as daylight saving time and a
/// careless hand make of it. A clock that goes back further ran ahead before, and would stop the app until then.
const BACK_MINUTES_MAX: i64 = 60;
const BACK_DAYS_MAX: i64 = 1;

/// How near an app is to being stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    #[default]
    Ok,
    Warn,
    Throttle,
    Freeze,
}

impl Level {
    const fn of(percent: i64) -> Self {
        match percent {
            100.. => Self::Throttle,
            WARN_PERCENT..100 => Self::Warn,
            _ => Self::Ok,
        }
    }

    /// What is said of an app that has come to it.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Ok => "an app is within its budget",
            Self::Warn => "an app nears its budget",
            Self::Throttle => "an app has used up its budget, and waits for the next minute or day",
            Self::Freeze => "an app has used up its budget, and is frozen until somebody lets it go on",
        }
    }
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
    /// The worst level that people have been told of since it began.
    told: Level,
}

impl Window {
    pub(super) const fn of_day(day: i64, used: Used) -> Self {
        Self { number: day, used, told: Level::Ok }
    }

    /// Begins anew when its time is over, and when the clock went back by more than `back_max` minutes or days; by
    /// less, it does not. What was burnt beyond the budgets of the time that has passed is still owed: executions are
    /// charged when they end, and many long ones begun at once would else be worth many budgets.
    fn roll(&mut self, number: i64, back_max: i64, budget: Option<i64>) {
        let passed = number - self.number;
        if (-back_max..=0).contains(&passed) {
            return;
        }
        // How long it is since the clock began to run ahead, nobody knows.
        let owed = budget.filter(|_| passed > 0).map_or(0, |budget| {
            let paid = budget.saturating_mul(passed);
            self.used.fuel.saturating_sub(paid).clamp(0, budget.saturating_mul(OWED_MINUTES_MAX))
        });
        *self = Self { number, used: Used { fuel: owed, ..Used::default() }, told: Level::Ok };
    }

    /// A level that it has come to: what is news of it.
    fn reach(&mut self, level: Level) -> Option<Level> {
        let is_news = level > self.told;
        self.told = self.told.max(level);
        is_news.then_some(level)
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    pub(crate) budget: Budget,
    /// Which of the app's budgets it is; none when none was set.
    pub(super) set_at: Option<DateTime<Utc>>,
    pub(crate) minute: Window,
    pub(crate) day: Window,
    /// Whether the app was removed: what waits starts no more, and what runs is counted to its end.
    pub(super) is_gone: bool,
}

impl Meter {
    pub(super) fn set(&mut self, budget: Option<SetBudget>) {
        self.budget = budget.map(|set| set.budget).unwrap_or_default();
        self.set_at = budget.map(|set| set.set_at);
        // Of another budget the same level is news again.
        (self.minute.told, self.day.told) = (Level::Ok, Level::Ok);
    }

    pub(super) fn roll(&mut self, now_s: i64) {
        self.minute.roll(now_s.div_euclid(MINUTE_S), BACK_MINUTES_MAX, self.budget.fuel_per_minute);
        self.day.roll(now_s.div_euclid(DAY_S), BACK_DAYS_MAX, None);
    }

    /// Whether one more execution may start.
    pub(super) fn permit(&mut self, now_s: i64) -> Result<(), Refusal> {
        if self.is_gone {
            // Its code goes with it.
            return Err(Refusal::BundleUnavailable);
        }
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
        if self.budget.frozen { Level::Freeze } else { self.minute_level().max(self.day_level()) }
    }

    /// What people are to be told now that something was counted, which may have frozen the app: each level once in
    /// every minute or day that comes to it, and that it is frozen when it freezes.
    pub(super) fn tell(&mut self, freezes: bool) -> Option<Level> {
        let (minute, day) = (self.minute_level(), self.day_level());
        let news = self.minute.reach(minute).max(self.day.reach(day));
        if self.budget.frozen { freezes.then_some(Level::Freeze) } else { news }
    }

    fn minute_level(&self) -> Level {
        Level::of(self.minute_percent())
    }

    /// What is sent stops no execution, so that it is never worse than a warning.
    fn day_level(&self) -> Level {
        Level::of(self.day_percent()).max(Level::of(self.sending_percent()).min(Level::Warn))
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
    Level::of(percent(bytes, Some(limit))).min(Level::Warn)
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
    fn an_app_that_is_gone_starts_nothing_and_pays_for_what_runs() {
        let budget = Budget { mails_per_day: Some(1), ..Budget::default() };
        let mut meter = Meter { is_gone: true, ..meter(budget) };
        assert_eq!(meter.permit(0), Err(Refusal::BundleUnavailable));
        meter.charge(0, ran(5));
        assert_eq!(meter.spend(0, Sending::Mail), Ok(()));
        assert!(meter.spend(0, Sending::Mail).is_err(), "it has the budget that it had");
        assert_eq!((meter.day.used.executions, meter.day.used.fuel), (1, 5));
        meter.set(None);
        assert_eq!(meter.permit(2 * DAY_S), Err(Refusal::BundleUnavailable), "whatever its budget");
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
    fn a_clock_that_ran_ahead_and_is_set_right_stops_no_app_for_longer_than_an_hour_or_a_day() {
        let now_s = 1_000 * DAY_S;
        let mut minutely = meter(Budget { fuel_per_minute: Some(100), ..Budget::default() });
        minutely.charge(now_s, ran(i64::MAX));
        assert!(minutely.permit(now_s - 60 * MINUTE_S).is_err(), "an hour gives no second budget");
        assert_eq!(
            minutely.permit(now_s - 61 * MINUTE_S),
            Ok(()),
            "and nothing of the time that was not is owed"
        );
        let mut daily = meter(Budget { executions_per_day: Some(1), ..Budget::default() });
        daily.charge(now_s, ran(1));
        assert!(daily.permit(now_s - DAY_S).is_err(), "a day gives no second budget");
        assert_eq!(daily.permit(now_s - 2 * DAY_S), Ok(()));
        daily.charge(now_s - 2 * DAY_S, ran(1));
        assert!(daily.permit(now_s - 2 * DAY_S).is_err(), "from then on it counts as ever");
    }

    /// What is said after each execution of so much fuel, at a time each.
    fn told(meter: &mut Meter, executions: &[(i64, i64)]) -> Vec<Option<Level>> {
        let one = |&(now_s, fuel): &(i64, i64)| {
            let freezes = meter.charge(now_s, ran(fuel));
            meter.tell(freezes)
        };
        executions.iter().map(one).collect()
    }

    #[test]
    fn each_level_is_told_once_in_a_minute_also_when_a_refusal_comes_between() {
        let mut meter = meter(Budget { fuel_per_minute: Some(100), ..Budget::default() });
        let first = told(&mut meter, &[(0, 79), (1, 1), (2, 1), (3, 19), (4, 50)]);
        assert_eq!(first, [None, Some(Level::Warn), None, Some(Level::Throttle), None]);
        assert!(meter.permit(5).is_err());
        assert_eq!(told(&mut meter, &[(6, 1)]), [None]);
        assert_eq!(meter.permit(2 * MINUTE_S), Ok(()), "the level is back to where it began");
        assert_eq!(
            told(&mut meter, &[(121, 90), (122, 1), (123, 9)]),
            [Some(Level::Warn), None, Some(Level::Throttle)]
        );
    }

    #[test]
    fn a_days_level_is_told_once_however_many_minutes_pass() {
        let mut meter = meter(Budget { fuel_per_day: Some(100), ..Budget::default() });
        let minutes: Vec<_> = (0..5).map(|minute| (minute * MINUTE_S, 20)).collect();
        let expected = [None, None, None, Some(Level::Warn), Some(Level::Throttle)];
        assert_eq!(told(&mut meter, &minutes), expected);
        assert_eq!(told(&mut meter, &[(5 * MINUTE_S, 20), (6 * MINUTE_S, 20)]), [None, None]);
        assert_eq!(told(&mut meter, &[(DAY_S, 85)]), [Some(Level::Warn)]);
    }

    #[test]
    fn an_app_that_freezes_is_told_of_once_and_in_words_of_its_own() {
        let budget =
            Budget { fuel_per_day: Some(100), on_exhausted: OnExhausted::Freeze, ..Budget::default() };
        let mut meter = meter(budget);
        let days = [(0, 80), (1, 20), (2, 20), (DAY_S, 100), (2 * DAY_S, 100)];
        assert_eq!(told(&mut meter, &days), [Some(Level::Warn), Some(Level::Freeze), None, None, None]);
        assert!(Level::Freeze.words().contains("frozen") && !Level::Throttle.words().contains("frozen"));
        meter.set(Some(SetBudget { budget, set_at: DateTime::<Utc>::UNIX_EPOCH }));
        assert_eq!(
            told(&mut meter, &[(2 * DAY_S, 1)]),
            [Some(Level::Freeze)],
            "it goes on and freezes again"
        );
    }

    #[test]
    fn what_is_sent_is_worth_one_warning_a_day() {
        let mut meter = meter(Budget { mails_per_day: Some(5), ..Budget::default() });
        let send = |now_s| {
            meter.spend(now_s, Sending::Mail).unwrap();
            meter.tell(false)
        };
        let day: Vec<_> = (0..5).map(send).collect();
        assert_eq!(day, [None, None, None, Some(Level::Warn), None]);
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
