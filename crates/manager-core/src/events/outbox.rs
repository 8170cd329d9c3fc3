//! The door to the outbox for everybody who causes events.
//!
//! ```text
//! let pending = outbox.insert(&mut tx, events).await?;
//! tx.commit().await?;
//! pending.hand_over();
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::AppId;
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::arrivals::{Arrival, Arrivals};
use super::event::{Due, NewEvent};
use super::row::Row;
use crate::store;

/// Events of one app that may wait: what a few hours of a busy app make. A caller beyond it is told,
/// so that one app cannot fill the disk.
pub(crate) const WAITING_MAX: i64 = 100_000;
/// Commits whose events wait for the dispatcher to take them. Beyond it they are read from the table.
const HANDED_OVER_MAX: usize = 4_096;
/// When to look for events whose writer went away before it could say whether it had committed.
const DOUBT: Duration = Duration::from_secs(1);
/// How often the table is counted, however often somebody has too many events in it.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Why events were not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmitError {
    #[error("the app has {WAITING_MAX} events waiting; no more are accepted until some are done")]
    Full,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A handle on the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inlet: Sender<Handed>,
    /// Something is in the table that the inlet had no room for.
    is_dirty: AtomicBool,
    dirty: Notify,
    arrivals: Arrivals,
    /// About how many events of each app are not done. Right again after each count of the table.
    waiting: Mutex<HashMap<AppId, i64>>,
    /// When somebody had too many and the table was counted.
    counted: Mutex<Option<Instant>>,
}

/// What a commit left for the dispatcher.
#[derive(Debug)]
pub(super) enum Handed {
    Rows(Vec<Row>),
    DueAfter(Duration),
}

/// The dispatcher's end.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) handed: Receiver<Handed>,
    pub(super) arrivals: Arrivals,
    pub(super) dirty: Dirty,
}

/// Says that something is in the table that was not handed over.
#[derive(Debug)]
pub(super) struct Dirty(Arc<Shared>);

impl Outbox {
    pub(super) fn new() -> (Self, Outlet) {
        let (inlet, handed) = channel(HANDED_OVER_MAX);
        let shared = Arc::new(Shared {
            inlet,
            is_dirty: AtomicBool::new(false),
            dirty: Notify::new(),
            arrivals: Arrivals::default(),
            waiting: Mutex::default(),
            counted: Mutex::default(),
        });
        let arrivals = shared.arrivals.clone();
        (Self { shared: Arc::clone(&shared) }, Outlet { handed, arrivals, dirty: Dirty(shared) })
    }

    /// Writes events in the caller's transaction. What it answers is to be handed over after the
    /// commit.
    pub(crate) async fn insert(
        &self,
        conn: &mut PgConnection,
        events: Vec<NewEvent>,
    ) -> Result<Pending, EmitError> {
        if !self.has_room(conn, &counts(&events)).await? {
            return Err(EmitError::Full);
        }
        Ok(self.insert_beyond(conn, events).await?)
    }

    /// Whether apps may have so many events more.
    pub(super) async fn has_room(
        &self,
        conn: &mut PgConnection,
        more: &HashMap<AppId, i64>,
    ) -> sqlx::Result<bool> {
        if !self.shared.is_over(more) {
            return Ok(true);
        }
        // Of what this node took in, another may have delivered some.
        if self.shared.may_count() {
            self.set_waiting(store::outbox::count_by_app(conn).await?);
        }
        Ok(!self.shared.is_over(more))
    }

    /// The same, however many events wait: for what must be told of those that were given up.
    pub(super) async fn insert_beyond(
        &self,
        conn: &mut PgConnection,
        events: Vec<NewEvent>,
    ) -> sqlx::Result<Pending> {
        let counts = counts(&events);
        let arrival = self.shared.arrivals.announce(counts.keys().copied());
        let delays = events.iter().filter_map(|event| match event.due {
            Due::After(delay) => Some(delay),
            Due::Now => None,
        });
        let next_due = delays.min();
        let rows = match events.is_empty() {
            true => Vec::new(),
            false => store::outbox::insert(conn, events).await?,
        };
        Ok(Pending { shared: Arc::clone(&self.shared), rows, next_due, counts, arrivals: vec![arrival] })
    }

