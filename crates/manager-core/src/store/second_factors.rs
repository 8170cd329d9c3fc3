//! Second factors and recovery codes.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::UserId;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

/// RFC 4226 asks for 160 bits.
pub(crate) const SECRET_BYTES: usize = 20;

/// What a code is compared with.
pub(crate) struct Factor {
    pub(crate) secret: [u8; SECRET_BYTES],
    pub(crate) last_step: i64,
}

impl FromRow<'_, PgRow> for Factor {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { secret: row.try_get("secret")?, last_step: row.try_get("last_step")? })
    }
}

/// What a person has, without what is secret.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Status {
    pub(crate) is_enabled: bool,
    pub(crate) confirmed_at: Option<DateTime<Utc>>,
    pub(crate) recovery_codes_left: i64,
}

impl FromRow<'_, PgRow> for Status {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let confirmed_at: Option<DateTime<Utc>> = row.try_get("confirmed_at")?;
        let recovery_codes_left = row.try_get("recovery_codes_left")?;
        Ok(Self { is_enabled: confirmed_at.is_some(), confirmed_at, recovery_codes_left })
    }
}

pub(crate) async fn status(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Status> {
    sqlx::query_as(
        "select (select confirmed_at from second_factors where user_id = $1) as confirmed_at,
                (select count(*) from recovery_codes where user_id = $1) as recovery_codes_left",
    )
    .bind(user)
    .fetch_one(conn)
    .await
}

/// The factor that a login asks for. Locked, so that one code cannot be used twice at once.
pub(crate) async fn confirmed(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Factor>> {
    sqlx::query_as(
        "select secret, last_step
         from second_factors
         where user_id = $1 and confirmed_at is not null
         for update",
    )
    .bind(user)
    .fetch_optional(conn)
    .await
}

/// The factor that waits for its first code.
pub(crate) async fn unconfirmed(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Factor>> {
    sqlx::query_as(
        "select secret, last_step
         from second_factors
         where user_id = $1 and confirmed_at is null
         for update",
    )
    .bind(user)
    .fetch_optional(conn)
    .await
}

/// Begins an enrolment, or begins it anew. False when there is a confirmed factor already.
pub(crate) async fn begin(
    conn: &mut PgConnection,
    user: UserId,
    secret: [u8; SECRET_BYTES],
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "insert into second_factors (user_id, secret)
         values ($1, $2)
         on conflict (user_id) do update
         set secret = excluded.secret, created_at = now()
         where second_factors.confirmed_at is null",
    )
    .bind(user)
    .bind(secret)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes logins ask for the factor from now on.
pub(crate) async fn confirm(
    conn: &mut PgConnection,
    user: UserId,
    step: i64,
    recovery_codes: &[[u8; 32]],
) -> sqlx::Result<()> {
    sqlx::query("update second_factors set confirmed_at = now(), last_step = $2 where user_id = $1")
        .bind(user)
        .bind(step)
        .execute(&mut *conn)
        .await?;
    sqlx::query("insert into recovery_codes (user_id, code_hash) select $1, unnest($2::bytea[])")
        .bind(user)
        .bind(recovery_codes.iter().map(|hash| hash.as_slice()).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn use_step(conn: &mut PgConnection, user: UserId, step: i64) -> sqlx::Result<()> {
    sqlx::query("update second_factors set last_step = $2 where user_id = $1")
        .bind(user)
        .bind(step)
        .execute(conn)
        .await?;
    Ok(())
}

/// False when it is none of the person's codes.
pub(crate) async fn use_recovery_code(
    conn: &mut PgConnection,
    user: UserId,
    code_hash: [u8; 32],
) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from recovery_codes where user_id = $1 and code_hash = $2")
        .bind(user)
        .bind(code_hash)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes the factor and its recovery codes.
pub(crate) async fn remove(conn: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query("delete from recovery_codes where user_id = $1").bind(user).execute(&mut *conn).await?;
    sqlx::query("delete from second_factors where user_id = $1").bind(user).execute(conn).await?;
    Ok(())
}
