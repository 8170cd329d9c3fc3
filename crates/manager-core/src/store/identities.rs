//! Accounts at identity providers, and people on their way to link one.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{IdentityId, UserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

/// Name of the constraint that gives an account at a provider to one person only.
pub(crate) const IDENTITY_KEY: &str = "identities_issuer_subject_key";

/// How long somebody may be away at a provider to link its account.
const LINK_MINUTES: i32 = 10;

/// An account at a provider, as its person sees it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct LinkedIdentity {
    pub(crate) id: IdentityId,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// What the provider said when it was last asked.
    pub(crate) email: Option<String>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
}

impl FromRow<'_, PgRow> for LinkedIdentity {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            issuer: row.try_get("issuer")?,
            subject: row.try_get("subject")?,
            email: row.try_get("email")?,
            created_at: row.try_get("created_at")?,
            last_used_at: row.try_get("last_used_at")?,
        })
    }
}

/// Whose account at a provider this is, noting that it is used now.
pub(crate) async fn use_by(
    conn: &mut PgConnection,
    issuer: &str,
    subject: &str,
    email: Option<&str>,
) -> sqlx::Result<Option<UserId>> {
    sqlx::query_scalar(
        "update identities
         set last_used_at = now(), email = $3
         where issuer = $1 and subject = $2
         returning user_id",
    )
    .bind(issuer)
    .bind(subject)
    .bind(email)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn create(
    conn: &mut PgConnection,
    user: UserId,
    issuer: &str,
    subject: &str,
    email: Option<&str>,
) -> sqlx::Result<LinkedIdentity> {
    sqlx::query_as(
        "insert into identities (id, user_id, issuer, subject, email)
         values ($1, $2, $3, $4, $5)
         returning id, issuer, subject, email, created_at, last_used_at",
    )
    .bind(IdentityId::new())
    .bind(user)
    .bind(issuer)
    .bind(subject)
    .bind(email)
    .fetch_one(conn)
    .await
}

/// A person's accounts in the order in which they were linked, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    user: UserId,
    after: Option<IdentityId>,
    limit: i64,
) -> sqlx::Result<Vec<LinkedIdentity>> {
    sqlx::query_as(
        "select id, issuer, subject, email, created_at, last_used_at
         from identities
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

/// Unlinks an account of that person and answers what it was.
pub(crate) async fn delete(
    conn: &mut PgConnection,
    user: UserId,
    id: IdentityId,
) -> sqlx::Result<Option<LinkedIdentity>> {
    sqlx::query_as(
        "delete from identities
         where user_id = $1 and id = $2
         returning id, issuer, subject, email, created_at, last_used_at",
    )
    .bind(user)
    .bind(id)
    .fetch_optional(conn)
    .await
}

/// Whether the person has a way in: a password, or an account at a provider.
pub(crate) async fn has_way_in(conn: &mut PgConnection, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "select exists (select from users where id = $1 and password_hash is not null)
             or exists (select from identities where user_id = $1)",
    )
    .bind(user)
    .fetch_one(conn)
    .await
}

/// Notes that a person went to a provider to link its account; the last time counts.
pub(crate) async fn expect_link(
    conn: &mut PgConnection,
    user: UserId,
    state_hash: [u8; 32],
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into identity_links (user_id, state_hash, expires_at)
         values ($1, $2, now() + make_interval(mins => $3))
         on conflict (user_id) do update
         set state_hash = excluded.state_hash, expires_at = excluded.expires_at",
    )
    .bind(user)
    .bind(state_hash)
    .bind(LINK_MINUTES)
    .execute(conn)
    .await?;
    Ok(())
}

/// Who went away with this state to link an account; once.
pub(crate) async fn take_link(conn: &mut PgConnection, state_hash: [u8; 32]) -> sqlx::Result<Option<UserId>> {
    let row: Option<(UserId, bool)> = sqlx::query_as(
        "delete from identity_links
         where state_hash = $1
         returning user_id, expires_at > now()",
    )
    .bind(state_hash)
    .fetch_optional(conn)
    .await?;
    Ok(row.filter(|(_, is_open)| *is_open).map(|(user, _)| user))
}
