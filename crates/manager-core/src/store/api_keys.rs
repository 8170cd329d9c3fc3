//! API keys. Only the hash of a key is ever here.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{ApiKeyId, AppId, UserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;
use super::users::User;
use crate::auth::Scope;

/// How old the last use of a key may grow before it is written anew.
const USE_MINUTES: i32 = 5;

/// A key as its person sees it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct ApiKey {
    pub(crate) id: ApiKeyId,
    pub(crate) name: String,
    pub(crate) hint: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) app_id: Option<AppId>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for ApiKey {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            hint: row.try_get("hint")?,
            scopes: scopes(row)?,
            app_id: row.try_get("app_id")?,
            expires_at: row.try_get("expires_at")?,
            last_used_at: row.try_get("last_used_at")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

fn scopes(row: &PgRow) -> sqlx::Result<Vec<Scope>> {
    let words: Vec<String> = row.try_get("scopes")?;
    words
        .iter()
        .map(|word| Scope::from_str(word).map_err(|error| columns::malformed("scopes", error)))
        .collect()
}

/// A key that is neither expired nor of a disabled person.
#[derive(Debug)]
pub(crate) struct LiveKey {
    pub(crate) id: ApiKeyId,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) app: Option<AppId>,
    pub(crate) user: User,
    pub(crate) needs_sight: bool,
}

impl FromRow<'_, PgRow> for LiveKey {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("key_id")?,
            name: row.try_get("name")?,
            scopes: scopes(row)?,
            app: row.try_get("app_id")?,
            user: User::from_row(row)?,
            needs_sight: row.try_get("needs_sight")?,
        })
    }
}

/// What makes a key.
pub(crate) struct NewApiKey<'a> {
    pub(crate) user: UserId,
    pub(crate) name: &'a str,
    pub(crate) hint: &'a str,
    pub(crate) secret_hash: [u8; 32],
    pub(crate) scopes: &'a [Scope],
    pub(crate) app: Option<AppId>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

pub(crate) async fn create(conn: &mut PgConnection, key: NewApiKey<'_>) -> sqlx::Result<ApiKey> {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    sqlx::query_as(
        "insert into api_keys (id, user_id, name, hint, secret_hash, scopes, app_id, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         returning id, name, hint, scopes, app_id, expires_at, last_used_at, created_at",
    )
    .bind(ApiKeyId::new())
    .bind(key.user)
    .bind(key.name)
    .bind(key.hint)
    .bind(key.secret_hash)
    .bind(scopes)
    .bind(key.app)
    .bind(key.expires_at)
    .fetch_one(conn)
    .await
}

/// Keys of a person in the order in which they were made, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    user: UserId,
    after: Option<ApiKeyId>,
    limit: i64,
) -> sqlx::Result<Vec<ApiKey>> {
    sqlx::query_as(
        "select id, name, hint, scopes, app_id, expires_at, last_used_at, created_at
         from api_keys
         where user_id = $1 and ($2::uuid is null or id > $2)
         order by id
         limit $3",
    )
    .bind(user)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub(crate) async fn count(conn: &mut PgConnection, user: UserId) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from api_keys where user_id = $1").bind(user).fetch_one(conn).await
}

/// Removes a key of this person and answers what it was.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    user: UserId,
    id: ApiKeyId,
) -> sqlx::Result<Option<ApiKey>> {
    sqlx::query_as(
        "delete from api_keys
         where user_id = $1 and id = $2
         returning id, name, hint, scopes, app_id, expires_at, last_used_at, created_at",
    )
    .bind(user)
    .bind(id)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn live(conn: &mut PgConnection, secret_hash: [u8; 32]) -> sqlx::Result<Option<LiveKey>> {
    sqlx::query_as(
        "select k.id as key_id, k.name, k.scopes, k.app_id, u.id, u.username, u.role,
                coalesce(k.last_used_at < now() - make_interval(mins => $2), true) as needs_sight
         from api_keys k
         join users u on u.id = k.user_id
         where k.secret_hash = $1
           and (k.expires_at is null or k.expires_at > now())
           and u.disabled_at is null",
    )
    .bind(secret_hash)
    .bind(USE_MINUTES)
    .fetch_optional(conn)
    .await
}

/// Whether a key is not over, nor taken back.
pub(crate) async fn is_live(conn: &mut PgConnection, id: ApiKeyId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (
             select from api_keys where id = $1 and (expires_at is null or expires_at > now())
         )",
    )
    .bind(id)
    .fetch_one(conn)
    .await
}

pub(crate) async fn mark_used(conn: &mut PgConnection, id: ApiKeyId) -> sqlx::Result<()> {
    sqlx::query("update api_keys set last_used_at = now() where id = $1").bind(id).execute(conn).await?;
    Ok(())
}
