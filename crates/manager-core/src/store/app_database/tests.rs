use std::future::ready;
use std::str::FromStr;

use shared::call::CallCode;
use shared::host_call::kv::Key;
use sqlx::AssertSqlSafe;

use super::*;
use crate::data::docs::query::Query;
use crate::data::failed;
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

/// The only app of its owner.
fn lone(app: AppId) -> Tenant {
    Tenant::of_unknown_owner(app)
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
    let mut conn = world.scripts.acquire(lone(world.ours)).await.unwrap();
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
        format!(
            "insert into kv (app_id, collection, key, value, version) values ('{theirs}', 'c', 'x', '1', 1)"
        ),
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
    let mut mine = world.scripts.acquire(lone(world.ours)).await.unwrap();
    let mut other = world.scripts.acquire(lone(world.theirs)).await.unwrap();
    let (first, second): (i32, i32) = (one(&mut mine, pid).await, one(&mut other, pid).await);
    drop((mine, other));
    world.at_rest(2).await;
    for _ in 0..2 {
        let mut other = world.scripts.acquire(lone(world.theirs)).await.unwrap();
        let mut mine = world.scripts.acquire(lone(world.ours)).await.unwrap();
        assert_eq!((one(&mut mine, pid).await, one(&mut other, pid).await), (first, second));
        drop((mine, other));
        world.at_rest(2).await;
    }
    // Told of another one when there is none of its own.
    let mine = world.scripts.acquire(lone(world.ours)).await.unwrap();
    let mut again = world.scripts.acquire(lone(world.ours)).await.unwrap();
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
    let mut conn = world.scripts.acquire(lone(world.ours)).await.unwrap();
    assert!(store::kv::has(&mut conn, world.ours, &KEY).await.unwrap());
    conn.answered();
    drop(conn);
    // At once: this test has one thread, so nobody can have asked.
    assert_eq!(at_rest(), 1);
    let mut conn = world.scripts.acquire(lone(world.ours)).await.unwrap();
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
async fn who_asks_too_much_of_the_database_is_told_so_and_not_that_it_is_away() {
    let world = World::new().await;
    let mut conn = world.scripts.acquire(lone(world.ours)).await.unwrap();
    assert_eq!(one::<String>(&mut conn, "select current_setting('statement_timeout')").await, "5s");
    changed(&mut conn, "set statement_timeout = '10ms'".into()).await.unwrap();
    let error = changed(&mut conn, "select pg_sleep(60)".into()).await.unwrap_err();
    let told = failed(&error);
    assert_eq!(told.code, CallCode::BudgetExhausted);
    assert!(told.message.contains("5 s") && told.message.contains("index"), "{told}");
    drop(conn);
    world.end().await;
}

#[tokio::test]
async fn a_measurement_of_what_an_app_keeps_ends_when_the_database_takes_too_long() {
    let world = World::new().await;
    let mut conn = world.platform.apart().await.unwrap();
    assert!(store::kept::bytes(&mut conn, world.ours).await.unwrap() > 0);
    let longest: String = one(&mut conn, "select current_setting('statement_timeout')").await;
    assert_eq!((longest.as_str(), store::kept::MEASURE_MAX.as_secs()), ("2min", 120));
    conn.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_dry_run_keeps_none_of_the_connections_that_its_app_may_have_for_its_calls() {
    let world = World::new().await;
    let mut run = world.scripts.begin_rehearsal(world.ours).await.unwrap();
    let app: uuid::Uuid = one(&mut run, "select current_app()").await;
    assert_eq!(app, world.ours.as_uuid(), "it sees its app's rows");
    let mut others = Vec::new();
    for _ in 0..CONNECTIONS_MAX - 2 {
        others.push(world.scripts.acquire(lone(AppId::new())).await.unwrap());
    }
    let mut conn = world.scripts.acquire(lone(world.ours)).await.expect("the last one is for who has none");
    assert!(store::kv::has(&mut conn, world.ours, &KEY).await.unwrap());
    run.rollback().await.unwrap();
    drop((conn, others));
    world.end().await;
}

#[tokio::test]
async fn what_is_begun_and_left_is_taken_back_before_anybody_else_comes() {
    let world = World::new().await;
    let mut tx = world.scripts.begin(lone(world.ours)).await.unwrap();
    assert_eq!(changed(&mut tx, "update kv set value = '2'".into()).await.unwrap(), 1);
    drop(tx);
    world.at_rest(1).await;
    // Gone while it began: the first look sends the statement and does not wait for the answer. A quick database
    // may have answered all the same; then it has begun and is left.
    tokio::select! {
        biased;
        begun = world.scripts.begin(lone(world.ours)) => drop(begun.unwrap()),
        () = ready(()) => {}
    }
    world.at_rest(1).await;
    let mut platform = world.platform.acquire().await.unwrap();
    let open = "select count(*) from pg_stat_activity
                where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(one::<i64>(&mut platform, open).await, 0);
    drop(platform);
    let mut conn = world.scripts.acquire(lone(world.theirs)).await.unwrap();
    let app: uuid::Uuid = one(&mut conn, "select current_app()").await;
    assert_eq!(app, world.theirs.as_uuid());
    drop(conn);
    let mut tx = world.scripts.begin(lone(world.ours)).await.unwrap();
    assert_eq!(store::kv::get(&mut tx, world.ours, &KEY).await.unwrap().as_deref(), Some("1"));
    assert_eq!(changed(&mut tx, "update kv set value = '3'".into()).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let mut conn = world.scripts.acquire(lone(world.ours)).await.unwrap();
    assert_eq!(store::kv::get(&mut conn, world.ours, &KEY).await.unwrap().as_deref(), Some("3"));
    drop(conn);
    world.end().await;
}
