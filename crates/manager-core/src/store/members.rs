//! Members of apps.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::id::{AppId, UserId};
use shared::name::Username;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Name of the constraint that lets a person be a member once.
pub(crate) const MEMBER_KEY: &str = "app_members_pkey";

/// What a member may do on an app; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AppRole {
    Viewer,
    Editor,
    AppAdmin,
}

/// A word that names no role of an app.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no role of an app")]
pub(crate) struct UnknownAppRole(String);

impl AppRole {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::AppAdmin => "app_admin",
        }
    }
}

impl std::str::FromStr for AppRole {
    type Err = UnknownAppRole;

    fn from_str(text: &str) -> Result<Self, UnknownAppRole> {
        [Self::Viewer, Self::Editor, Self::AppAdmin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownAppRole(text.to_owned()))
    }
}

/// A person as a member of an app.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Member {
    pub(crate) user_id: UserId,
    pub(crate) username: Username,
    pub(crate) role: AppRole,
    /// Whether the app is theirs to give away.
    pub(crate) is_owner: bool,
    pub(crate) created_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for Member {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            user_id: row.try_get("user_id")?,
            username: columns::parsed(row, "username")?,
            role: columns::parsed(row, "role")?,
            is_owner: row.try_get("is_owner")?,
            created_at: row.try_get("created_at")?,
        })
    }
}

/// Members of an app in the order of their names, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    app: AppId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Member>> {
    sqlx::query_as(
        r#"select m.user_id, u.username, m.role, a.owner_id = m.user_id as is_owner, m.created_at
         from app_members m
         join users u on u.id = m.user_id
         join apps a on a.id = m.app_id
         where m.app_id = $1 and ($2::text is null or u.username collate "C" > $2)
         order by u.username collate "C"
         limit $3"#,
    )
    .bind(app)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

pub(crate) async fn member(
    conn: &mut PgConnection,
    app: AppId,
    user: UserId,
) -> sqlx::Result<Option<Member>> {
    sqlx::query_as(
        "select m.user_id, u.username, m.role, a.owner_id = m.user_id as is_owner, m.created_at
         from app_members m
         join users u on u.id = m.user_id
         join apps a on a.id = m.app_id
         where m.app_id = $1 and m.user_id = $2",
    )
    .bind(app)
    .bind(user)
    .fetch_optional(conn)
    .await
}

pub(crate) async fn role(conn: &mut PgConnection, app: AppId, user: UserId) -> sqlx::Result<Option<AppRole>> {
    let row = sqlx::query("select role from app_members where app_id = $1 and user_id = $2")
        .bind(app)
        .bind(user)
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(|row| columns::parsed(row, "role")).transpose()
}

/// Lets a person in. Fails on [`MEMBER_KEY`] when they are in already.
pub(crate) async fn add(
    conn: &mut PgConnection,
    app: AppId,
    user: UserId,
    role: AppRole,
    by: UserId,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into app_members (app_id, user_id, role, added_by)
         values ($1, $2, $3, $4)",
    )
    .bind(app)
    .bind(user)
    .bind(role.as_str())
    .bind(by)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn set_role(
    conn: &mut PgConnection,
    app: AppId,
    user: UserId,
    role: AppRole,
) -> sqlx::Result<()> {
    sqlx::query("update app_members set role = $3 where app_id = $1 and user_id = $2")
        .bind(app)
        .bind(user)
        .bind(role.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn remove(conn: &mut PgConnection, app: AppId, user: UserId) -> sqlx::Result<()> {
    sqlx::query("delete from app_members where app_id = $1 and user_id = $2")
        .bind(app)
        .bind(user)
        .execute(conn)
        .await?;
    Ok(())
}
