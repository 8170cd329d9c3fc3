//! People.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::id::UserId;
use shared::name::Username;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Name of the index that keeps user names unique.
pub(crate) const USERNAME_KEY: &str = "users_username_key";

/// What a person may do on the instance as a whole; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Member,
    Admin,
    Owner,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = std::io::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Owner, Self::Admin, Self::Member]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| std::io::Error::other(format!("{text:?} is no role")))
    }
}

/// A person without what they log in with.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) username: Username,
    pub(crate) role: Role,
}

impl FromRow<'_, PgRow> for User {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            username: columns::parsed(row, "username")?,
            role: columns::parsed(row, "role")?,
        })
    }
}

/// A person as other people manage them.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Person {
    #[serde(flatten)]
    pub(crate) user: User,
    /// Since when they may not log in and their keys do nothing.
    pub(crate) disabled_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Person {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            user: User::from_row(row)?,
            disabled_at: row.try_get("disabled_at")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// A person with the hash of their password.
pub(crate) struct Account {
    pub(crate) user: User,
    /// None of who has only ever come by an identity provider.
    pub(crate) password_hash: Option<String>,
}

impl FromRow<'_, PgRow> for Account {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { user: User::from_row(row)?, password_hash: row.try_get("password_hash")? })
    }
}

/// The enabled account of this name, whatever the case it is written in.
pub(crate) async fn account(conn: &mut PgConnection, username: &Username) -> sqlx::Result<Option<Account>> {
    sqlx::query_as(
        "select id, username, role, password_hash
         from users
         where lower(username) = lower($1) and disabled_at is null",
    )
    .bind(username.as_str())
    .fetch_optional(conn)
    .await
}

/// The person of this id.
pub(crate) async fn by_id(conn: &mut PgConnection, id: UserId) -> sqlx::Result<Option<Person>> {
    sqlx::query_as(
        "select id, username, role, disabled_at, created_at
         from users
         where id = $1",
    )
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// The person of this name, whatever the case it is written in.
pub(crate) async fn by_name(conn: &mut PgConnection, username: &Username) -> sqlx::Result<Option<Person>> {
    sqlx::query_as(
        "select id, username, role, disabled_at, created_at
         from users
         where lower(username) = lower($1)",
    )
    .bind(username.as_str())
    .fetch_optional(conn)
    .await
}

pub(crate) async fn create(
    conn: &mut PgConnection,
    username: &Username,
    password_hash: Option<&str>,
    role: Role,
) -> sqlx::Result<UserId> {
    let id = UserId::new();
    sqlx::query(
        "insert into users (id, username, password_hash, role)
         values ($1, $2, $3, $4)",
    )
    .bind(id)
    .bind(username.as_str())
    .bind(password_hash)
    .bind(role.as_str())
    .execute(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn set_password_hash(conn: &mut PgConnection, id: UserId, hash: &str) -> sqlx::Result<()> {
    sqlx::query("update users set password_hash = $2 where id = $1")
        .bind(id)
        .bind(hash)
        .execute(conn)
        .await?;
    Ok(())
}

/// People in the order of their names, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Person>> {
    sqlx::query_as(
        r#"select id, username, role, disabled_at, created_at
         from users
         where $1::text is null or username collate "C" > $1
         order by username collate "C"
         limit $2"#,
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Makes changes of roles wait for each other, so that two at once cannot remove the last owner.
pub(crate) async fn lock_roles(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('picloud roles', 0))").execute(conn).await?;
    Ok(())
}

pub(crate) async fn set_role(conn: &mut PgConnection, id: UserId, role: Role) -> sqlx::Result<()> {
    sqlx::query("update users set role = $2 where id = $1")
        .bind(id)
        .bind(role.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Disables a person, or enables them again. Since when stays what it was.
pub(crate) async fn set_disabled(conn: &mut PgConnection, id: UserId, is_disabled: bool) -> sqlx::Result<()> {
    sqlx::query(
        "update users
         set disabled_at = case when $2 then coalesce(disabled_at, now()) end
         where id = $1",
    )
    .bind(id)
    .bind(is_disabled)
    .execute(conn)
    .await?;
    Ok(())
}

/// Removes a person, who owns no app, with their sessions, keys and memberships.
pub(crate) async fn delete(conn: &mut PgConnection, id: UserId) -> sqlx::Result<()> {
    sqlx::query("delete from users where id = $1").bind(id).execute(conn).await?;
    Ok(())
}

pub(crate) async fn has_enabled_owner(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from users where role = 'owner' and disabled_at is null)")
        .fetch_one(conn)
        .await
}

pub(crate) async fn password_hash(conn: &mut PgConnection, id: UserId) -> sqlx::Result<Option<String>> {
    let hash: Option<Option<String>> =
        sqlx::query_scalar("select password_hash from users where id = $1 and disabled_at is null")
            .bind(id)
            .fetch_optional(conn)
            .await?;
    Ok(hash.flatten())
}

/// The first owner, if there is one.
pub(crate) async fn owner(conn: &mut PgConnection) -> sqlx::Result<Option<UserId>> {
    sqlx::query_scalar("select id from users where role = 'owner' order by created_at, id limit 1")
        .fetch_optional(conn)
        .await
}

/// Makes processes that start for the first time at once wait for each other.
pub(crate) async fn lock_first_start(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('picloud first start', 0))")
        .execute(conn)
        .await?;
    Ok(())
}
