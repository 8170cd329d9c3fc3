//! Invitations. Only the hash of a token is ever here.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{InvitationId, UserId};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;
use super::users::Role;

/// An invitation that nobody has accepted yet.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Invitation {
    pub(crate) id: InvitationId,
    pub(crate) role: Role,
    pub(crate) note: String,
    pub(crate) invited_by: UserId,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Invitation {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            role: columns::parsed(row, "role")?,
            note: row.try_get("note")?,
            invited_by: row.try_get("invited_by")?,
            expires_at: row.try_get("expires_at")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// What makes an invitation.
pub(crate) struct NewInvitation<'a> {
    pub(crate) token_hash: [u8; 32],
    pub(crate) role: Role,
    pub(crate) note: &'a str,
    pub(crate) invited_by: UserId,
    pub(crate) days: i32,
}

pub(crate) async fn create(conn: &mut PgConnection, new: NewInvitation<'_>) -> sqlx::Result<Invitation> {
    sqlx::query_as(
        "insert into invitations (id, token_hash, role, note, invited_by, expires_at)
         values ($1, $2, $3, $4, $5, now() + make_interval(days => $6))
         returning id, role, note, invited_by, expires_at, created_at",
    )
    .bind(InvitationId::new())
    .bind(new.token_hash)
    .bind(new.role.as_str())
    .bind(new.note)
    .bind(new.invited_by)
    .bind(new.days)
    .fetch_one(conn)
    .await
}

/// Open invitations in the order in which they were made, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    after: Option<InvitationId>,
    limit: i64,
) -> sqlx::Result<Vec<Invitation>> {
    sqlx::query_as(
        "select id, role, note, invited_by, expires_at, created_at
         from invitations
         where expires_at > now() and ($1::uuid is null or id > $1)
         order by id
         limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Removes an invitation and answers what it was.
pub(crate) async fn delete(conn: &mut PgConnection, id: InvitationId) -> sqlx::Result<Option<Invitation>> {
    sqlx::query_as(
        "delete from invitations
         where id = $1
         returning id, role, note, invited_by, expires_at, created_at",
    )
    .bind(id)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn is_open(conn: &mut PgConnection, token_hash: [u8; 32]) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from invitations where token_hash = $1 and expires_at > now())")
        .bind(token_hash)
        .fetch_one(conn)
        .await
}

/// Takes the open invitation of this token away, so that it is accepted once; nothing when there is
/// none, or when its maker could not give such a role any more.
pub(crate) async fn take(conn: &mut PgConnection, token_hash: [u8; 32]) -> sqlx::Result<Option<Invitation>> {
    sqlx::query_as(
        "delete from invitations i
         using users u
         where i.token_hash = $1
           and i.expires_at > now()
           and u.id = i.invited_by
           and u.disabled_at is null
           and (u.role = 'owner' or (u.role = 'admin' and i.role <> 'owner'))
         returning i.id, i.role, i.note, i.invited_by, i.expires_at, i.created_at",
    )
    .bind(token_hash)
    .fetch_optional(conn)
    .await
}

/// Removes what is over. Called at each new one, so that the table cannot grow without them.
pub(crate) async fn forget_expired(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("delete from invitations where expires_at <= now()").execute(conn).await?;
    Ok(())
}
