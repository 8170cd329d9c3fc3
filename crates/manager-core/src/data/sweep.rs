//! Removes values that have expired. Nobody sees them any more by then, so it can wait: the sweeper
//! sleeps until the first one is due, and for ever when none is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::{self, Database};

/// Rows removed by one statement, which holds their locks for so long.
const BATCH: i64 = 500;
/// Shortest time between two sweeps: an expired row costs space and nothing else.
const EVERY: Duration = Duration::from_secs(60);
/// How long to wait when the database is away.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub(super) struct Sweeper {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    plan: Mutex<Plan>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    At(Instant),
    Never,
    End,
}

impl Sweeper {
    /// Begins with a look at what was left by the process before: now, while everything starts and the
    /// database is at work anyway, not in the quiet afterwards.
    pub(super) fn start(database: Database) -> Self {
        let state = Arc::new(State { plan: Mutex::new(Plan::At(Instant::now())), changed: Notify::new() });
        tokio::spawn(run(database, state.clone()));
        Self { state }
    }

    /// A value was written that will expire after this time.
    pub(super) fn expect(&self, ttl: Duration) {
        // Too far away for a clock is too far away for this process.
        let Some(at) = Instant::now().checked_add(ttl.max(EVERY)) else { return };
        let mut plan = self.state.plan();
        if matches!(*plan, Plan::Never) || matches!(*plan, Plan::At(due) if at < due) {
            *plan = Plan::At(at);
            self.state.changed.notify_one();
        }
    }

    pub(super) fn end(&self) {
        *self.state.plan() = Plan::End;
        self.state.changed.notify_one();
    }
}

impl State {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(database: Database, state: Arc<State>) {
    loop {
        let plan = *state.plan();
        match plan {
            Plan::End => return,
            Plan::Never => state.changed.notified().await,
            Plan::At(due) => tokio::select! {
                () = state.changed.notified() => {}
                () = tokio::time::sleep_until(due) => {
                    // What is written meanwhile is seen by the sweep, or sets the plan again.
                    settle(&state, Plan::Never);
                    let next = match sweep(&database).await {
                        Ok(None) => continue,
                        Ok(Some(wait)) => wait,
                        Err(error) => {
                            tracing::warn!(%error, "expired values could not be removed");
                            RETRY
                        }
                    };
                    Sweeper { state: state.clone() }.expect(next);
                }
            },
        }
    }
}

fn settle(state: &State, next: Plan) {
    let mut plan = state.plan();
    if *plan != Plan::End {
        *plan = next;
    }
}

/// Removes what has expired; answers when there will be more.
async fn sweep(database: &Database) -> sqlx::Result<Option<Duration>> {
    loop {
        // A connection for each batch: others go first.
        let mut conn = database.acquire().await?;
        if store::kv::sweep(&mut conn, BATCH).await? < BATCH.unsigned_abs() {
            let next = store::kv::next_expiry_ms(&mut conn).await?;
            return Ok(next.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))));
        }
    }
}
