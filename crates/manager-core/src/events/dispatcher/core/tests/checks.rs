//! What is promised, checked while the world goes on.

use std::collections::{HashMap, HashSet};

use super::super::{Role, Row, Settlement, Time, Verdict};
use super::database::Database;

/// A verdict as it counts for a row.
#[derive(Debug, Default)]
struct History {
    /// Attempts that ended in failure, each as what the row had before.
    failures: HashSet<u16>,
    starts_per_attempt: HashMap<u16, u32>,
    is_done: bool,
    is_given_up: bool,
    is_settled: bool,
    written_at: Time,
    first_start: Option<Time>,
}

#[derive(Debug, Default)]
pub(super) struct Checks {
    events: HashMap<i64, History>,
    /// How often each poison ended a node.
    pub(super) poison: HashMap<i64, u32>,
}

impl Checks {
    pub(super) fn written(&mut self, id: i64, now: Time) {
        self.events.insert(id, History { written_at: now, ..History::default() });
    }

    /// `has_faults` is whether anything was ever wrong in this world.
    pub(super) fn started(&mut self, row: &Row, now: Time, has_faults: bool) {
        let history = self.events.get_mut(&row.id).expect("only what was written runs");
        let starts = history.starts_per_attempt.entry(row.attempts).or_default();
        *starts += 1;
        history.first_start.get_or_insert(now);
        assert!(row.attempts < row.retry.max_attempts, "attempt {} is beyond the last", row.attempts + 1);
        assert!(row.role != Role::Handler || row.attempts == 0, "a handler is tried again");
        assert!(has_faults || !history.is_done, "ran again although nothing was wrong");
    }

    pub(super) fn ended(&mut self, row: &Row, verdict: &Verdict) {
        let history = self.events.get_mut(&row.id).unwrap();
        match verdict {
            Verdict::Done => history.is_done = true,
            Verdict::Failed { .. } => drop(history.failures.insert(row.attempts)),
            Verdict::Fatal { .. } => {
                history.failures.insert(row.attempts);
                history.is_given_up = true;
            }
            Verdict::PutOff(_) | Verdict::Held => {}
        }
    }

    /// A settlement that the database took.
    pub(super) fn settled(&mut self, row: &Row, settlement: &Settlement) {
        let history = self.events.get_mut(&row.id).unwrap();
        let made = u16::try_from(history.failures.len()).unwrap();
        match settlement {
            Settlement::Remove => {
                assert!(history.is_done, "removed without having been done");
                history.is_settled = true;
            }
            Settlement::Later { attempts, .. } | Settlement::Hold { attempts, .. } => {
                assert!(*attempts >= row.attempts, "attempts are forgotten");
                assert!(*attempts <= made, "{attempts} attempts are counted, and {made} failed");
            }
            Settlement::Bury { .. } | Settlement::NoteFailure { .. } => {
                let is_poison = self.poison.contains_key(&row.id) || row.strikes > 0;
                let is_last = made >= row.retry.max_attempts || row.role == Role::Handler && made > 0;
                assert!(is_poison || is_last || history.is_given_up, "given up after {made} attempts");
                history.is_settled = true;
            }
            Settlement::Strike { .. } => {}
        }
    }

    pub(super) fn is_done(&self, id: i64) -> bool {
        self.events.get(&id).is_some_and(|history| history.is_done || history.is_given_up)
    }

    pub(super) fn came_back(&mut self, id: i64) {
        self.events.get_mut(&id).unwrap().is_settled = false;
    }

    /// Every event is settled, and none waited long unless something was wrong.
    pub(super) fn finish(&self, database: &Database, has_faults: bool) -> Result<(), String> {
        if let Some(stored) = database.rows.values().next() {
            return Err(format!("{} events never end, such as {:?}", database.rows.len(), stored.row));
        }
        for (id, history) in &self.events {
            if !history.is_settled {
                return Err(format!("event {id} is lost"));
            }
            let waited = history.first_start.map_or(Time::MAX, |at| at.saturating_sub(history.written_at));
            // Far less than the scan that would find anything in the end.
            if !has_faults && waited > Time::from_secs(60) {
                return Err(format!("event {id} waited {waited:?} although nothing was wrong"));
            }
        }
        Ok(())
    }
}
