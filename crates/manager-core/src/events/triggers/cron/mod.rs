//! `cron`: a time. What a trigger is set to, and when its times come; the scheduler that waits for them
//! is in `events/cron`.

mod schedule;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::schedule::{Passed, Schedule};
use super::InvalidConfig;

const TIMEZONE_DEFAULT: &str = "UTC";
/// Characters of a schedule: six lists of every minute are not an hour's work to read.
const SCHEDULE_CHARS_MAX: usize = 200;

/// When to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CronConfig {
    /// Minute, hour, day of the month, month, day of the week; or a field for seconds before them.
    /// `L`, `#` and `W` are known, names of days and months, and words such as `@daily`.
    #[schemars(length(min = 1, max = SCHEDULE_CHARS_MAX))]
    pub(crate) schedule: String,
    /// Where the hours are meant: a name of the IANA database, such as `Europe/Vienna`.
    #[serde(default = "timezone_default")]
    pub(crate) timezone: String,
    #[serde(default)]
    pub(crate) missed: Missed,
    #[serde(default)]
    pub(crate) overlap: Overlap,
}

/// What becomes of times at which nothing could run, because the server was off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missed {
    /// Nothing.
    Skip,
    /// One run for the last of them, which says how many there were.
    #[default]
    Once,
    /// One run for each, up to 100 of the last.
    All,
}

/// What becomes of a time that comes while an earlier run is not over yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Overlap {
    /// Both run.
    #[default]
    Allow,
    /// It is left out.
    Skip,
    /// It runs when the earlier one is over.
    Wait,
}

fn timezone_default() -> String {
    TIMEZONE_DEFAULT.to_owned()
}

impl CronConfig {
    pub(super) fn checked(self) -> Result<Self, InvalidConfig> {
        if self.schedule.chars().count() > SCHEDULE_CHARS_MAX {
            let detail = format!("a schedule has at most {SCHEDULE_CHARS_MAX} characters");
            return Err(InvalidConfig::new("schedule", detail));
        }
        self.schedule().map(|_| self)
    }

    /// The times it means.
    pub(crate) fn schedule(&self) -> Result<Schedule, InvalidConfig> {
        Schedule::parse(&self.schedule, &self.timezone)
    }
}
