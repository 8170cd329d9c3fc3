//! What apps keep: the rules of values, documents and files, for scripts and for people alike.
//!
//! `services` and `admin` come in here with an [`Access`], which says whose data it is; no function
//! takes an app from anywhere else. What changes is told to the triggers that watch it, in the
//! transaction of the change.

pub(crate) mod atomic;
pub(crate) mod docs;
pub(crate) mod files;
pub(crate) mod kv;
pub(crate) mod messages;
mod name;
mod notes;
mod read_ahead;
pub(crate) mod rehearsal;
mod room;
mod sealed_claim;
mod subscriber_token;
mod sweep;
mod told;
pub(crate) mod uploads;
mod watch;

use std::sync::Arc;

use shared::allowance::{Allowance, Left};
use shared::call::{CallCode, CallError, HostCall, Stage};
use shared::cause::Cause;
use shared::id::{AppId, DeliveryId, UserId};
use tokio::task::AbortHandle;

use self::docs::schema::Schemas;
use self::files::blobs::{Blobs, FileStorage, StorageError};
use self::files::in_flight::InFlight;
use self::files::orphans::{self, OrphanSweep};
use self::read_ahead::Foresight;
use self::rehearsal::Rehearsal;
pub(crate) use self::room::Room;
use self::sweep::Sweeper;
pub(crate) use self::told::Told;
pub(crate) use self::watch::Watch;
use crate::events::queues::Queues;
use crate::realtime::Hub;
use crate::snapshot::Snapshot;
use crate::store::app_database::{AppConnection, AppDatabase, STATEMENT_TIME_MAX, Tenant};
use crate::store::apps::App;
use crate::store::{self, Database};
use crate::vault::Vault;

/// The data of all apps, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    database: AppDatabase,
    sweeper: Sweeper,
    blobs: Blobs,
    in_flight: InFlight,
    /// Seals links to files.
    vault: Arc<Vault>,
    watch: Watch,
    queues: Queues,
    hub: Hub,
    snapshot: Arc<Snapshot>,
    schemas: Arc<Schemas>,
    foresight: Arc<Foresight>,
    stage: rehearsal::Stage,
    room: Room,
    /// Looks for content that belongs to no file.
    orphans: AbortHandle,
}

/// Whose data is used, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    app: AppId,
    /// Whose the app is.
    owner: UserId,
    stage: Option<&'a Stage>,
    left: Option<&'a Left>,
    /// Why something runs that a change brings about; none for what begins a chain.
    cause: Option<Cause>,
    rehearsal: Option<&'a Rehearsal>,
}

impl<'a> Access<'a> {
    /// A script uses its own app's data.
    pub(crate) fn of_script(call: &'a HostCall) -> Self {
        Self {
            app: call.context.app(),
            owner: call.context.target.owner,
            stage: Some(&call.stage),
            left: Some(&call.context.left),
            cause: Some(call.context.effect()),
            rehearsal: Rehearsal::of(call),
        }
    }

    /// A person uses an app's data; that they may has been decided.
    pub(crate) const fn of_person(app: &App) -> Self {
        Self { app: app.id, owner: app.owner_id, stage: None, left: None, cause: None, rehearsal: None }
    }

    const fn tenant(&self) -> Tenant {
        Tenant { owner: self.owner, app: self.app }
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

    /// To be told how many events a change causes, before it is committed.
    fn take_events(&self, events: usize) -> Result<(), CallError> {
        self.left.map_or(Ok(()), |left| left.spend(Allowance::Events, events))
    }

    /// Why the event with this delivery happens.
    fn cause_of(&self, delivery: DeliveryId) -> Cause {
        self.cause.unwrap_or_else(|| Cause::root_event(delivery))
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
    /// `database` is for this alone: scripts may use all of its connections. What is done for all apps is done
    /// by the platform's.
    pub(crate) fn open(
        (database, platform): (AppDatabase, &Database),
        (storage, plan): (&FileStorage, OrphanSweep),
        vault: Arc<Vault>,
        (watch, queues, hub, room): (Watch, Queues, Hub, Room),
        snapshot: Arc<Snapshot>,
    ) -> Result<Self, StorageError> {
        let blobs = Blobs::open(storage)?;
        let orphans = tokio::spawn(orphans::run(blobs.clone(), platform.clone(), plan)).abort_handle();
        let sweeper = Sweeper::start(platform.clone());
        Ok(Self {
            database,
            sweeper,
            blobs,
            in_flight: InFlight::default(),
            vault,
            watch,
            queues,
            hub,
            snapshot,
            schemas: Arc::default(),
            foresight: Arc::default(),
            stage: rehearsal::Stage::default(),
            room,
            orphans,
        })
    }

    pub(crate) async fn close(&self) {
        self.sweeper.end();
        self.orphans.abort();
        self.room.end();
        self.database.close().await;
    }

    async fn acquire_for(&self, tenant: Tenant) -> Result<AppConnection, CallError> {
        self.database.acquire(tenant).await.map_err(|error| failed(&error))
    }
}

/// What a script is told when the database fails.
pub(crate) fn failed(error: &sqlx::Error) -> CallError {
    if store::took_too_long(error) {
        tracing::debug!(%error, "a call asked too much of the database");
        let message = format!(
            "the database has {} s for one call, and this one took longer, so it was taken back: declare an index of \
             the members that it looks for, ask for less at a time, or let fewer executions change the same at once",
            STATEMENT_TIME_MAX.as_secs()
        );
        return CallError::new(CallCode::BudgetExhausted, message);
    }
    if matches!(error, sqlx::Error::PoolTimedOut) {
        tracing::warn!("a call found no connection to the database free");
        let message =
            "no connection to the database was free: calls that are made at the same time take too long";
        return CallError::new(CallCode::Unavailable, message);
    }
    if store::is_outage(error) {
        tracing::warn!(%error, "a call failed with the database");
        return CallError::new(CallCode::Unavailable, "the database cannot be reached now");
    }
    tracing::error!(%error, "a call failed");
    CallError::new(CallCode::Internal, "the platform failed")
}
