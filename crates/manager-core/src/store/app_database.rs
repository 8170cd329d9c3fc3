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

use shared::id::AppId;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::row_security::{self, ROW_SECURITY_ROLE, RowSecurity};
use super::{ACQUIRE_TIMEOUT, Database};

/// Connections on which scripts' calls are carried out, beside those of the platform: whatever scripts do,
/// people who administer the server still get one.
const CONNECTIONS_MAX: usize = 8;
/// Longest time for one statement of a script: its data is made for reads of a millisecond.
const STATEMENT_TIMEOUT: &str = "5s";
/// How long a statement that nobody waits for any more may keep its connection: somewhat longer than it may run.
const QUIET_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait before a server that is starting is asked again.
const CONNECT_AGAIN: Duration = Duration::from_millis(50);

/// The connections of scripts' calls, as a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct AppDatabase {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    room: Arc<Semaphore>,
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
    room: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

/// A transaction about one app; dropped without commit it is rolled back.
#[derive(Debug)]
pub(crate) struct AppTransaction(AppConnection);

impl AppDatabase {
    /// Puts the wall up where the database lets us; where it does not, there is the first one only. Connects when
    /// somebody comes.
    pub(crate) async fn open(owner: &Database, options: PgConnectOptions) -> sqlx::Result<Self> {
        let options = options.options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
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
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Ok(Self { shared: Arc::new(Shared { options, room, idle: Mutex::default() }) })
    }

