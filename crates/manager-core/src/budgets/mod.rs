//! What apps use over time, counted in memory and written in batches, and whether they may go on.
//!
//! Asked before every execution and told after it, so neither waits for anything: what is counted
//! reaches the database within seconds, and a crash loses no more than that. What an app keeps is
//! measured by `data`; how much that may be is said here.

mod meter;
mod writer;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, NaiveDate, Utc};
use shared::id::AppId;
use shared::invocation::{ExecutionRecord, Refusal, ScriptTarget};
use shared::limits::DATA_BYTES_MAX;
use shared::name::AppSlug;
use sqlx::postgres::PgConnection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::meter::{DAY_S, Window};
pub(crate) use self::meter::{Level, Meter, Sending, Spent, level_of_kept};
use crate::catch_up::{CatchUp, RETRY_FIRST};
use crate::store::usage::{Added, Used};
use crate::store::{self, Database, Tx};

/// Apps that are gone and remembered: more than people remove in the minutes in which something of one may wait and run.
const GONE_MAX: usize = 4_096;

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
    catch_up: CatchUp,
    /// Wakes a writer that waits for something to write.
    wake: Notify,
    /// Ends a writer's wait for more, or for the database.
    hurry: Notify,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    meters: HashMap<AppId, Meter>,
    /// Apps that are gone, the last one last. Their meters stay for what was on its way.
    gone: VecDeque<AppId>,
    unsaved: Unsaved,
    /// Apps whose budgets may differ from the database's.
    behind: BTreeSet<AppId>,
    is_writer_waiting: bool,
    is_closed: bool,
}

/// What the database does not know yet.
#[derive(Debug, Default)]
struct Unsaved {
    used: HashMap<(AppId, NaiveDate), Used>,
    /// Apps that froze, and which of their budgets they had used up.
    frozen: Vec<(AppId, DateTime<Utc>)>,
}

impl Unsaved {
    fn is_empty(&self) -> bool {
        self.used.is_empty() && self.frozen.is_empty()
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
        let burnt = record.usage.fuel.saturating_add(record.usage.load_fuel);
        self.burn((record.target.app, Some(&record.target.app_slug)), 1, burnt);
    }

    /// Counts the fuel of a compilation, which is no execution. Nobody asks before one: an app that is out of budget
    /// or frozen is mended by a deploy.
    pub(crate) fn charge_compilation(&self, app: AppId, fuel: u64) {
        self.burn((app, None), 0, fuel);
    }

    fn burn(&self, app: (AppId, Option<&AppSlug>), executions: i64, fuel: u64) {
        let fuel = i64::try_from(fuel).unwrap_or(i64::MAX);
        let used = Used { executions, fuel, ..Used::default() };
        let counted = self.count(app, used, |meter, now_s| Ok::<_, Infallible>(meter.charge(now_s, used)));
        let Ok(()) = counted;
    }

    /// Counts what a script is about to send, if the day's budget of its app has one left.
    pub(crate) fn spend(&self, target: &ScriptTarget, sending: Sending) -> Result<(), Spent> {
        let app = (target.app, Some(&target.app_slug));
        // It freezes nothing.
        self.count(app, sending.one(), |meter, now_s| meter.spend(now_s, sending).map(|()| false))
    }

    /// Has a meter count what was used, which answers whether that freezes the app, and the writer write it.
    fn count<E>(
        &self,
        (app, slug): (AppId, Option<&AppSlug>),
        used: Used,
        count: impl FnOnce(&mut Meter, i64) -> Result<bool, E>,
    ) -> Result<(), E> {
        let now = Utc::now();
        let (news, wakes) = {
            let mut state = self.shared.lock();
            let meter = state.meters.entry(app).or_default();
            let freezes = count(meter, now.timestamp())?;
            let news = meter.tell(freezes);
            let froze = meter.set_at.filter(|_| freezes);
            *state.unsaved.used.entry((app, now.date_naive())).or_default() += used;
            state.unsaved.frozen.extend(froze.map(|set_at| (app, set_at)));
            (news, std::mem::take(&mut state.is_writer_waiting))
        };
        if wakes {
            self.shared.wake.notify_one();
        }
        if let Some(level) = news {
            let slug = slug.map(tracing::field::display);
            tracing::warn!(app.id = %app, app.slug = slug, ?level, "{}", level.words());
        }
        Ok(())
    }

