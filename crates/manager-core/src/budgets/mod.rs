//! What apps use over time, counted in memory and written in batches, and whether they may go on.
//!
//! Asked before every execution and told after it, so neither waits for anything: what is counted
//! reaches the database within seconds, and a crash loses no more than that.

mod meter;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, NaiveDate, Utc};
use shared::id::AppId;
use shared::invocation::{ExecutionRecord, Refusal};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Transaction};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::meter::{DAY_S, Window};
pub(crate) use self::meter::{Level, Meter};
use crate::store::usage::Added;
use crate::store::{self, Database};

/// The budgets, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Budgets {
    database: Database,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// One reads at a time, so that an older budget never replaces a newer.
    reading: tokio::sync::Mutex<()>,
    /// Wakes a writer that waits for something to write.
    wake: Notify,
    /// Ends a writer's wait for more, or for the database.
    hurry: Notify,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    meters: HashMap<AppId, Meter>,
    unsaved: Unsaved,
    is_writer_waiting: bool,
    is_closed: bool,
}

/// What the database does not know yet.
#[derive(Debug, Default)]
struct Unsaved {
    /// Executions and fuel.
    used: HashMap<(AppId, NaiveDate), (i64, i64)>,
    frozen: Vec<AppId>,
}

impl Unsaved {
    fn is_empty(&self) -> bool {
        self.used.is_empty() && self.frozen.is_empty()
    }

    fn add(&mut self, app: AppId, day: NaiveDate, executions: i64, fuel: i64) {
        let used = self.used.entry((app, day)).or_default();
        *used = (used.0.saturating_add(executions), used.1.saturating_add(fuel));
    }
}

impl Budgets {
    /// Reads what is set and what was used today, and starts the writer.
    pub(crate) async fn load(database: Database) -> sqlx::Result<Self> {
        let mut conn = database.acquire().await?;
        let now = Utc::now();
        let meters = read(&mut conn, now).await?;
        drop(conn);
        let shared = Arc::new(Shared::default());
        shared.lock().meters = meters;
        let writer = tokio::spawn(writer::run(Arc::clone(&shared), database.clone()));
        *shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(Self { database, shared })
    }

    /// Whether the app may start one more execution.
    pub(crate) fn permit(&self, app: AppId) -> Result<(), Refusal> {
        match self.shared.lock().meters.get_mut(&app) {
            Some(meter) => meter.permit(Utc::now().timestamp()),
            None => Ok(()),
        }
    }

    /// Counts an execution that has ended.
    pub(crate) fn charge(&self, record: &ExecutionRecord) {
        let (app, now) = (record.target.app, Utc::now());
        let burnt = record.usage.fuel.saturating_add(record.usage.load_fuel);
        let fuel = i64::try_from(burnt).unwrap_or(i64::MAX);
        let (crossed, wakes) = {
            let mut state = self.shared.lock();
            let meter = state.meters.entry(app).or_default();
            let before = meter.level();
            let freezes = meter.charge(now.timestamp(), fuel);
            let crossed = Some(meter.level()).filter(|after| *after > before);
            state.unsaved.add(app, now.date_naive(), 1, fuel);
            if freezes {
                state.unsaved.frozen.push(app);
            }
            (crossed, std::mem::take(&mut state.is_writer_waiting))
        };
        if wakes {
            self.shared.wake.notify_one();
        }
        if let Some(level) = crossed {
            tracing::warn!(app.id = %app, app.slug = %record.target.app_slug, ?level, "an app nears its budget");
        }
    }

    /// What the app may use and has used.
    pub(crate) fn meter(&self, app: AppId) -> Meter {
        let mut state = self.shared.lock();
        let Some(meter) = state.meters.get_mut(&app) else {
            return Meter::default();
        };
        meter.roll(Utc::now().timestamp());
        *meter
    }

    /// Commits a change of an app's budget and shows it, in a task of its own: a caller that goes
    /// away between the two would leave memory behind the database.
    pub(crate) async fn publish(
        &self,
        change: Transaction<'static, Postgres>,
        app: AppId,
    ) -> sqlx::Result<()> {
        let budgets = self.clone();
        let publishing = tokio::spawn(async move {
            // A commit that failed may have happened all the same, so it is looked at in any case.
            let committed = change.commit().await;
            budgets.reload(app).await.and(committed)
        });
        publishing.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    async fn reload(&self, app: AppId) -> sqlx::Result<()> {
        let _turn = self.shared.reading.lock().await;
        let budget = store::budgets::of(&mut *self.database.acquire().await?, app).await?;
        self.shared.lock().meters.entry(app).or_default().budget = budget.unwrap_or_default();
        Ok(())
    }

    /// Forgets an app that is gone.
    pub(crate) fn forget(&self, app: AppId) {
        self.shared.lock().meters.remove(&app);
    }

    /// Writes what is unsaved and stops.
    pub(crate) async fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.wake.notify_one();
        self.shared.hurry.notify_one();
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            tracing::error!("the budgets' writer ended by itself");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<HashMap<AppId, Meter>> {
    let mut meters: HashMap<AppId, Meter> = HashMap::new();
    for (app, budget) in store::budgets::all(conn).await? {
        meters.entry(app).or_default().budget = budget;
    }
    let today = now.timestamp().div_euclid(DAY_S);
    for Added { app, executions, fuel, .. } in store::usage::of_day(conn, now.date_naive()).await? {
        meters.entry(app).or_default().day = Window::of_day(today, executions, fuel);
    }
    Ok(meters)
}
