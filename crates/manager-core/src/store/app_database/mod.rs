//! Connections that see one app's rows and nothing of others: the second wall between apps. The first is that
//! every statement names its app; this one is for a statement that forgets it.
//!
//! Nobody gets such a connection without saying for which app. The database is told before it is given out, and
//! that it was told is remembered, so that the next call of the same app costs nothing. One that was told of no app
//! sees no row.

use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::id::{AppId, UserId};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::row_security::{self, ROW_SECURITY_ROLE, RowSecurity};
use super::{ACQUIRE_TIMEOUT, Database};
use crate::places::{Place, Places};

/// Connections on which scripts' calls are carried out, beside those of the platform: whatever scripts do,
/// people who administer the server still get one. The apps of an owner who is alone get half of them.
const CONNECTIONS_MAX: usize = 12;
/// Longest time for one statement of a script, waiting for locks included: its data is made for reads of a millisecond.
pub(crate) const STATEMENT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a statement that nobody waits for any more may keep its connection: somewhat longer than it may run.
const QUIET_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait before a server that is starting is asked again.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// Whose the connections of dry runs are; nobody has this id.
const REHEARSALS: UserId = UserId::from_uuid(Uuid::nil());

/// An app, and whose it is: what an owner has is shared by their apps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    pub(crate) owner: UserId,
    pub(crate) app: AppId,
}

impl Tenant {
    /// Where nobody has looked whose the app is: it is counted as all that its owner has.
    pub(crate) const fn of_unknown_owner(app: AppId) -> Self {
        Self { owner: UserId::from_uuid(app.as_uuid()), app }
    }
}

/// The connections of scripts' calls, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct AppDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    places: Arc<Places<UserId, AppId>>,
    /// The one that came back last is at the end.
    idle: Mutex<Vec<Told>>,
}

/// A connection, and what it was told.
#[derive(Debug)]
struct Told {
    conn: PgConnection,
    /// Whose rows it sees; none while that is not certain.
    app: Option<AppId>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is on its way.
    Quiet,
    /// Whoever used it may have gone away before the answer came.
    Used,
    /// A transaction may be open.
    Open,
}

/// A connection for statements that stand alone, about one app.
#[derive(Debug)]
pub(crate) struct AppConnection {
    /// Taken when it is dropped.
    told: Option<Told>,
    place: Option<Place<UserId, AppId>>,
    shared: Arc<Shared>,
}

/// A transaction about one app; dropped without commit it is rolled back.
#[derive(Debug)]
pub(crate) struct AppTransaction(AppConnection);

impl AppDatabase {
    /// Puts the wall up where the database lets us; where it does not, there is the first one only. Connects when
    /// somebody comes.
    pub(crate) async fn open(owner: &Database, options: PgConnectOptions) -> sqlx::Result<Self> {
        let longest = format!("{}s", STATEMENT_TIME_MAX.as_secs());
        let options = options.options([
            ("statement_timeout", longest.as_str()),
            ("idle_in_transaction_session_timeout", longest.as_str()),
        ]);
        let options = match row_security::raise(owner).await? {
            RowSecurity::Holds => {
                let schema = row_security::schema(owner).await?;
                options.options([("role", ROW_SECURITY_ROLE), ("search_path", schema.as_str())])
            }
            state => {
                tracing::warn!(?state, "row security does not hold: `picloud doctor` says what to do");
                options
            }
        };
        let places = Arc::new(Places::new(CONNECTIONS_MAX));
        Ok(Self { shared: Arc::new(Shared { options, places, idle: Mutex::default() }) })
    }

    /// A connection for statements that stand alone. None is tried out before it is used, because calls come by
    /// the thousand: one that has died fails once. Who has one asks for no second one: all could wait for each other.
    pub(crate) async fn acquire(&self, tenant: Tenant) -> sqlx::Result<AppConnection> {
        self.acquire_as(tenant.owner, tenant.app).await
    }

    /// A transaction about one app.
    pub(crate) async fn begin(&self, tenant: Tenant) -> sqlx::Result<AppTransaction> {
        self.begin_as(tenant.owner, tenant.app).await
    }

    /// The same for a dry run, which is open for long. What all dry runs have is counted as that of an owner of their own,
    /// so that it keeps none of what their apps may have for their calls.
    pub(crate) async fn begin_rehearsal(&self, app: AppId) -> sqlx::Result<AppTransaction> {
        self.begin_as(REHEARSALS, app).await
    }