    /// How many bytes of values and documents the app may keep.
    pub(crate) fn data_bytes_max(&self, app: AppId) -> i64 {
        let state = self.shared.lock();
        state.meters.get(&app).and_then(|meter| meter.budget.data_bytes).unwrap_or(DATA_BYTES_MAX)
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
    pub(crate) async fn publish(&self, change: Tx, app: AppId) -> sqlx::Result<()> {
        let budgets = self.clone();
        let publishing = tokio::spawn(async move {
            let published = async {
                change.commit().await?;
                budgets.reload(app).await
            };
            let published = published.await;
            if published.is_err() {
                // A commit that failed may have happened all the same.
                budgets.catch_up(app);
            }
            published
        });
        publishing.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    /// Reads an app's budget again, as soon as the database lets it.
    fn catch_up(&self, app: AppId) {
        self.shared.lock().behind.insert(app);
        let budgets = self.clone();
        // Not at once: the server may still be busy with that commit.
        self.shared.catch_up.begin(
            RETRY_FIRST,
            "the budgets of some apps here may differ from the database",
            move || {
                let budgets = budgets.clone();
                async move { budgets.reload_behind().await }
            },
        );
    }

    async fn reload_behind(&self) -> sqlx::Result<()> {
        let behind = self.shared.lock().behind.clone();
        let mut outcome = Ok(());
        for app in behind {
            // Taken off first: a change from here on is either in what is read or puts it back. One that is not there any
            // more has been read or is gone.
            if !self.shared.lock().behind.remove(&app) {
                continue;
            }
            if let Err(error) = self.reload(app).await {
                // The others do not wait for one that cannot be read.
                self.shared.lock().behind.insert(app);
                outcome = Err(error);
            }
        }
        outcome
    }

    async fn reload(&self, app: AppId) -> sqlx::Result<()> {
        let _turn = self.shared.reading.lock().await;
        let budget = store::budgets::of(&mut *self.database.acquire().await?, app).await?;
        let mut state = self.shared.lock();
        let meter = state.meters.entry(app).or_default();
        // Where it is the same one, what is known here is newer: whether it froze the app is written later.
        if meter.set_at != budget.map(|set| set.set_at) {
            meter.set(budget);
            state.unsaved.frozen.retain(|(frozen, _)| *frozen != app);
        }
        Ok(())
    }

    /// Lets nothing more of an app start, which is gone, and forgets it when many others are gone too.
    pub(crate) fn forget(&self, app: AppId) {
        self.shared.lock().forget(app);
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

impl State {
    fn forget(&mut self, app: AppId) {
        self.behind.remove(&app);
        let meter = self.meters.entry(app).or_default();
        if std::mem::replace(&mut meter.is_gone, true) {
            // A second place would end the first one's time early.
            return;
        }
        self.gone.push_back(app);
        if self.gone.len() > GONE_MAX
            && let Some(first) = self.gone.pop_front()
        {
            self.meters.remove(&first);
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
        meters.entry(app).or_default().set(Some(budget));
    }
    let today = now.timestamp().div_euclid(DAY_S);
    for Added { app, used, .. } in store::usage::of_day(conn, now.date_naive()).await? {
        let meter = meters.entry(app).or_default();
        meter.day = Window::of_day(today, used);
        // Whoever counted it has said it.
        meter.tell(false);
    }
    Ok(meters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_apps_that_are_gone_the_last_ones_are_remembered_and_no_more() {
        let mut state = State::default();
        let apps: Vec<_> = (0..=GONE_MAX).map(|_| AppId::new()).collect();
        // Whoever is told twice forgets none earlier.
        apps.iter().flat_map(|app| [app; 2]).for_each(|app| state.forget(*app));
        assert_eq!((state.meters.len(), state.gone.len()), (GONE_MAX, GONE_MAX));
        assert!(!state.meters.contains_key(&apps[0]));
        assert!(apps[1..].iter().all(|app| state.meters[app].is_gone));
    }
}
