//! All SQL of the platform: one file per table family, plain functions that take a connection
//! first, so that any of them can join a transaction. No rule of the product is decided here, and
//! no SQL is written elsewhere.

pub(crate) mod abandoned;
pub(crate) mod api_keys;
pub(crate) mod app_database;
pub(crate) mod app_keys;
pub(crate) mod app_user_sessions;
pub(crate) mod app_user_tokens;
pub(crate) mod app_users;
pub(crate) mod approvals;
pub(crate) mod apps;
mod asker;
pub(crate) mod assets;
pub(crate) mod audit;
pub(crate) mod budgets;
pub(crate) mod bundles;
pub(crate) mod changes;
pub(crate) mod channels;
mod columns;
mod connection;
pub(crate) mod cron;
pub(crate) mod dead_letters;
pub(crate) mod docs;
pub(crate) mod domains;
pub(crate) mod egress;
pub(crate) mod executions;
pub(crate) mod files;
pub(crate) mod former_slugs;
pub(crate) mod idempotency;
pub(crate) mod identities;
pub(crate) mod incidents;
pub(crate) mod invitations;
pub(crate) mod kept;
pub(crate) mod kv;
pub(crate) mod locks;
pub(crate) mod members;
pub(crate) mod migrations;
pub(crate) mod modules;
pub(crate) mod outbox;
pub(crate) mod queues;
pub(crate) mod routes;
pub(crate) mod routing;
pub(crate) mod row_security;
pub(crate) mod savepoints;
pub(crate) mod scripts;
pub(crate) mod second_factors;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod topic_messages;
pub(crate) mod topics;
pub(crate) mod transfers;
pub(crate) mod triggers;
pub(crate) mod usage;
pub(crate) mod users;
pub(crate) mod versions;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgPoolOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

pub(crate) use self::asker::{Asker, Whom};
use self::connection::AskersPlace;
pub(crate) use self::connection::{Conn, Tx};
use crate::places::Places;

/// Connections one process holds. The small private server has 32; a cluster's nodes share theirs.
const CONNECTIONS_MAX: u32 = 8;
/// Of these, all that people's requests have together. The others are left to what nobody asks for by the admin API:
/// events, schedules, records, and what is asked on routes.
const ASKERS_MAX: usize = 5;
/// A connection that was used since then is taken for good without asking the server, which would cost every
/// statement a round trip of its own. What ended meanwhile says so to whoever uses it first.
const UNTESTED_FOR: Duration = Duration::from_secs(1);
/// How long a caller waits for a connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a batch waits for the one before it: several times what one takes. What is stuck does not hold up others.
const TURN_WAIT: Duration = Duration::from_millis(25);
/// Begins what somebody asked for. A lock may be a dry run's, which has it for 10 seconds; a connection that waits for it
/// is missing for others who ask, who wait [`ACQUIRE_TIMEOUT`] for one. See [`waited_too_long`].
const BEGIN_HASTILY: &str = "begin; set local lock_timeout = '2s'";

/// Connections of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseCounters {
    pub open: u32,
    pub idle: u32,
    pub max: u32,
}

/// The database as the platform sees it: the rows of all apps. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pool: PgPool,
    batches: Arc<Semaphore>,
    askers: Arc<Places<Whom, Option<Uuid>>>,
}

