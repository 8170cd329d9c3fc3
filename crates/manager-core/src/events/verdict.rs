//! What came of an attempt, and what is therefore done with its row.

use std::time::Duration;

use shared::id::TriggerId;

use super::retry::RetryPolicy;
use super::row::{Role, Row};

/// An event that ended its worker, or may have ended the platform, so often is not run again.
pub(crate) const STRIKES_MAX: u16 = 3;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is left to do.
    Done,
    /// The script failed; another attempt may succeed.
    Failed { error: String, killed_worker: bool },
    /// No other attempt will succeed.
    Fatal { reason: Reason, error: String },
    /// Nothing was started, and that is not the script's fault.
    PutOff(Duration),
    /// Its trigger is paused.
    Held,
}

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Every attempt failed.
    Exhausted,
    /// The script said that trying again is of no use.
    Fatal,
    /// It ended its workers, or may have ended the platform.
    Poison,
    ScriptMissing,
    ScriptDisabled,
    TriggerMissing,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Fatal => "fatal",
            Self::Poison => "poison",
            Self::ScriptMissing => "script_missing",
            Self::ScriptDisabled => "script_disabled",
            Self::TriggerMissing => "trigger_missing",
        }
    }
}

/// What is done with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Removed: it is done.
    Remove,
    /// Another time.
    Later { attempts: u16, strikes: u16, delay: Duration, error: Option<String> },
    /// When its trigger is resumed.
    Hold { attempts: u16, strikes: u16, trigger: Option<TriggerId> },
    /// Removed, and kept as a dead letter.
    Bury { reason: Reason, attempts: u16, error: Option<String> },
    /// Removed, and noted on the dead letter that it was about.
    NoteFailure { error: String },
    /// Written down before it runs: should the platform end meanwhile, it may be why.
    Strike { strikes: u16 },
}

/// What is done with a row after this verdict. `chance` is uniform over all of its values.
pub(crate) fn settle(row: &Row, verdict: Verdict, chance: u32) -> Settlement {
    let Row { attempts, strikes, .. } = *row;
    match verdict {
        Verdict::Done => Settlement::Remove,
        Verdict::PutOff(delay) => Settlement::Later { attempts, strikes, delay, error: None },
        Verdict::Held => Settlement::Hold { attempts, strikes, trigger: row.task.trigger },
        Verdict::Failed { error, killed_worker } => failed(row, error, killed_worker, chance),
        Verdict::Fatal { reason, error } => give_up(row, reason, attempts + 1, error),
    }
}

/// What is done with a row that may not be run again, found before an attempt.
pub(crate) fn poisoned(row: &Row) -> Settlement {
    let error = "the platform ended each time it ran";
    give_up(row, Reason::Poison, row.attempts, error.to_owned())
}

fn failed(row: &Row, error: String, killed_worker: bool, chance: u32) -> Settlement {
    let (attempts, strikes) = (row.attempts + 1, row.strikes + u16::from(killed_worker));
    let RetryPolicy { max_attempts, .. } = row.retry;
    if strikes >= STRIKES_MAX {
        return give_up(row, Reason::Poison, attempts, error);
    }
    if row.role != Role::Event || attempts >= max_attempts {
        return give_up(row, Reason::Exhausted, attempts, error);
    }
    let delay = row.retry.pause(attempts, chance);
    Settlement::Later { attempts, strikes, delay, error: Some(error) }
}

fn give_up(row: &Row, reason: Reason, attempts: u16, error: String) -> Settlement {
    match row.role {
        Role::Event => Settlement::Bury { reason, attempts, error: Some(error) },
        Role::Handler => Settlement::NoteFailure { error },
        Role::Awaited => Settlement::Remove,
    }
}
