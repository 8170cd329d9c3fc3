//! How an app goes: hidden in one short transaction, then removed some rows at a time, the app's own row last.

use serde::Serialize;
use shared::id::AppId;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use crate::events::shard_of;

/// Things of one kind that are counted; of more it is said that there are so many at least.
pub(crate) const COUNTED_MAX: i64 = 10_000;

/// What goes with an app when it is removed, in numbers of at most [`COUNTED_MAX`].
#[derive(Debug, Clone, Serialize, FromRow)]
pub(crate) struct Contents {
    pub(crate) scripts: i64,
    pub(crate) versions: i64,
    pub(crate) routes: i64,
    pub(crate) triggers: i64,
    pub(crate) topics: i64,
    pub(crate) domains: i64,
    pub(crate) assets: i64,
    pub(crate) secrets: i64,
    /// Values that scripts keep by key.
    pub(crate) values: i64,
    pub(crate) documents: i64,
    pub(crate) files: i64,
    /// The app's own users.
    pub(crate) users: i64,
    /// Messages that wait in queues.
    pub(crate) messages: i64,
    /// Events that are on their way to scripts.
    pub(crate) events: i64,
    pub(crate) dead_letters: i64,
    pub(crate) executions: i64,
    /// The owner included.
    pub(crate) members: i64,
    /// Keys that are good for this app alone.
    pub(crate) api_keys: i64,
    pub(crate) former_slugs: i64,
}

impl Contents {
    /// Whether nothing is lost with the app that somebody put there or that waits to be done. Its members
    /// do not count: it always has one. Nor do records of executions: they are about what was.
    pub(crate) fn is_nothing(&self) -> bool {
        let code = [self.scripts, self.routes, self.triggers, self.topics, self.domains, self.assets];
        let data = [self.secrets, self.values, self.documents, self.files, self.users];
        let work = [self.messages, self.events, self.dead_letters];
        code == [0; 6] && data == [0; 5] && work == [0; 3]
    }
}

/// Counts an app's rows in a table, as far as is counted.
macro_rules! count {
    ($table:literal) => {
        count!($table, "app_id = $1")
    };
    ($table:literal, $those:literal) => {
        concat!("(select count(*) from (select from ", $table, " where ", $those, " limit $2) counted)")
    };
}

pub(crate) async fn contents(conn: &mut PgConnection, id: AppId) -> sqlx::Result<Contents> {
    sqlx::query_as(concat!(
        "select ",
        count!("scripts"),
        " as scripts, ",
        count!("script_versions"),
        " as versions, ",
        count!("routes"),
        " as routes, ",
        count!("triggers"),
        " as triggers, ",
        count!("topics"),
        " as topics, ",
        count!("app_domains"),
        " as domains, ",
        count!("app_assets"),
        " as assets, ",
        count!("secrets"),
        " as secrets, ",
        count!("kv"),
        " as \"values\", ",
        count!("docs"),
        " as documents, ",
        count!("files"),
        " as files, ",
        count!("app_users"),
        " as users, ",
        count!("queue_messages"),
        " as messages, ",
        count!("outbox", "shard = $3 and app_id = $1"),
        " as events, ",
        count!("dead_letters"),
        " as dead_letters, ",
        count!("executions"),
        " as executions, ",
        count!("app_members"),
        " as members, ",
        count!("api_keys"),
        " as api_keys, ",
        count!("app_former_slugs"),
        " as former_slugs"
    ))
    .bind(id)
    .bind(COUNTED_MAX)
    .bind(i16::from(shard_of(id)))
    .fetch_one(conn)
    .await
}

/// Hides an app. From the commit on nobody finds it, nothing of it begins to run, its keys are good for nothing, and what
/// it was called and the hosts that it had are for others to take.
pub(crate) async fn hide(conn: &mut PgConnection, id: AppId) -> sqlx::Result<()> {
    for statement in [
        // No other app has a slug in the form of an id.
        "update apps
         set removing_at = now(), slug = id::text, is_default = false, updated_at = now()
         where id = $1",
        "delete from app_former_slugs where app_id = $1",
        "delete from app_domains where app_id = $1",
        "delete from app_transfers where app_id = $1",
        "delete from api_keys where app_id = $1",
        "delete from triggers where app_id = $1",
        // Events that are on their way find them so.
        "update scripts set disabled_at = now() where app_id = $1 and disabled_at is null",
    ] {
        sqlx::query(statement).bind(id).execute(&mut *conn).await?;
    }
    Ok(())
}

/// The apps that are hidden and not yet gone.
pub(crate) async fn begun(conn: &mut PgConnection) -> sqlx::Result<Vec<AppId>> {
    sqlx::query_scalar("select id from apps where removing_at is not null order by removing_at")
        .fetch_all(conn)
        .await
}

/// Removes up to `$2` rows of an app from a table. What somebody else holds is left to whoever comes after.
macro_rules! some_of {
    ($table:literal) => {
        some_of!($table, "")
    };
    ($table:literal, $those:literal) => {
        concat!(
            "delete from ",
            $table,
            " where app_id = $1 and ctid = any(array(select ctid from ",
            $table,
            " where app_id = $1 ",
            $those,
            " limit $2 for update skip locked))"
        )
    };
}

/// For [`some`]: what there may be much of, what refers to others before these. Events are not among it: they are their
/// dispatcher's, which removes them when they are due.
pub(crate) const SOME: [&str; 20] = [
    some_of!("executions"),
    some_of!("dead_letters"),
    some_of!("abandoned_executions"),
    some_of!("outbox_dedup"),
    some_of!("queue_messages"),
    some_of!("topic_messages"),
    some_of!("kv"),
    some_of!("docs"),
    some_of!("files"),
    some_of!("app_user_sessions"),
    some_of!("app_user_tokens"),
    some_of!("app_users"),
    some_of!("app_assets"),
    some_of!("secrets"),
    some_of!("egress_destinations"),
    some_of!("incidents"),
    some_of!("app_usage"),
    // With a script go all of its versions, of which there may be many.
    some_of!(
        "script_versions",
        "and not exists (
             select
             from scripts s
             where s.app_id = script_versions.app_id and s.id = script_versions.script_id
               and s.live_version = script_versions.number
         )"
    ),
    some_of!("scripts"),
    some_of!("bundles"),
];

/// Removes up to so many rows of an app by one of [`SOME`]; answers how many there were.
pub(crate) async fn some(
    conn: &mut PgConnection,
    statement: &'static str,
    id: AppId,
    limit: i64,
) -> sqlx::Result<u64> {
    let removed = sqlx::query(statement).bind(id).bind(limit).execute(conn).await?;
    Ok(removed.rows_affected())
}

/// Removes a hidden app with what is left of it. Whoever writes down something about the app waits for this, so it waits
/// for others only for a moment: see [`waited_too_long`](crate::store::waited_too_long).
pub(crate) async fn rest(conn: &mut PgConnection, id: AppId) -> sqlx::Result<()> {
    sqlx::raw_sql("set local lock_timeout = '500ms'").execute(&mut *conn).await?;
    sqlx::query("delete from apps where id = $1 and removing_at is not null").bind(id).execute(conn).await?;
    Ok(())
}
