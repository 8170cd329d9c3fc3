//! Times that come again and again, as the clocks of one place show them.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::InvalidConfig;

/// Times that are counted one by one: an hour of a schedule of every second.
const COUNT_MAX: u32 = 3_600;

/// Times that have passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// How many; not counted beyond some thousands.
    pub(crate) count: u32,
    /// The last ones, in order.
    pub(crate) times: Vec<DateTime<Utc>>,
}

/// A schedule in its time zone.
///
/// Where clocks are put forward, a fixed time that there is not that day, such as 02:30, comes when
/// they go on; where they are put back, it comes once, the first time. Times of an interval, such as
/// every ten minutes, come as often as the hour has them.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    pub(crate) fn parse(schedule: &str, timezone: &str) -> Result<Self, InvalidConfig> {
        let zone = timezone.parse::<Tz>().map_err(|_| {
            let given: String = timezone.chars().take(40).collect();
            let detail = format!("{given:?} is no time zone; take a name such as Europe/Vienna, or UTC");
            InvalidConfig::new("timezone", detail)
        })?;
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(schedule).map_err(|error| {
            let detail = format!("the schedule is not minute, hour, day, month and weekday: {error}");
            InvalidConfig::new("schedule", detail)
        })?;
        let schedule = Self { cron, zone };
        if schedule.after(DateTime::UNIX_EPOCH).is_none() {
            return Err(InvalidConfig::new("schedule", "the schedule means no time that ever comes"));
        }
        Ok(schedule)
    }

    /// The first time after this one.
    pub(crate) fn after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    /// The times after one and up to another: how many, and the last `keep` of them.
    pub(crate) fn passed(&self, after: DateTime<Utc>, until: DateTime<Utc>, keep: usize) -> Passed {
        let mut times = VecDeque::new();
        let mut count = 0;
        for time in self.times(after).take_while(|time| *time <= until) {
            count += 1;
            if count >= COUNT_MAX {
                // So many that the last ones are found sooner from behind.
                return Passed { count, times: self.last(until, keep) };
            }
            times.push_back(time);
            if times.len() > keep {
                times.pop_front();
            }
        }
        Passed { count, times: times.into() }
    }

    /// The last times up to this one, in order.
    fn last(&self, until: DateTime<Utc>, keep: usize) -> Vec<DateTime<Utc>> {
        let until = until.with_timezone(&self.zone);
        let before =
            |time: &DateTime<Tz>, inclusive| self.cron.find_previous_occurrence(time, inclusive).ok();
        let times = std::iter::successors(before(&until, true), |time| before(time, false));
        let mut times: Vec<_> = times.take(keep).map(|time| time.with_timezone(&Utc)).collect();
        times.reverse();
        times
    }

    /// The times after this one, in order.
    pub(crate) fn times(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.after(after), |time| self.after(*time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let after = after.parse::<DateTime<Utc>>().unwrap();
        let schedule = Schedule::parse(schedule, zone).unwrap();
        schedule.times(after).take(count).map(|time| time.format("%m-%dT%H:%M:%S").to_string()).collect()
    }

    #[test]
    fn five_fields_are_minutes_and_six_have_seconds_before_them() {
        assert_eq!(
            times("*/30 9 * * MON", "UTC", "2026-11-26T00:00:00Z", 3),
            ["11-30T09:00:00", "11-30T09:30:00", "12-07T09:00:00"]
        );
        assert_eq!(
            times("*/20 0 0 * * *", "UTC", "2026-11-26T00:00:00Z", 3),
            ["11-26T00:00:20", "11-26T00:00:40", "11-27T00:00:00"]
        );
        assert_eq!(times("@hourly", "UTC", "2026-11-26T00:30:00Z", 1), ["11-26T01:00:00"]);
        assert_eq!(
            times("0 12 L * *", "UTC", "2026-02-01T00:00:00Z", 2),
            ["02-28T12:00:00", "03-31T12:00:00"]
        );
        assert_eq!(times("0 12 * * FRI#2", "UTC", "2026-11-01T00:00:00Z", 1), ["11-13T12:00:00"]);
    }

    #[test]
    fn a_time_is_the_next_even_a_moment_after_the_one_before() {
        assert_eq!(times("* * * * * *", "UTC", "2026-11-26T00:00:00.999Z", 1), ["11-26T00:00:01"]);
        assert_eq!(times("0 0 * * *", "UTC", "2026-11-26T00:00:00.001Z", 1), ["11-27T00:00:00"]);
    }

    #[test]
    fn an_hour_that_is_left_out_moves_a_fixed_time_and_drops_an_intervals() {
        // Vienna: 02:00 becomes 03:00 on 2026-03-29, which is 01:00 UTC.
        assert_eq!(
            times("30 2 * * *", "Europe/Vienna", "2026-03-28T12:00:00Z", 2),
            ["03-29T01:00:00", "03-30T00:30:00"]
        );
        assert_eq!(
            times("*/30 2,3 * * *", "Europe/Vienna", "2026-03-29T00:30:00Z", 2),
            ["03-29T01:00:00", "03-29T01:30:00"]
        );
    }

    #[test]
    fn an_hour_that_comes_twice_has_a_fixed_time_once_and_an_intervals_twice() {
        // Vienna: 03:00 becomes 02:00 on 2026-10-25, which is 01:00 UTC.
        assert_eq!(
            times("30 2 * * *", "Europe/Vienna", "2026-10-24T12:00:00Z", 2),
            ["10-25T00:30:00", "10-26T01:30:00"]
        );
        assert_eq!(
            times("*/30 * * * *", "Europe/Vienna", "2026-10-24T23:45:00Z", 5),
            ["10-25T00:00:00", "10-25T00:30:00", "10-25T01:00:00", "10-25T01:30:00", "10-25T02:00:00"]
        );
    }

    #[test]
    fn what_has_passed_is_counted_and_the_last_of_it_kept() {
        let schedule = Schedule::parse("* * * * * *", "UTC").unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let few = schedule.passed(at("2026-11-26T00:00:00Z"), at("2026-11-26T00:00:05.5Z"), 2);
        assert_eq!(
            few,
            Passed { count: 5, times: vec![at("2026-11-26T00:00:04Z"), at("2026-11-26T00:00:05Z")] }
        );
        let none = schedule.passed(at("2026-11-26T00:00:00Z"), at("2026-11-26T00:00:00.9Z"), 2);
        assert_eq!(none, Passed { count: 0, times: Vec::new() });
        // A month off.
        let many = schedule.passed(at("2026-10-26T00:00:00Z"), at("2026-11-26T00:00:00Z"), 2);
        assert_eq!(many.count, COUNT_MAX);
        assert_eq!(many.times, [at("2026-11-25T23:59:59Z"), at("2026-11-26T00:00:00Z")]);
    }

    #[test]
    fn what_never_comes_is_no_schedule() {
        for bad in ["0 0 30 2 *", "", "* * * *", "60 * * * *", "0 0 0 1 1 * 2030", "every day"] {
            assert_eq!(Schedule::parse(bad, "UTC").unwrap_err().field, "schedule", "{bad}");
        }
        assert_eq!(Schedule::parse("0 0 * * *", "Europe/Wien").unwrap_err().field, "timezone");
    }
}
