//! Logins of apps' own users. Only the hash of a token is ever here.

use chrono::{DateTime, Utc};
use shared::id::{AppId, AppSessionId, AppUserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::app_users::AppUser;

/// A session without use for this long is over, as it is for people.
const IDLE_HOURS: i32 = 24;
/// A session is over after this long, however busy it is.
const ABSOLUTE_DAYS: i32 = 30;
/// How old the last sight of a session may grow before it is written anew.
const SIGHT_MINUTES: i32 = 5;

/// A session that is neither over nor of a disabled user.
pub(crate) struct LiveSession {
    pub(crate) id: AppSessionId,
    pub(crate) user: AppUser,
    pub(crate) needs_sight: bool,
}

impl FromRow<'_, PgRow> for LiveSession {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("session_id")?,
            user: AppUser::from_row(row)?,
            needs_sight: row.try_get("needs_sight")?,
        })
    }
}

/// Begins a session; answers when it ends. Nothing when the account is gone or disabled by now, or its
/// password is another one.
pub(crate) async fn create(
    conn: &mut PgConnection,
    app: AppId,
    user: AppUserId,
    password_hash: &str,
    token_hash: [u8; 32],
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar(
        "with account as (
             select from app_users
             where app_id = $1 and id = $2 and password_hash = $3 and disabled_at is null
             for share
         )
         insert into app_user_sessions (app_id, id, user_id, token_hash, expires_at)
         select $1, $4, $2, $5, now() + make_interval(days => $6)
         from account
         returning expires_at",
    )
    .bind(app)
    .bind(user)
    .bind(password_hash)
    .bind(AppSessionId::new())
    .bind(token_hash)
    .bind(ABSOLUTE_DAYS)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn live(
    conn: &mut PgConnection,
    app: AppId,
    token_hash: [u8; 32],
) -> sqlx::Result<Option<LiveSession>> {
    sqlx::query_as(
        "select s.id as session_id, s.last_seen_at < now() - make_interval(mins => $4) as needs_sight,
                u.id, u.login, u.roles, u.profile, u.verified_at, u.disabled_at, u.created_at, u.updated_at
         from app_user_sessions s
         join app_users u on u.app_id = s.app_id and u.id = s.user_id
         where s.app_id = $1
           and s.token_hash = $2
           and s.expires_at > now()
           and s.last_seen_at > now() - make_interval(hours => $3)
           and u.disabled_at is null",
    )
    .bind(app)
    .bind(token_hash)
    .bind(IDLE_HOURS)
    .bind(SIGHT_MINUTES)
    .fetch_optional(conn)
    .await
}

/// Notes that a session was seen, unless somebody has its row: a dry run that ends it may have it for long, and each
/// request of the session would wait with a connection of the platform. Whoever comes then notes it.
pub(crate) async fn mark_seen(conn: &mut PgConnection, app: AppId, id: AppSessionId) -> sqlx::Result<()> {
    sqlx::query(
        "update app_user_sessions set last_seen_at = now()
         where app_id = $1
           and id = (
               select id from app_user_sessions where app_id = $1 and id = $2 for no key update skip locked
           )",
    )
    .bind(app)
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a session of this token; whether there was one.
pub(crate) async fn end_of_token(
    conn: &mut PgConnection,
    app: AppId,
    token_hash: [u8; 32],
) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from app_user_sessions where app_id = $1 and token_hash = $2")
        .bind(app)
        .bind(token_hash)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// The same by its id.
pub(crate) async fn end(conn: &mut PgConnection, app: AppId, id: AppSessionId) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from app_user_sessions where app_id = $1 and id = $2")
        .bind(app)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends all sessions of a user; how many there were.
pub(crate) async fn end_all(conn: &mut PgConnection, app: AppId, user: AppUserId) -> sqlx::Result<u64> {
    let done = sqlx::query("delete from app_user_sessions where app_id = $1 and user_id = $2")
        .bind(app)
        .bind(user)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Ends those of a user that are too many, the oldest first.
pub(crate) async fn end_beyond(
    conn: &mut PgConnection,
    app: AppId,
    user: AppUserId,
    most: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "delete from app_user_sessions
         where app_id = $1
           and id in (
               select id from app_user_sessions
               where app_id = $1 and user_id = $2
               order by id desc
               offset $3
           )",
    )
    .bind(app)
    .bind(user)
    .bind(most)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes what is over. Called at each login, so that the table cannot grow without new ones.
pub(crate) async fn forget_ended(conn: &mut PgConnection, app: AppId) -> sqlx::Result<()> {
    sqlx::query("delete from app_user_sessions where app_id = $1 and expires_at <= now()")
        .bind(app)
        .execute(conn)
        .await?;
    Ok(())
}
