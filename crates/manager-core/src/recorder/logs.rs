//! Removes the oldest logs of an app that has too much of them; the records stay.
//!
//! No row counts what the logs of an app take: it is measured, and what was written since is counted in memory. So an app
//! may go over its limit: by a sixteenth of it, and by what it writes until it is measured. Each app is measured once
//! after the start, and from then on only if it logs.

use std::collections::{HashMap, VecDeque};
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use shared::host_call::LogLevel;
use shared::id::AppId;
use shared::invocation::LogEntry;
use shared::limits::LOGS_BYTES_MAX;
use sqlx::Connection;
use tokio::sync::Notify;

use super::Shared;
use super::row::lines;
use crate::store::executions::ExecutionRow;
use crate::store::{self, Database};

/// What an app may write before it is measured, if it has room for no more or nothing is known of it.
const STEP: i64 = LOGS_BYTES_MAX / 16;
/// What is written of an execution that logged nothing.
const NO_LOGS: &str = "[]";
/// Logs that one statement removes: each may be in a hundred rows aside, which go with it.
const BATCH: u32 = 100;
/// Between two batches, so that removing never takes the database from those who use it.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two apps it takes so many times as long as the first took, for the same reason, and no longer than this.
const REST: u32 = 4;
const REST_MAX: Duration = Duration::from_secs(2);
/// Removed bytes from which on the database is told to use their place again. By itself it looks every five minutes,
/// in which a disk can fill.
const VACUUM_FROM: i64 = 4 * STEP;
/// When to try again after the database was away.
const RETRY: Duration = Duration::from_secs(1);

/// Whose logs are to be measured, and when.
#[derive(Debug, Default)]
pub(super) struct Logs {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    apps: HashMap<AppId, App>,
    /// Who wrote what they had room for, in turn, so that who is due again at once keeps nobody waiting.
    due: VecDeque<AppId>,
    /// Who may have more than is known. Their turn is when nobody is due; who became due after all is passed over.
    doubted: VecDeque<AppId>,
}

/// What is known of an app since it was measured.
#[derive(Debug)]
struct App {
    /// Bytes that it may write before it is measured.
    room: i64,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It wrote nothing.
    Silent,
    Wrote,
    /// It waits to be measured, behind all who are due.
    Doubted,
    Due,
}

impl App {
    const UNKNOWN: Self = Self { room: STEP, standing: Standing::Silent };

    /// Has it measured when nobody is due. False if it waits for its turn already.
    fn doubt(&mut self) -> bool {
        let is_new = matches!(self.standing, Standing::Silent | Standing::Wrote);
        if is_new {
            *self = Self { room: self.room.min(STEP), standing: Standing::Doubted };
        }
        is_new
    }
}

impl Logs {
    /// Rows were written, but for those of apps that were locked.
    pub(super) fn wrote(&self, rows: &[ExecutionRow], locked: &[AppId]) {
        let mut is_due = false;
        let mut state = self.lock();
        let State { apps, due, .. } = &mut *state;
        for row in rows.iter().filter(|row| row.logs.get() != NO_LOGS && !locked.contains(&row.app_id)) {
            let app = apps.entry(row.app_id).or_insert(App::UNKNOWN);
            // Never less than what the database makes of it, which stores long ones compressed.
            let bytes = i64::try_from(row.logs.get().len()).unwrap_or(i64::MAX);
            app.room = app.room.saturating_sub(bytes).max(0);
            if app.room == 0 && app.standing != Standing::Due {
                app.standing = Standing::Due;
                due.push_back(row.app_id);
                is_due = true;
            } else if app.standing == Standing::Silent {
                app.standing = Standing::Wrote;
            }
        }
        drop(state);
        if is_due {
            self.wake.notify_one();
        }
    }