    /// A connection for statements that stand alone. None is tried out before it is used, because calls come by
    /// the thousand: one that has died fails once.
    pub(crate) async fn acquire(&self, app: AppId) -> sqlx::Result<AppConnection> {
        let acquiring = async {
            let room = Arc::clone(&self.shared.room).acquire_owned().await;
            let room = room.map_err(|_| sqlx::Error::PoolClosed)?;
            let told = match self.shared.take(app) {
                Some(told) => told,
                None => Told { conn: connect(&self.shared.options).await?, app: None, state: State::Quiet },
            };
            let shared = Arc::clone(&self.shared);
            let mut conn = AppConnection { told: Some(told), room: Some(room), shared };
            conn.tell(app).await?;
            Ok(conn)
        };
        timeout(ACQUIRE_TIMEOUT, acquiring).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    pub(crate) async fn begin(&self, app: AppId) -> sqlx::Result<AppTransaction> {
        let mut conn = self.acquire(app).await?;
        // Before it is sent: who goes away meanwhile leaves it open.
        conn.told_mut().state = State::Open;
        sqlx::raw_sql("begin").execute(&mut *conn).await?;
        Ok(AppTransaction(conn))
    }

    /// Waits for those that are in use, and ends all.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        // An error says that it is closed already.
        let _in_use = self.shared.room.acquire_many(all).await;
        self.shared.room.close();
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
        let (Some(told), Some(room)) = (self.told.take(), self.room.take()) else { return };
        if told.state == State::Quiet {
            self.shared.idle().push(told);
            return;
        }
        // Where nothing runs any more, the process ends, and the connection with it.
        let Ok(runtime) = Handle::try_current() else { return };
        let shared = Arc::clone(&self.shared);
        runtime.spawn(async move {
            shared.settle(told).await;
            drop(room);
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
mod tests {
    use std::future::ready;
    use std::str::FromStr;

    use shared::host_call::kv::Key;
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::data::docs::query::Query;
    use crate::store;

    const KEY: Key<'_> = Key { collection: "c", key: "k" };

    /// Two apps, each of which keeps a value and a document, in a database of their own.
    struct World {
        server: PgConnectOptions,
        name: String,
        platform: Database,
        scripts: AppDatabase,
        ours: AppId,
        theirs: AppId,
    }

    impl World {
        async fn new() -> Self {
            let url = std::env::var("PICLOUD_TEST_DATABASE_URL").expect("run by make test");
            let server = PgConnectOptions::from_str(&url).unwrap();
            let name = format!("wall_{}", uuid::Uuid::now_v7().simple());
            run(&server, format!("create database {name}")).await;
            let options = server.clone().database(&name);
            let platform = store::migrations::open(options.clone()).await.unwrap();
            let scripts = AppDatabase::open(&platform, options).await.unwrap();
            let (ours, theirs) = (AppId::new(), AppId::new());
            for app in [ours, theirs] {
                let slug = app.to_string();
                let sql = format!(
                    "begin;
                     insert into users (id, username, password_hash, role)
                     values ('{app}', 'u{}', 'none', 'member');
                     insert into apps (id, slug, name, owner_id) values ('{app}', 'a{}', 'app', '{app}');
                     insert into app_members (app_id, user_id, role) values ('{app}', '{app}', 'app_admin');
                     commit;
                     insert into kv (app_id, collection, key, value, version) values ('{app}', 'c', 'k', '1', 1);
                     insert into docs (app_id, collection, id, data) values ('{app}', 'c', '{app}', '{{}}')",
                    &slug[24..],
                    &slug[24..],
                );
                let mut conn = platform.acquire().await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await.unwrap();
            }
            Self { server, name, platform, scripts, ours, theirs }
        }

        /// Waits until so many connections are at rest.
        async fn at_rest(&self, connections: usize) {
            let resting = async {
                while self.scripts.shared.idle().len() != connections {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(30), resting).await.unwrap();
        }

        async fn end(self) {
            self.scripts.close().await;
            self.platform.close().await;
            run(&self.server, format!("drop database {} with (force)", self.name)).await;
        }
    }

    async fn run(options: &PgConnectOptions, sql: String) {
        let mut conn = PgConnection::connect_with(options).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    }

    async fn one<T>(conn: &mut PgConnection, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(conn).await.unwrap()
    }

    async fn changed(conn: &mut PgConnection, sql: String) -> sqlx::Result<u64> {
        Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?.rows_affected())
    }

    #[tokio::test]
    async fn attack_a_statement_that_forgets_its_app_or_names_another_one() {
        let world = World::new().await;
        let theirs = world.theirs;
        let mut conn = world.scripts.acquire(world.ours).await.unwrap();
        // Forgotten.
        for table in ["kv", "docs", "app_docs", "apps", "app_members"] {
            assert_eq!(one::<i64>(&mut conn, &format!("select count(*) from {table}")).await, 1, "{table}");
        }
        assert_eq!(changed(&mut conn, "update kv set value = '2'".into()).await.unwrap(), 1);
        assert_eq!(changed(&mut conn, "delete from docs".into()).await.unwrap(), 1);
        // Another one, with the very statements of the calls.
        assert_eq!(store::kv::get(&mut conn, theirs, &KEY).await.unwrap(), None);
        assert!(!store::kv::has(&mut conn, theirs, &KEY).await.unwrap());
        let all = Query::parse("{}").unwrap();
        let found = store::docs::find::find(&mut conn, theirs, "c", &all, None).await.unwrap();
        assert_eq!((found.rows.len(), found.found), (0, 0));
        assert_eq!(store::docs::find::count(&mut conn, theirs, "c", &all.filter).await.unwrap(), 0);
        assert_eq!(store::docs::delete(&mut conn, theirs, "c", theirs.as_uuid()).await.unwrap(), None);
        // Written into it.
        for forged in [
            format!("update kv set app_id = '{theirs}', key = 'x'"),
            format!("insert into kv (app_id, collection, key, value, version) values ('{theirs}', 'c', 'x', '1', 1)"),
            format!(
                "insert into kv (app_id, collection, key, value, version) values ('{theirs}', 'c', 'k', '2', 2)
                 on conflict (app_id, collection, key) do update set value = excluded.value"
            ),
        ] {
            let refused = changed(&mut conn, forged.clone()).await.unwrap_err();
            assert!(refused.to_string().contains("row-level security"), "{forged}: {refused}");
        }
        drop(conn);
        let mut platform = world.platform.acquire().await.unwrap();
        assert_eq!(store::kv::get(&mut platform, theirs, &KEY).await.unwrap().as_deref(), Some("1"));
        assert!(store::docs::get(&mut platform, theirs, "c", theirs.as_uuid()).await.unwrap().is_some());
        drop(platform);
        world.end().await;
    }

    #[tokio::test]
    async fn attack_a_connection_that_was_told_of_no_app() {
        let world = World::new().await;
        let mut conn = connect(&world.scripts.shared.options).await.unwrap();
        assert_eq!(one::<String>(&mut conn, "select current_user::text").await, ROW_SECURITY_ROLE);
        for table in ["kv", "docs", "app_docs", "apps"] {
            assert_eq!(one::<i64>(&mut conn, &format!("select count(*) from {table}")).await, 0, "{table}");
        }
        assert_eq!(store::kv::get(&mut conn, world.ours, &KEY).await.unwrap(), None);
        assert_eq!(changed(&mut conn, "delete from kv".into()).await.unwrap(), 0);
        conn.close().await.unwrap();
        world.end().await;
    }

    #[tokio::test]
    async fn a_connection_goes_back_to_the_app_that_it_was_told_of_and_shows_another_one_its_own() {
        let world = World::new().await;
        let pid = "select pg_backend_pid()";
        let mut mine = world.scripts.acquire(world.ours).await.unwrap();
        let mut other = world.scripts.acquire(world.theirs).await.unwrap();
        let (first, second): (i32, i32) = (one(&mut mine, pid).await, one(&mut other, pid).await);
        drop((mine, other));
        world.at_rest(2).await;
        for _ in 0..2 {
            let mut other = world.scripts.acquire(world.theirs).await.unwrap();
            let mut mine = world.scripts.acquire(world.ours).await.unwrap();
            assert_eq!((one(&mut mine, pid).await, one(&mut other, pid).await), (first, second));
            drop((mine, other));
            world.at_rest(2).await;
        }
        // Told of another one when there is none of its own.
        let mine = world.scripts.acquire(world.ours).await.unwrap();
        let mut again = world.scripts.acquire(world.ours).await.unwrap();
        assert_eq!(one::<i32>(&mut again, pid).await, second);
        assert_eq!(store::kv::get(&mut again, world.ours, &KEY).await.unwrap().as_deref(), Some("1"));
        assert_eq!(store::kv::get(&mut again, world.theirs, &KEY).await.unwrap(), None);
        drop((mine, again));
        world.end().await;
    }

    #[tokio::test]
    async fn a_connection_is_asked_whether_it_is_at_rest_only_when_nobody_has_waited_for_the_answer() {
        let world = World::new().await;
        let at_rest = || world.scripts.shared.idle().len();
        let mut conn = world.scripts.acquire(world.ours).await.unwrap();
        assert!(store::kv::has(&mut conn, world.ours, &KEY).await.unwrap());
        conn.answered();
        drop(conn);
        // At once: this test has one thread, so nobody can have asked.
        assert_eq!(at_rest(), 1);
        let mut conn = world.scripts.acquire(world.ours).await.unwrap();
        tokio::select! {
            biased;
            _ = sqlx::query("select pg_sleep(0.1)").execute(&mut *conn) => panic!("it takes a tenth of a second"),
            () = ready(()) => {}
        }
        drop(conn);
        assert_eq!(at_rest(), 0, "what runs on it is waited for");
        world.at_rest(1).await;
        world.end().await;
    }

    #[tokio::test]
    async fn what_is_begun_and_left_is_taken_back_before_anybody_else_comes() {
        let world = World::new().await;
        let mut tx = world.scripts.begin(world.ours).await.unwrap();
        assert_eq!(changed(&mut tx, "update kv set value = '2'".into()).await.unwrap(), 1);
        drop(tx);
        world.at_rest(1).await;
        // Gone while it began: the first look sends the statement and does not wait for the answer. A quick database
        // may have answered all the same; then it has begun and is left.
        tokio::select! {
            biased;
            begun = world.scripts.begin(world.ours) => drop(begun.unwrap()),
            () = ready(()) => {}
        }
        world.at_rest(1).await;
        let mut platform = world.platform.acquire().await.unwrap();
        let open = "select count(*) from pg_stat_activity
                    where datname = current_database() and state like 'idle in transaction%'";
        assert_eq!(one::<i64>(&mut platform, open).await, 0);
        drop(platform);
        let mut conn = world.scripts.acquire(world.theirs).await.unwrap();
        let app: uuid::Uuid = one(&mut conn, "select current_app()").await;
        assert_eq!(app, world.theirs.as_uuid());
        drop(conn);
        let mut tx = world.scripts.begin(world.ours).await.unwrap();
        assert_eq!(store::kv::get(&mut tx, world.ours, &KEY).await.unwrap().as_deref(), Some("1"));
        assert_eq!(changed(&mut tx, "update kv set value = '3'".into()).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let mut conn = world.scripts.acquire(world.ours).await.unwrap();
        assert_eq!(store::kv::get(&mut conn, world.ours, &KEY).await.unwrap().as_deref(), Some("3"));
        drop(conn);
        world.end().await;
    }
}
