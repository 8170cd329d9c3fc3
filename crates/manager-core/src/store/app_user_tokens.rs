//! Tokens of one use, which scripts hand to users. Only their hashes are ever here.

use shared::id::{AppId, AppUserId};
use sqlx::postgres::PgConnection;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Verify,
    Reset,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Reset => "reset",
        }
    }

    /// How long one is good: mail may lie about for days, but a new password is wanted now.
    const fn hours(self) -> i32 {
        match self {
            Self::Verify => 7 * 24,
            Self::Reset => 1,
        }
    }
}

/// Gives a user a token, in the place of the one they had; false when there is no such user.
pub(crate) async fn issue(
    conn: &mut PgConnection,
    app: AppId,
    user: AppUserId,
    purpose: Purpose,
    token_hash: [u8; 32],
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into app_user_tokens (app_id, user_id, purpose, token_hash, expires_at)
         select app_id, id, $3, $4, now() + make_interval(hours => $5)
         from app_users
         where app_id = $1 and id = $2
         on conflict (app_id, user_id, purpose)
         do update set token_hash = excluded.token_hash, expires_at = excluded.expires_at",
    )
    .bind(app)
    .bind(user)
    .bind(purpose.as_str())
    .bind(token_hash)
    .bind(purpose.hours())
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Whose token this is, if it is good.
pub(crate) async fn holder(
    conn: &mut PgConnection,
    app: AppId,
    purpose: Purpose,
    token_hash: [u8; 32],
) -> sqlx::Result<Option<AppUserId>> {
    sqlx::query_scalar(
        "select user_id from app_user_tokens
         where app_id = $1 and purpose = $2 and token_hash = $3 and expires_at > now()",
    )
    .bind(app)
    .bind(purpose.as_str())
    .bind(token_hash)
    .fetch_optional(conn)
    .await
}

/// Takes a good token, which is none from then on; answers whose it was.
pub(crate) async fn take(
    conn: &mut PgConnection,
    app: AppId,
    purpose: Purpose,
    token_hash: [u8; 32],
) -> sqlx::Result<Option<AppUserId>> {
    sqlx::query_scalar(
        "delete from app_user_tokens
         where app_id = $1 and purpose = $2 and token_hash = $3 and expires_at > now()
         returning user_id",
    )
    .bind(app)
    .bind(purpose.as_str())
    .bind(token_hash)
    .fetch_optional(conn)
    .await
}

/// Takes all of a user's tokens back.
pub(crate) async fn forget(conn: &mut PgConnection, app: AppId, user: AppUserId) -> sqlx::Result<()> {
    sqlx::query("delete from app_user_tokens where app_id = $1 and user_id = $2")
        .bind(app)
        .bind(user)
        .execute(conn)
        .await?;
    Ok(())
}