    /// Has these apps measured, and all that wrote something since they were: other processes may have written, too.
    /// Of the others nothing is known any more.
    pub(super) fn doubt(&self, apps: impl IntoIterator<Item = AppId>) {
        let mut state = self.lock();
        let State { apps: known, doubted, .. } = &mut *state;
        known.retain(|_, app| app.standing != Standing::Silent);
        for app in apps {
            known.entry(app).or_insert(App::UNKNOWN);
        }
        // Who became due was left here, and would be in it twice.
        doubted.retain(|app| known.get(app).is_some_and(|app| app.standing == Standing::Doubted));
        for (id, app) in known {
            if app.doubt() {
                doubted.push_back(*id);
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    async fn next_due(&self) -> AppId {
        loop {
            if let Some(app) = self.begin() {
                return app;
            }
            self.wake.notified().await;
        }
    }

    /// The next app to be measured. What it writes from now on counts.
    fn begin(&self) -> Option<AppId> {
        let mut state = self.lock();
        let State { apps, due, doubted } = &mut *state;
        let is_doubted = |app: &AppId| apps.get(app).is_some_and(|app| app.standing == Standing::Doubted);
        let mut in_doubt = iter::from_fn(|| doubted.pop_front());
        let app = due.pop_front().or_else(|| in_doubt.find(is_doubted))?;
        apps.insert(app, App::UNKNOWN);
        Some(app)
    }

    fn measured(&self, app: AppId, bytes: i64) {
        if let Some(app) = self.lock().apps.get_mut(&app) {
            app.room = app.room.saturating_add((LOGS_BYTES_MAX - bytes - STEP).max(0));
        }
    }

    /// An app could not be measured. It waits behind all others, so that it keeps none of them waiting.
    fn again(&self, app: AppId) {
        let mut state = self.lock();
        if state.apps.entry(app).or_insert(App::UNKNOWN).doubt() {
            state.doubted.push_back(app);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found of an app, and done about it, in bytes.
struct Measured {
    kept: i64,
    removed: i64,
}

/// Keeps all apps to the limit, and has the database use the place of what was removed again.
pub(super) async fn run(shared: Arc<Shared>, database: Database) {
    let is_vacuum_due = Notify::new();
    // Neither ends by itself, and neither waits for the other.
    tokio::join!(keep(&shared, &database, &is_vacuum_due), vacuum(&database, &is_vacuum_due));
}

/// Measures one app after the other, when it is due.
async fn keep(shared: &Shared, database: &Database, is_vacuum_due: &Notify) {
    let mut removed = 0;
    loop {
        let app = shared.logs.next_due().await;
        let began = Instant::now();
        match keep_to_limit(database, app).await {
            Ok(measured) => {
                shared.logs.measured(app, measured.kept);
                removed += measured.removed;
                if removed >= VACUUM_FROM {
                    removed = 0;
                    is_vacuum_due.notify_one();
                }
                tokio::time::sleep((began.elapsed() * REST).min(REST_MAX)).await;
            }
            Err(error) => {
                tracing::warn!(%error, app.id = %app, "old logs could not be removed; trying again");
                shared.logs.again(app);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Vacuums when it is due. What becomes due meanwhile, however often, is one vacuum afterwards.
async fn vacuum(database: &Database, is_due: &Notify) {
    loop {
        is_due.notified().await;
        if let Err(error) = vacuum_once(database).await {
            tracing::warn!(%error, "the place of removed logs is used again only later");
        }
    }
}

async fn vacuum_once(database: &Database) -> sqlx::Result<()> {
    let mut conn = database.apart().await?;
    store::executions::vacuum(&mut conn).await?;
    conn.close().await
}

/// Removes what is too much.
async fn keep_to_limit(database: &Database, app: AppId) -> sqlx::Result<Measured> {
    let mut conn = database.acquire().await?;
    let bytes = store::executions::log_bytes(&mut conn, app).await?;
    let too_many = match bytes > LOGS_BYTES_MAX {
        true => store::executions::first_log_too_many(&mut conn, app, LOGS_BYTES_MAX).await?,
        false => None,
    };
    drop(conn);
    let Some(last) = too_many else { return Ok(Measured { kept: bytes, removed: 0 }) };
    let (removal, mut after, mut removed) = (removal(), None, 0);
    loop {
        let mut conn = database.acquire().await?;
        let batch = store::executions::replace_logs(&mut conn, app, after, last, &removal, BATCH).await?;
        // The pause is without the connection.
        drop(conn);
        let Some((newest, replaced)) = batch else { break };
        removed += replaced;
        after = Some(newest);
        tokio::time::sleep(PAUSE).await;
    }
    if removed == 0 {
        return Ok(Measured { kept: bytes, removed: 0 });
    }
    tracing::info!(app.id = %app, logs.removed = removed, "old logs of an app that has too much were removed");
    Ok(Measured { kept: LOGS_BYTES_MAX, removed: bytes - LOGS_BYTES_MAX })
}

/// What is there instead of a log.
fn removal() -> Box<RawValue> {
    let message = format!("log removed: of an app's logs the newest {} MiB are kept", LOGS_BYTES_MAX >> 20);
    lines(&[LogEntry { level: LogLevel::Warn, message, data: String::new() }])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::invocation::ExecutionStatus;

    use super::super::row::row;
    use super::super::testing::record;
    use super::*;

    /// Rows of one app with so many bytes of logs.
    fn rows(bytes: &[i64]) -> (AppId, Vec<ExecutionRow>) {
        let mut one = row(&record(ExecutionStatus::Ok));
        let row_of = |bytes: &i64| {
            let quoted = "x".repeat(usize::try_from(*bytes).unwrap() - 2);
            one.logs = RawValue::from_string(format!("\"{quoted}\"")).unwrap();
            one.clone()
        };
        let rows = bytes.iter().map(row_of).collect();
        (one.app_id, rows)
    }

    #[test]
    fn an_app_is_measured_once_it_wrote_what_it_has_room_for() {
        let (logs, (app, rows)) = (Logs::default(), rows(&[STEP - 10, 9, 2]));
        logs.wrote(&rows[..2], &[]);
        assert_eq!(logs.begin(), None, "there may be a byte more");
        logs.wrote(&rows[2..], &[app]);
        assert_eq!(logs.begin(), None, "it was locked, so nothing was written");
        logs.wrote(&rows[2..], &[]);
        assert_eq!((logs.begin(), logs.begin()), (Some(app), None));

        // What is written meanwhile counts.
        logs.wrote(&rows[1..2], &[]);
        logs.measured(app, LOGS_BYTES_MAX - 2 * STEP);
        logs.wrote(&rows[..1], &[]);
        logs.wrote(&rows[..1], &[]);
        assert_eq!(logs.begin(), None, "there was room for twice as much, but for the 9 bytes");
        logs.wrote(&rows[1..], &[]);
        assert_eq!(logs.begin(), Some(app));
        logs.measured(app, LOGS_BYTES_MAX);
        logs.wrote(&rows[..2], &[]);
        assert_eq!(logs.begin(), None, "who is at the limit is not measured for each line");
    }

    #[test]
    fn who_wrote_is_measured_again_when_others_may_have_written_too() {
        let (logs, (app, rows), other) = (Logs::default(), rows(&[9]), AppId::new());
        let begun = || iter::from_fn(|| logs.begin()).collect::<BTreeSet<_>>();
        logs.wrote(&rows, &[]);
        logs.doubt([other]);
        logs.doubt([other]);
        let due = BTreeSet::from([app, other]);
        assert_eq!([logs.begin(), logs.begin()].into_iter().flatten().collect::<BTreeSet<_>>(), due);
        assert_eq!(logs.begin(), None, "who is doubted twice is measured once");
        logs.doubt([]);
        assert_eq!(logs.begin(), None, "nobody wrote anything since");
        logs.wrote(&rows, &[]);
        logs.doubt([]);
        assert_eq!(begun(), BTreeSet::from([app]));
        logs.doubt([other]);
        assert_eq!(begun(), BTreeSet::from([other]));
    }

    #[test]
    fn an_app_that_logs_nothing_is_not_measured() {
        let (logs, silent) = (Logs::default(), row(&record(ExecutionStatus::Ok)));
        logs.wrote(&[silent], &[]);
        logs.doubt([]);
        assert_eq!(logs.begin(), None);
    }

    #[test]
    fn attack_who_writes_much_does_not_wait_behind_those_in_doubt() {
        let (logs, (app, rows)) = (Logs::default(), rows(&[STEP]));
        let doubted: Vec<AppId> = (0..100).map(|_| AppId::new()).collect();
        logs.doubt(doubted.iter().copied());
        logs.wrote(&rows, &[]);
        assert_eq!(logs.begin(), Some(app));

        // Nor if it is one of them, and then its turn among them is over.
        logs.doubt([app]);
        logs.wrote(&rows, &[]);
        assert_eq!(logs.begin(), Some(app));
        let others = iter::from_fn(|| logs.begin()).collect::<Vec<_>>();
        assert_eq!(others.len(), 100);
        assert_eq!(BTreeSet::from_iter(others), BTreeSet::from_iter(doubted));
    }

    #[test]
    fn attack_an_app_that_cannot_be_measured_keeps_no_other_waiting() {
        let (logs, (app, rows), other) = (Logs::default(), rows(&[STEP]), AppId::new());
        logs.wrote(&rows, &[]);
        logs.doubt([other]);
        assert_eq!(logs.begin(), Some(app));
        logs.again(app);
        assert_eq!([logs.begin(), logs.begin(), logs.begin()], [Some(other), Some(app), None]);
    }

    #[test]
    fn attack_an_app_that_is_due_again_at_once_keeps_no_other_waiting() {
        let (logs, (first, of_first), (second, of_second)) = (Logs::default(), rows(&[STEP]), rows(&[STEP]));
        logs.wrote(&of_first, &[]);
        logs.wrote(&of_second, &[]);
        let begun = [&of_first, &of_first, &of_first].map(|again| {
            let app = logs.begin();
            logs.wrote(again, &[]);
            app
        });
        assert_eq!(begun, [Some(first), Some(second), Some(first)]);
    }

    #[test]
    fn what_is_there_instead_of_a_log_is_a_line_of_a_log() {
        let expected =
            r#"[{"level":"warn","message":"log removed: of an app's logs the newest 256 MiB are kept"}]"#;
        assert_eq!(removal().get(), expected);
    }
}
