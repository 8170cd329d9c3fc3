//! The accounts of apps' own users.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shared::id::{AppId, AppUserId};
use shared::name::AppLogin;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Name of the constraint that keeps logins unique within an app.
pub(crate) const LOGIN_KEY: &str = "app_users_login_key";

/// The columns of an [`AppUser`].
macro_rules! columns {
    () => {
        "id, login, roles, profile, verified_at, disabled_at, created_at, updated_at"
    };
}

/// A user of an app, without what they log in with: what scripts and the app's people see.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct AppUser {
    pub(crate) id: AppUserId,
    pub(crate) login: String,
    /// What the app calls what they may do.
    pub(crate) roles: Vec<String>,
    /// What the app keeps of them, an object.
    pub(crate) profile: Value,
    /// Since when the app knows that messages reach them.
    pub(crate) verified_at: Option<DateTime<Utc>>,
    /// Since when they may not log in.
    pub(crate) disabled_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for AppUser {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let profile: &str = row.try_get("profile")?;
        Ok(Self {
            id: row.try_get("id")?,
            login: row.try_get("login")?,
            roles: row.try_get("roles")?,
            profile: serde_json::from_str(profile).map_err(|error| columns::malformed("profile", error))?,
            verified_at: row.try_get("verified_at")?,
            disabled_at: row.try_get("disabled_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

/// A user with the hash of their password.
pub(crate) struct Account {
    pub(crate) user: AppUser,
    pub(crate) password_hash: String,
}

impl FromRow<'_, PgRow> for Account {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { user: AppUser::from_row(row)?, password_hash: row.try_get("password_hash")? })
    }
}

/// Makes an account; fails on [`LOGIN_KEY`] when the login is taken.
pub(crate) async fn create(
    conn: &mut PgConnection,
    app: AppId,
    login: &AppLogin,
    password_hash: &str,
    profile: &str,
) -> sqlx::Result<AppUser> {
    sqlx::query_as(concat!(
        "insert into app_users (app_id, id, login, login_key, password_hash, profile)
         values ($1, $2, $3, $4, $5, $6)
         returning ",
        columns!()
    ))
    .bind(app)
    .bind(AppUserId::new())
    .bind(login.as_str())
    .bind(login.key())
    .bind(password_hash)
    .bind(profile)
    .fetch_one(conn)
    .await
}

/// How many there are, counted up to one more than `most`.
pub(crate) async fn count_up_to(conn: &mut PgConnection, app: AppId, most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from (select from app_users where app_id = $1 limit $2 + 1) as counted",
    )
    .bind(app)
    .bind(most)
    .fetch_one(conn)
    .await
}

/// The account of this login, whatever the case it is written in.
pub(crate) async fn account(
    conn: &mut PgConnection,
    app: AppId,
    login: &AppLogin,
) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(concat!(
        "select password_hash, ",
        columns!(),
        " from app_users where app_id = $1 and login_key = $2"
    ))
    .bind(app)
    .bind(login.key())
    .fetch_optional(conn)
    .await
}

pub(crate) async fn by_id(
    conn: &mut PgConnection,
    app: AppId,
    id: AppUserId,
) -> sqlx::Result<Option<AppUser>> {
    sqlx::query_as(concat!("select ", columns!(), " from app_users where app_id = $1 and id = $2"))
        .bind(app)
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// The same, kept from changing until the transaction ends.
pub(crate) async fn locked(
    conn: &mut PgConnection,
    app: AppId,
    id: AppUserId,
) -> sqlx::Result<Option<AppUser>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from app_users where app_id = $1 and id = $2 for no key update"
    ))
    .bind(app)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Users in the order in which they came, those after `after`; of this login where one is given.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    login: Option<&AppLogin>,
    after: Option<AppUserId>,
    limit: i64,
) -> sqlx::Result<Vec<AppUser>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        " from app_users
         where app_id = $1
           and ($2::uuid is null or id > $2)
           and ($3::text is null or login_key = $3)
         order by id
         limit $4"
    ))
    .bind(app)
    .bind(after)
    .bind(login.map(AppLogin::key))
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// What is to change of a user; what is absent stays.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change<'a> {
    pub(crate) login: Option<&'a AppLogin>,
    pub(crate) password_hash: Option<&'a str>,
    pub(crate) profile: Option<&'a str>,
    pub(crate) roles: Option<&'a [String]>,
    pub(crate) verified: Option<bool>,
    pub(crate) disabled: Option<bool>,
}

/// Changes what is given and answers the user as they are then; nothing when there is no such user. Who
/// gets another login is not verified by it, unless that is said too.
pub(crate) async fn update(
    conn: &mut PgConnection,
    app: AppId,
    id: AppUserId,
    change: Change<'_>,
) -> sqlx::Result<Option<AppUser>> {
    sqlx::query_as(concat!(
        "update app_users
         set login = coalesce($3, login), login_key = coalesce($4, login_key),
             password_hash = coalesce($5, password_hash), profile = coalesce($6, profile),
             roles = coalesce($7, roles),
             verified_at = case
                 when coalesce($8, verified_at is not null and coalesce($4, login_key) = login_key)
                 then coalesce(verified_at, now())
             end,
             disabled_at = case when coalesce($9, disabled_at is not null) then coalesce(disabled_at, now()) end,
             updated_at = now()
         where app_id = $1 and id = $2
         returning ",
        columns!()
    ))
    .bind(app)
    .bind(id)
    .bind(change.login.map(AppLogin::as_str))
    .bind(change.login.map(AppLogin::key))
    .bind(change.password_hash)
    .bind(change.profile)
    .bind(change.roles)
    .bind(change.verified)
    .bind(change.disabled)
    .fetch_optional(conn)
    .await
}

/// Keeps the hash of a password anew, unless the password has changed since.
pub(crate) async fn rehash(
    conn: &mut PgConnection,
    app: AppId,
    id: AppUserId,
    from: &str,
    to: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "update app_users set password_hash = $4 where app_id = $1 and id = $2 and password_hash = $3",
    )
    .bind(app)
    .bind(id)
    .bind(from)
    .bind(to)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether there was one.
pub(crate) async fn delete(conn: &mut PgConnection, app: AppId, id: AppUserId) -> sqlx::Result<bool> {
    let done = sqlx::query("delete from app_users where app_id = $1 and id = $2")
        .bind(app)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
}
