//! Logins. Only the hash of a token is ever here.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{SessionId, UserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::users::User;

/// A session without use for this long is over.
const IDLE_HOURS: i32 = 24;
/// A session is over after this long, however busy it is.
const ABSOLUTE_DAYS: i32 = 30;
/// How old the last sight of a session may grow before it is written anew.
const SIGHT_MINUTES: i32 = 5;

/// A session that is neither expired nor of a disabled person.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(crate) id: SessionId,
    pub(crate) user: User,
    pub(crate) needs_sight: bool,
}

impl FromRow<'_, PgRow> for LiveSession {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("session_id")?,
            user: User::from_row(row)?,
            needs_sight: row.try_get("needs_sight")?,
        })
    }
}

/// What a session was begun with; tells a person whether it was theirs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    pub(crate) remote_address: String,
    pub(crate) user_agent: String,
}

/// A session as its person sees it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) remote_address: String,
    pub(crate) user_agent: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) last_seen_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Session {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            remote_address: row.try_get("remote_address")?,
            user_agent: row.try_get("user_agent")?,
            created_at: row.try_get("created_at")?,
            last_seen_at: row.try_get("last_seen_at")?,
            expires_at: row.try_get("expires_at")?,
        })
    }
}

pub(crate) async fn create(
    conn: &mut PgConnection,
    user: UserId,
    token_hash: [u8; 32],
    device: &Device,
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar(
        "insert into sessions (id, user_id, token_hash, expires_at, remote_address, user_agent)
         values ($1, $2, $3, now() + make_interval(days => $4), $5, $6)
         returning expires_at",
    )
    .bind(SessionId::new())
    .bind(user)
    .bind(token_hash)
    .bind(ABSOLUTE_DAYS)
    .bind(&device.remote_address)
    .bind(&device.user_agent)
    .fetch_one(conn)
    .await
}

pub(crate) async fn live(conn: &mut PgConnection, token_hash: [u8; 32]) -> sqlx::Result<Option<LiveSession>> {
    sqlx::query_as(
        "select s.id as session_id, u.id, u.username, u.role,
                s.last_seen_at < now() - make_interval(mins => $3) as needs_sight
         from sessions s
         join users u on u.id = s.user_id
         where s.token_hash = $1
           and s.expires_at > now()
           and s.last_seen_at > now() - make_interval(hours => $2)
           and u.disabled_at is null",
    )
    .bind(token_hash)
    .bind(IDLE_HOURS)
    .bind(SIGHT_MINUTES)
    .fetch_optional(conn)
    .await
}

/// Whether a session is not over, nor taken back.
pub(crate) async fn is_live(conn: &mut PgConnection, id: SessionId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from sessions where id = $1 and expires_at > now())")
        .bind(id)
        .fetch_one(conn)
        .await
}

pub(crate) async fn mark_seen(conn: &mut PgConnection, id: SessionId) -> sqlx::Result<()> {
    sqlx::query("update sessions set last_seen_at = now() where id = $1").bind(id).execute(conn).await?;
    Ok(())
}

pub(crate) async fn end(conn: &mut PgConnection, id: SessionId) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Live sessions of a person in the order in which they began, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    user: UserId,
    after: Option<SessionId>,
    limit: i64,
) -> sqlx::Result<Vec<Session>> {
    sqlx::query_as(
        "select id, remote_address, user_agent, created_at, last_seen_at, expires_at
         from sessions
         where user_id = $1
           and expires_at > now()
           and last_seen_at > now() - make_interval(hours => $4)
           and ($2::uuid is null or id > $2)
         order by id
         limit $3",
    )
    .bind(user)
    .bind(after)
    .bind(limit)
    .bind(IDLE_HOURS)
    .fetch_all(conn)
    .await
}

/// Ends a session of this person. False when they have no such session.
pub(crate) async fn end_of(conn: &mut PgConnection, user: UserId, id: SessionId) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from sessions where user_id = $1 and id = $2")
        .bind(user)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends every session of a person but one.
pub(crate) async fn end_all(
    conn: &mut PgConnection,
    user: UserId,
    kept: Option<SessionId>,
) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where user_id = $1 and id is distinct from $2")
        .bind(user)
        .bind(kept)
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes what is over. Called at each login, so that the table cannot grow without new ones.
pub(crate) async fn forget_ended(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query(
        "delete from sessions
         where expires_at <= now() or last_seen_at <= now() - make_interval(hours => $1)",
    )
    .bind(IDLE_HOURS)
    .execute(conn)
    .await?;
    Ok(())
}