    /// Has the dispatcher look for events of which nobody knows whether they were committed.
    pub(super) fn doubt(&self) {
        self.shared.hand(Handed::DueAfter(DOUBT));
    }

    /// Tells the dispatcher that rows became due which it has not been handed.
    pub(crate) fn nudge(&self) {
        self.shared.nudge();
    }

    /// Begins anew with the numbers of the table.
    pub(super) fn set_waiting(&self, counts: Vec<(AppId, i64)>) {
        *self.shared.waiting() = counts.into_iter().collect();
    }

    pub(super) fn done(&self, app: AppId, events: i64) {
        self.shared.count(app, -events);
    }
}

impl Dirty {
    /// Waits until there is something.
    pub(super) async fn wait(&self) {
        while !self.0.is_dirty.swap(false, Ordering::AcqRel) {
            self.0.dirty.notified().await;
        }
    }
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<AppId, i64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, more: &HashMap<AppId, i64>) -> bool {
        let waiting = self.waiting();
        more.iter().any(|(app, more)| waiting.get(app).unwrap_or(&0) + more > WAITING_MAX)
    }

    /// Whether it is time to count the table; then nobody else does for a while.
    fn may_count(&self) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY);
        if is_time {
            *counted = Some(Instant::now());
        }
        is_time
    }

    fn count(&self, app: AppId, change: i64) {
        let mut waiting = self.waiting();
        let count = waiting.entry(app).or_default();
        *count = (*count + change).max(0);
        if *count == 0 {
            waiting.remove(&app);
        }
    }

    fn nudge(&self) {
        self.is_dirty.store(true, Ordering::Release);
        self.dirty.notify_one();
    }

    fn hand(&self, handed: Handed) {
        if self.inlet.try_send(handed).is_err() {
            self.nudge();
        }
    }
}

fn counts(events: &[NewEvent]) -> HashMap<AppId, i64> {
    let mut counts = HashMap::new();
    for event in events {
        *counts.entry(event.app).or_default() += 1;
    }
    counts
}

/// Events that are written and not yet committed.
#[must_use = "events that are not handed over are found only later"]
#[derive(Debug)]
pub(crate) struct Pending {
    shared: Arc<Shared>,
    rows: Vec<Row>,
    next_due: Option<Duration>,
    counts: HashMap<AppId, i64>,
    /// Whoever gives way to these events does until they are handed over.
    arrivals: Vec<Arrival>,
}

impl Pending {
    /// Adds what else was written in the same transaction.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
        self.next_due = [self.next_due, other.next_due.take()].into_iter().flatten().min();
        for (app, count) in other.counts.drain() {
            *self.counts.entry(app).or_default() += count;
        }
        self.arrivals.append(&mut other.arrivals);
    }

    /// Lets the events be, because their transaction is rolled back; answers how many there were.
    pub(crate) fn forget(mut self) -> usize {
        self.next_due = None;
        std::mem::take(&mut self.rows).len()
    }

    /// Gives the events to the dispatcher. Only after the commit.
    pub(crate) fn hand_over(mut self) {
        for (app, count) in self.counts.drain() {
            self.shared.count(app, count);
        }
        let rows = std::mem::take(&mut self.rows);
        if !rows.is_empty() {
            self.shared.hand(Handed::Rows(rows));
        }
        if let Some(delay) = self.next_due.take() {
            self.shared.hand(Handed::DueAfter(delay));
        }
    }
}

impl Drop for Pending {
    /// Whoever wrote the events went away, perhaps between the commit and this: then they are found
    /// in the table.
    fn drop(&mut self) {
        if !self.rows.is_empty() || self.next_due.is_some() {
            self.shared.hand(Handed::DueAfter(DOUBT));
        }
    }
}
