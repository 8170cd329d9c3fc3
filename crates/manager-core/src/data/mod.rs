//! What apps keep: the rules of values, documents and files, for scripts and for people alike.
//!
//! `services` and `admin` come in here with an [`Access`], which says whose data it is; no function
//! takes an app from anywhere else. What changes is told to the triggers that watch it, in the
//! transaction of the change.

pub(crate) mod atomic;
pub(crate) mod docs;
pub(crate) mod kv;
mod name;
mod sweep;

use shared::allowance::{Allowance, Left};
use shared::call::{CallCode, CallError, HostCall, Stage};
use shared::id::AppId;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;

use self::sweep::Sweeper;
use crate::store::apps::App;
use crate::store::{self, Database};

/// The data of all apps, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    database: Database,
    sweeper: Sweeper,
}

/// Whose data is used, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    app: AppId,
    stage: Option<&'a Stage>,
    left: Option<&'a Left>,
}

impl<'a> Access<'a> {
    /// A script uses its own app's data.
    pub(crate) fn of_script(call: &'a HostCall) -> Self {
        Self { app: call.context.app(), stage: Some(&call.stage), left: Some(&call.context.left) }
    }

    /// A person uses an app's data; that they may has been decided.
    pub(crate) const fn of_person(app: &App) -> Self {
        Self { app: app.id, stage: None, left: None }
    }

    /// To be told how many rows a call may come to, before it reads or changes any.
    fn take_rows(&self, rows: usize) -> Result<(), CallError> {
        self.left.map_or(Ok(()), |left| left.spend(Allowance::Rows, rows))
    }

    /// Those that there were not.
    fn give_back_rows(&self, rows: usize) {
        if let Some(left) = self.left {
            left.give_back(Allowance::Rows, rows);
        }
    }

    /// To be asked before the first change: whether it is still wanted.
    pub(crate) fn begin(&self) -> Result<(), CallError> {
        if self.stage.is_none_or(Stage::begin) {
            return Ok(());
        }
        Err(CallError::new(CallCode::Unavailable, "the execution is over"))
    }
}

impl Data {
    /// `database` is for this alone: scripts may use all of its connections.
    pub(crate) fn new(database: Database) -> Self {
        Self { sweeper: Sweeper::start(database.clone()), database }
    }

    pub(crate) async fn close(&self) {
        self.sweeper.end();
        self.database.close().await;
    }

    /// A connection for one statement.
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, CallError> {
        self.database.acquire().await.map_err(|error| failed(&error))
    }
}

/// What a script is told when the database fails.
pub(crate) fn failed(error: &sqlx::Error) -> CallError {
    if store::is_outage(error) {
        tracing::warn!(%error, "a call failed with the database");
        return CallError::new(CallCode::Unavailable, "the database cannot be reached now");
    }
    tracing::error!(%error, "a call failed");
    CallError::new(CallCode::Internal, "the platform failed")
}