    /// A connection that counts as one of this owner's and sees an app's rows.
    async fn acquire_as(&self, owner: UserId, app: AppId) -> sqlx::Result<AppConnection> {
        let until = Instant::now() + ACQUIRE_TIMEOUT;
        let place = timeout_at(until, self.shared.places.take(owner, app)).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.ok_or(sqlx::Error::PoolClosed)?;
        let acquiring = async {
            let told = match self.shared.take(app) {
                Some(told) => told,
                None => Told { conn: connect(&self.shared.options).await?, app: None, state: State::Quiet },
            };
            let shared = Arc::clone(&self.shared);
            let mut conn = AppConnection { told: Some(told), place: Some(place), shared };
            conn.tell(app).await?;
            Ok(conn)
        };
        // There was a place, so it is the database that does not answer.
        let silent = |_| Err(sqlx::Error::Io(ErrorKind::TimedOut.into()));
        timeout_at(until, acquiring).await.unwrap_or_else(silent)
    }

    async fn begin_as(&self, owner: UserId, app: AppId) -> sqlx::Result<AppTransaction> {
        let mut conn = self.acquire_as(owner, app).await?;
        // Before it is sent: who goes away meanwhile leaves it open.
        conn.told_mut().state = State::Open;
        sqlx::raw_sql("begin").execute(&mut *conn).await?;
        Ok(AppTransaction(conn))
    }

    /// Waits for those that are in use, and ends all.
    pub(crate) async fn close(&self) {
        self.shared.places.close().await;
        let idle = std::mem::take(&mut *self.shared.idle());
        for told in idle {
            // A server that is gone has ended it.
            let _ = told.conn.close().await;
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Told>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was told of this app, if there is one; else the one that nobody used for the longest time.
    fn take(&self, app: AppId) -> Option<Told> {
        let mut idle = self.idle();
        let found = idle.iter().rposition(|told| told.app == Some(app)).unwrap_or(0);
        (found < idle.len()).then(|| idle.remove(found))
    }

    /// Keeps a connection that is quiet and still answers; what was begun on it is taken back.
    async fn settle(&self, mut told: Told) {
        let settling = async {
            match told.state {
                State::Quiet => Ok(()),
                State::Used => told.conn.ping().await,
                State::Open => sqlx::raw_sql("rollback").execute(&mut told.conn).await.map(drop),
            }
        };
        match timeout(QUIET_WITHIN, settling).await {
            Ok(Ok(())) => self.idle().push(Told { state: State::Quiet, ..told }),
            Ok(Err(error)) => tracing::warn!(%error, "a connection of scripts' calls is gone"),
            Err(_) => tracing::warn!("a connection of scripts' calls does not come to rest, and is left"),
        }
    }
}

impl AppConnection {
    /// Says whose rows are to be seen, unless it is known.
    async fn tell(&mut self, app: AppId) -> sqlx::Result<()> {
        let told = self.told_mut();
        if told.app == Some(app) {
            return Ok(());
        }
        (told.app, told.state) = (None, State::Used);
        sqlx::query("select set_config('picloud.app', $1, false)")
            .bind(app.to_string())
            .execute(&mut told.conn)
            .await?;
        (told.app, told.state) = (Some(app), State::Quiet);
        Ok(())
    }

    /// Says that the answers to all of its statements have come, so that nobody needs to ask it before it is used
    /// again. Whoever goes away before that does not get to say so.
    pub(crate) fn answered(&mut self) {
        let told = self.told_mut();
        if told.state == State::Used {
            told.state = State::Quiet;
        }
    }

    fn told_mut(&mut self) -> &mut Told {
        self.told.as_mut().expect("it is taken when this is dropped, and not before")
    }
}

impl Deref for AppConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.told.as_ref().expect("it is taken when this is dropped, and not before").conn
    }
}

impl DerefMut for AppConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        let told = self.told_mut();
        if told.state == State::Quiet {
            told.state = State::Used;
        }
        &mut told.conn
    }
}

impl Drop for AppConnection {
    fn drop(&mut self) {
        // Its place is free when it is: who gets that finds this one, if it is still good.
        let (Some(told), Some(place)) = (self.told.take(), self.place.take()) else { return };
        if told.state == State::Quiet {
            self.shared.idle().push(told);
            return;
        }
        // Where nothing runs any more, the process ends, and the connection with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let shared = Arc::clone(&self.shared);
        runtime.spawn(async move {
            shared.settle(told).await;
            drop(place);
        });
    }
}

impl AppTransaction {
    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        sqlx::raw_sql("commit").execute(&mut *self.0).await?;
        self.0.told_mut().state = State::Quiet;
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> sqlx::Result<()> {
        sqlx::raw_sql("rollback").execute(&mut *self.0).await?;
        self.0.told_mut().state = State::Quiet;
        Ok(())
    }
}

impl Deref for AppTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for AppTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// Connects, and waits for a server that is starting.
async fn connect(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    loop {
        match PgConnection::connect_with(options).await {
            Err(error) if is_starting(&error) => sleep(CONNECT_AGAIN).await,
            result => return result,
        }
    }
}

fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == ErrorKind::ConnectionRefused,
        // It takes nobody yet; it has no room now.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03" || code == "53300"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
