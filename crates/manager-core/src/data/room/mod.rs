//! Whether an app has room for more values and documents.
//!
//! No row counts what an app keeps: all changes of an app would wait for each other there. It is measured instead, now
//! and then, and what this process has added since is counted in memory. So an app may go over its limit: by an eighth
//! of it while it is measured, and by what other processes add meanwhile. An app in which nothing changes is not
//! measured.

mod gauge;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::call::{CallCode, CallError};
use shared::id::AppId;
use sqlx::Connection;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::gauge::{Answer, Gauge};
use super::{Access, Data};
use crate::budgets::Budgets;
use crate::store::kept::{MEASURE_MAX, ROW_BYTES};
use crate::store::{self, Database};

/// How long a change waits for a measurement; then what is known has to do.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a change asks: the measurement that it waits for first may have begun before another change ended.
const ROUNDS: usize = 3;

/// What all apps keep, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    database: Database,
    budgets: Budgets,
    /// Of the apps in which something changed since the start.
    gauges: Mutex<HashMap<AppId, Gauge>>,
    /// One app is measured at a time.
    turn: Semaphore,
    measuring: Mutex<JoinSet<()>>,
}

/// Room that a change has taken, until it is committed or given up.
#[must_use = "it is held until the change is over"]
#[derive(Debug)]
pub(crate) struct Taken {
    room: Room,
    app: AppId,
    bytes: i64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(gauge) = self.room.0.gauges().get_mut(&self.app) {
            gauge.end(self.bytes);
        }
    }
}

/// What a row with texts of so many bytes takes, if it is new.
pub(super) const fn of_row(bytes: usize) -> usize {
    bytes.saturating_add(ROW_BYTES.unsigned_abs() as usize)
}

impl Data {
    /// Takes room for a change that adds so many bytes. To be asked without a connection in hand, and to be kept until
    /// the change is over. One that adds nothing always has room; a dry run keeps nothing.
    pub(crate) async fn take_room(
        &self,
        access: &Access<'_>,
        bytes: usize,
    ) -> Result<Option<Taken>, CallError> {
        match access.rehearsal {
            None => self.room.take(access.app, bytes).await.map(Some),
            Some(_) => Ok(None),
        }
    }

    /// Bytes of the app's values and documents, and how many there may be.
    pub(crate) async fn kept(&self, app: AppId) -> (i64, i64) {
        (self.room.kept(app).await, self.room.limit(app))
    }
}

impl Room {
    /// What is measured is measured by the platform's connections: those of scripts are for short statements.
    pub(crate) fn new(database: Database, budgets: Budgets) -> Self {
        let (gauges, measuring) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { database, budgets, gauges, turn: Semaphore::new(1), measuring }))
    }

    /// Forgets what an app kept that is gone.
    pub(crate) fn forget(&self, app: AppId) {
        self.0.gauges().remove(&app);
    }

    /// Measures no more.
    pub(super) fn end(&self) {
        self.0.turn.close();
        self.0.measuring().abort_all();
    }

    async fn take(&self, app: AppId, bytes: usize) -> Result<Taken, CallError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let taken = || Taken { room: self.clone(), app, bytes };
        if bytes == 0 {
            return Ok(taken());
        }
        let limit = self.limit(app);
        for _ in 0..ROUNDS {
            let answer = self.0.gauges().entry(app).or_default().ask(bytes, limit, Instant::now());
            match answer {
                Answer::Fits => return Ok(taken()),
                Answer::FitsAndIsDue => {
                    self.measure(app, false);
                    return Ok(taken());
                }
                Answer::Full => return Err(no_room(limit)),
                Answer::Unknown | Answer::FullUnlessMeasured => {}
            }
            if !self.measured(app, answer == Answer::FullUnlessMeasured).await {
                break;
            }
        }
        let fits = self.0.gauges().entry(app).or_default().settle(bytes, limit);
        if fits { Ok(taken()) } else { Err(no_room(limit)) }
    }

    fn limit(&self, app: AppId) -> i64 {
        self.0.budgets.data_bytes_max(app)
    }

    async fn kept(&self, app: AppId) -> i64 {
        let is_stale = self.0.gauges().entry(app).or_default().is_stale(Instant::now());
        if is_stale {
            self.measured(app, false).await;
        }
        self.0.gauges().get(&app).map_or(0, Gauge::kept)
    }

    /// Waits for a measurement; false when that takes too long.
    async fn measured(&self, app: AppId, is_refused: bool) -> bool {
        let mut measuring = self.measure(app, is_refused);
        // Nothing is ever sent: an error says that it has ended.
        timeout(PATIENCE, measuring.changed()).await.is_ok()
    }

    /// Begins to measure an app, unless that is under way; soon when somebody is refused without it.
    fn measure(&self, app: AppId, is_refused: bool) -> watch::Receiver<()> {
        let mut gauges = self.0.gauges();
        let gauge = gauges.entry(app).or_default();
        let under_way = gauge.measuring.clone().filter(|measuring| measuring.has_changed().is_ok());
        if let Some(measuring) = under_way {
            if is_refused {
                gauge.hurry.notify_one();
            }
            return measuring;
        }
        let (done, measuring) = watch::channel(());
        gauge.measuring = Some(measuring.clone());
        let rest = Rest::of(gauge, is_refused);
        drop(gauges);
        let shared = Arc::clone(&self.0);
        let mut tasks = self.0.measuring();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            shared.measure(app, rest).await;
            drop(done);
        });
        measuring
    }
}

