//! Apps that are offered to somebody.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, UserId};
use shared::name::{AppSlug, Username};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::columns;

/// Reads the offers that can still be accepted: they have not expired, and their makers could make them
/// again.
macro_rules! open {
    () => {
        "select t.app_id, a.slug, a.name, u.username, b.username as offered_by, t.offered_by as offered_by_id,
                t.expires_at, t.created_at
         from app_transfers t
         join apps a on a.id = t.app_id
         join users u on u.id = t.to_user
         join users b on b.id = t.offered_by
         where t.expires_at > now()
           and b.disabled_at is null
           and (b.id = a.owner_id or b.role = 'owner')"
    };
}

/// An app that becomes somebody's when they say so.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Offer {
    pub(crate) app_id: AppId,
    pub(crate) slug: AppSlug,
    pub(crate) name: String,
    /// Whom it is offered to.
    pub(crate) user: Username,
    pub(crate) offered_by: Username,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) created_at: DateTime<Utc>,
    #[serde(skip)]
    pub(crate) offered_by_id: UserId,
}

impl FromRow<'_, PgRow> for Offer {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            app_id: row.try_get("app_id")?,
            slug: columns::parsed(row, "slug")?,
            name: row.try_get("name")?,
            user: columns::parsed(row, "username")?,
            offered_by: columns::parsed(row, "offered_by")?,
            expires_at: row.try_get("expires_at")?,
            created_at: row.try_get("created_at")?,
            offered_by_id: row.try_get("offered_by_id")?,
        })
    }
}

/// Offers an app, instead of whatever offer there was.
pub(crate) async fn offer(
    conn: &mut PgConnection,
    app: AppId,
    to: UserId,
    by: UserId,
    days: i32,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into app_transfers (app_id, to_user, offered_by, expires_at)
         values ($1, $2, $3, now() + make_interval(days => $4))
         on conflict (app_id) do update
         set to_user = excluded.to_user, offered_by = excluded.offered_by,
             expires_at = excluded.expires_at, created_at = now()",
    )
    .bind(app)
    .bind(to)
    .bind(by)
    .bind(days)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn of_app(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Option<Offer>> {
    sqlx::query_as(concat!(open!(), " and t.app_id = $1")).bind(app).fetch_optional(conn).await
}

/// The offer of the app with this slug or id to a person.
pub(crate) async fn to_user(
    conn: &mut PgConnection,
    user: UserId,
    slug_or_id: &str,
) -> sqlx::Result<Option<Offer>> {
    sqlx::query_as(concat!(open!(), " and t.to_user = $1 and (a.slug = $2 or a.id::text = $2)"))
        .bind(user)
        .bind(slug_or_id)
        .fetch_optional(conn)
        .await
}

/// What is offered to a person, by the apps' slugs, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    user: UserId,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Offer>> {
    sqlx::query_as(concat!(
        open!(),
        r#" and t.to_user = $1 and ($2::text is null or a.slug collate "C" > $2)
         order by a.slug collate "C"
         limit $3"#
    ))
    .bind(user)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Takes back whatever offer there is of an app: it was accepted, declined, withdrawn, or the app has
/// another owner.
pub(crate) async fn remove(conn: &mut PgConnection, app: AppId) -> sqlx::Result<()> {
    sqlx::query("delete from app_transfers where app_id = $1").bind(app).execute(conn).await?;
    Ok(())
}