impl Database {
    /// Connects. Idle connections are kept and never looked at: an idle server runs no SQL.
    pub(crate) async fn connect(options: PgConnectOptions) -> sqlx::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .before_acquire(|conn, state| Box::pin(is_good(conn, state.idle_for)))
            .connect_with(options)
            .await?;
        Ok(Self { pool, batches: Arc::new(Semaphore::new(1)), askers: Arc::new(Places::new(ASKERS_MAX)) })
    }

    /// A connection for statements that stand alone. Who has one asks for no second one: an [`Asker`] who has few would
    /// wait for themselves.
    pub(crate) async fn acquire(&self) -> sqlx::Result<Conn> {
        let place = self.place().await?;
        Ok(Conn::new(self.pool.acquire().await?, place))
    }

    /// A transaction; dropped without commit it is rolled back. One that somebody asked for waits for no lock for long.
    pub(crate) async fn begin(&self) -> sqlx::Result<Tx> {
        self.begin_with(if Asker::current().is_some() { BEGIN_HASTILY } else { "begin" }).await
    }

    /// A transaction that does not wait for the disk: a crash may lose its rows, never damage others.
    pub(crate) async fn begin_lazily(&self) -> sqlx::Result<Tx> {
        self.begin_with("begin; set local synchronous_commit = off").await
    }

    /// A transaction that waits for the disk, whatever the database's own setting is: no crash takes back its commit.
    pub(crate) async fn begin_durably(&self) -> sqlx::Result<Tx> {
        self.begin_with("begin; set local synchronous_commit = on").await
    }

    /// A transaction that begins with settings of its own, in one round trip.
    pub(crate) async fn begin_with(&self, begin: &'static str) -> sqlx::Result<Tx> {
        let place = self.place().await?;
        Ok(Tx::new(self.pool.begin_with(begin).await?, place))
    }

    /// The place of who asks, if somebody does.
    async fn place(&self) -> sqlx::Result<AskersPlace> {
        let Some(Asker { whom, credential }) = Asker::current() else { return Ok(None) };
        let place = timeout(ACQUIRE_TIMEOUT, self.askers.take(whom, credential)).await;
        place.map_err(|_| sqlx::Error::Io(io::Error::from(ErrorKind::ResourceBusy)))
    }

    /// Waits its turn with a batch of the platform's own: hundreds of rows in a statement, which keep a processor of a
    /// database on the same machine busy for milliseconds. Two such at a time leave none of two for what somebody
    /// waits for.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        timeout(TURN_WAIT, Arc::clone(&self.batches).acquire_owned()).await.ok()?.ok()
    }

    /// A transaction in which every statement sees the same commit.
    pub(crate) async fn begin_snapshot(&self) -> sqlx::Result<Tx> {
        self.begin_with("begin transaction isolation level repeatable read, read only").await
    }

    /// A connection of its own, beside the others, that hears what is told on channels. It ends when
    /// the server ends it, and is not made again unasked.
    pub(crate) async fn listener(&self, channels: &[&str]) -> sqlx::Result<PgListener> {
        let one = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let one = one.connect_with((*self.pool.connect_options()).clone()).await?;
        let mut listener = PgListener::connect_with(&one).await?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener.listen_all(channels.iter().copied()).await?;
        Ok(listener)
    }

    /// A connection of its own, beside the others, for a statement that takes long. A server that stops drops it and
    /// waits for nothing.
    pub(crate) async fn apart(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect_with(&self.pool.connect_options()).await
    }

    pub(crate) fn counters(&self) -> DatabaseCounters {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(CONNECTIONS_MAX);
        DatabaseCounters { open: self.pool.size(), idle, max: self.pool.options().get_max_connections() }
    }

    pub(crate) async fn is_answering(&self) -> bool {
        sqlx::query("select 1").execute(&self.pool).await.is_ok()
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whether a connection that was idle for so long can be given away; an error ends it, and another is made.
async fn is_good(conn: &mut PgConnection, idle_for: Duration) -> sqlx::Result<bool> {
    if idle_for >= UNTESTED_FOR {
        conn.ping().await?;
    }
    Ok(true)
}

/// Whether a write failed on this constraint.
pub(crate) fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().is_some_and(|e| e.constraint() == Some(constraint))
}

/// Whether the fault lies in the data sent, so that sending it again cannot help.
pub(crate) fn is_about_data(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        // Classes: data exception, integrity constraint, program limit.
        sqlx::Error::Database(e) => {
            e.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

/// Whether the database ended a statement because it took too long; on connections of scripts' calls, which alone have
/// a limit, that is no outage.
pub(crate) fn took_too_long(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().is_some_and(|code| code == "57014"))
}

/// Whether a lock was not free within the time that the transaction gives it.
pub(crate) fn waited_too_long(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|e| e.code().is_some_and(|code| code == "55P03"))
}

/// Whether who asks has as many connections as they may have, and none of them came back.
pub(crate) fn is_crowded(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == ErrorKind::ResourceBusy)
}

/// Whether the database is away or refuses work for now, rather than the statement being wrong.
pub(crate) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Classes: connection, read-only or aborted transaction, rollback, resources, operator.
        sqlx::Error::Database(e) => e
            .code()
            .is_some_and(|code| ["08", "25", "40", "53", "57"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}