/// The time before a measurement in which none begins.
struct Rest {
    earliest: Instant,
    /// The same when somebody is refused meanwhile, which `hurry` tells.
    earliest_for_refused: Instant,
    hurry: Arc<Notify>,
}

impl Rest {
    /// Before the next measurement of an app.
    fn of(gauge: &mut Gauge, is_refused: bool) -> Self {
        // Another one: what was told to the last measurement is not for this one.
        let hurry = Arc::new(Notify::new());
        if is_refused {
            hurry.notify_one();
        }
        gauge.hurry = Arc::clone(&hurry);
        let now = Instant::now();
        let earliest_for_refused = gauge.earliest_for_refused(now);
        Self { earliest: gauge.earliest(now), earliest_for_refused, hurry }
    }

    async fn over(self) {
        if timeout_at(self.earliest, self.hurry.notified()).await.is_ok() {
            sleep_until(self.earliest_for_refused).await;
        }
    }
}

impl Shared {
    fn gauges(&self) -> MutexGuard<'_, HashMap<AppId, Gauge>> {
        self.gauges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measuring(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.measuring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn measure(&self, app: AppId, rest: Rest) {
        rest.over().await;
        // It is closed when the server stops.
        let Ok(_turn) = self.turn.acquire().await else { return };
        let seen = self.gauges().get_mut(&app).map(Gauge::begin);
        // An app that is gone meanwhile keeps nothing.
        let Some(seen) = seen else { return };
        let begun = Instant::now();
        // Others wait for their turn: one whose connection hangs does not keep it.
        let silent = |_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into()));
        let bytes = timeout(MEASURE_MAX, self.bytes(app)).await.unwrap_or_else(silent);
        if let Err(error) = &bytes {
            tracing::warn!(app.id = %app, %error, "what an app keeps could not be measured");
        }
        if let Some(gauge) = self.gauges().get_mut(&app) {
            gauge.finish(seen, bytes.ok(), (begun, Instant::now()));
        }
    }

    async fn bytes(&self, app: AppId) -> sqlx::Result<i64> {
        let mut conn = self.database.apart().await?;
        let bytes = store::kept::bytes(&mut conn, app).await?;
        // It has told what it was asked for.
        let _ = conn.close().await;
        Ok(bytes)
    }
}

fn no_room(limit: i64) -> CallError {
    let message = format!(
        "the values and documents of an app have {limit} bytes together at most, and this one has no room for more: \
         delete some, or have its budget data_bytes raised"
    );
    CallError::new(CallCode::BudgetExhausted, message)
}
