//! Logins. Only the hash of a token is ever here.

use chrono::{DateTime, Utc};
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

pub(crate) async fn create(
    conn: &mut PgConnection,
    user: UserId,
    token_hash: [u8; 32],
) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar(
        "insert into sessions (id, user_id, token_hash, expires_at)
         values ($1, $2, $3, now() + make_interval(days => $4))
         returning expires_at",
    )
    .bind(SessionId::new())
    .bind(user)
    .bind(token_hash)
    .bind(ABSOLUTE_DAYS)
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

pub(crate) async fn mark_seen(conn: &mut PgConnection, id: SessionId) -> sqlx::Result<()> {
    sqlx::query("update sessions set last_seen_at = now() where id = $1").bind(id).execute(conn).await?;
    Ok(())
}

pub(crate) async fn end(conn: &mut PgConnection, id: SessionId) -> sqlx::Result<()> {
    sqlx::query("delete from sessions where id = $1").bind(id).execute(conn).await?;
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
