//! Apps. One that is being removed is found by nobody: no function here answers it, but for those of `removal`.

pub(crate) mod removal;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use shared::id::{AppId, UserId};
use shared::name::AppSlug;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row};

use super::members::AppRole;
use super::{columns, former_slugs, members};

/// Name of the constraint that keeps slugs unique.
pub(crate) const SLUG_KEY: &str = "apps_slug_key";

/// The columns of an [`App`].
macro_rules! columns {
    () => {
        "id, slug, name, description, owner_id, is_default, requires_approval, created_at, updated_at"
    };
}

/// A tenant.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct App {
    pub(crate) id: AppId,
    pub(crate) slug: AppSlug,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) owner_id: UserId,
    pub(crate) is_default: bool,
    /// Whether a version that asks for more than the live one waits until somebody approves it.
    pub(crate) requires_approval: bool,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for App {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            slug: columns::parsed(row, "slug")?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            owner_id: row.try_get("owner_id")?,
            is_default: row.try_get("is_default")?,
            requires_approval: row.try_get("requires_approval")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

pub(crate) async fn by_id(conn: &mut PgConnection, id: AppId) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!("select ", columns!(), " from apps where id = $1 and removing_at is null"))
        .bind(id)
        .fetch_optional(conn)
        .await
}

pub(crate) async fn by_slug(conn: &mut PgConnection, slug: &str) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!("select ", columns!(), " from apps where slug = $1 and removing_at is null"))
        .bind(slug)
        .fetch_optional(conn)
        .await
}

/// Every app.
pub(crate) async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<App>> {
    sqlx::query_as(concat!("select ", columns!(), " from apps where removing_at is null order by id"))
        .fetch_all(conn)
        .await
}

/// Which apps a list shows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Visible {
    /// Only those that this person is a member of.
    pub(crate) member: Option<UserId>,
    /// Only this one.
    pub(crate) app: Option<AppId>,
}

/// Apps in the order of their slugs, those after `after`.
pub(crate) async fn page(
    conn: &mut PgConnection,
    visible: Visible,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<App>> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        r#" from apps
         where removing_at is null
           and ($1::text is null or slug collate "C" > $1)
           and ($3::uuid is null
                or exists (select from app_members m where m.app_id = apps.id and m.user_id = $3))
           and ($4::uuid is null or id = $4)
         order by slug collate "C"
         limit $2"#
    ))
    .bind(after)
    .bind(limit)
    .bind(visible.member)
    .bind(visible.app)
    .fetch_all(conn)
    .await
}

/// Slugs of the apps that a person owns, also of those that are being removed: it cannot go before them.
pub(crate) async fn owned_by(conn: &mut PgConnection, owner: UserId) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select slug from apps where owner_id = $1 order by slug")
        .bind(owner)
        .fetch_all(conn)
        .await
}

pub(crate) async fn default_app(conn: &mut PgConnection) -> sqlx::Result<Option<AppId>> {
    sqlx::query_scalar("select id from apps where is_default").fetch_optional(conn).await
}

/// Makes an app, whose owner is its first member.
pub(crate) async fn create(
    conn: &mut PgConnection,
    slug: &AppSlug,
    name: &str,
    owner: UserId,
    is_default: bool,
) -> sqlx::Result<App> {
    let app: App = sqlx::query_as(concat!(
        "insert into apps (id, slug, name, owner_id, is_default)
             values ($1, $2, $3, $4, $5)
             returning ",
        columns!()
    ))
    .bind(AppId::new())
    .bind(slug.as_str())
    .bind(name)
    .bind(owner)
    .bind(is_default)
    .fetch_one(&mut *conn)
    .await?;
    former_slugs::forget(conn, slug).await?;
    members::add(conn, app.id, owner, AppRole::AppAdmin, owner).await?;
    Ok(app)
}

pub(crate) async fn make_default(conn: &mut PgConnection, id: AppId) -> sqlx::Result<()> {
    sqlx::query("update apps set is_default = true where id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// What is to change of an app; what is absent stays.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change<'a> {
    pub(crate) slug: Option<&'a AppSlug>,
    pub(crate) name: Option<&'a str>,
    pub(crate) description: Option<&'a str>,
    pub(crate) requires_approval: Option<bool>,
}

/// Changes what is given and answers the app as it is then; nothing when there is no such app.
pub(crate) async fn update(
    conn: &mut PgConnection,
    id: AppId,
    change: Change<'_>,
) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!(
        "update apps
             set slug = coalesce($2, slug), name = coalesce($3, name),
                 description = coalesce($4, description),
                 requires_approval = coalesce($5, requires_approval), updated_at = now()
             where id = $1
             returning ",
        columns!()
    ))
    .bind(id)
    .bind(change.slug.map(AppSlug::as_str))
    .bind(change.name)
    .bind(change.description)
    .bind(change.requires_approval)
    .fetch_optional(conn)
    .await
}

/// Whether versions that ask for more wait until somebody approves them.
pub(crate) async fn requires_approval(conn: &mut PgConnection, id: AppId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select requires_approval from apps where id = $1").bind(id).fetch_one(conn).await
}

/// Makes somebody the owner, who must be a member when the transaction commits.
pub(crate) async fn set_owner(
    conn: &mut PgConnection,
    id: AppId,
    owner: UserId,
) -> sqlx::Result<Option<App>> {
    sqlx::query_as(concat!(
        "update apps
         set owner_id = $2, updated_at = now()
         where id = $1
         returning ",
        columns!()
    ))
    .bind(id)
    .bind(owner)
    .fetch_optional(conn)
    .await
}

/// Makes changes to the app's scripts and routes wait for each other until the transaction ends.
/// False when the app is gone. The recorder's inserts do not wait for this lock.
pub(crate) async fn lock(conn: &mut PgConnection, id: AppId) -> sqlx::Result<bool> {
    let found = sqlx::query("select id from apps where id = $1 and removing_at is null for no key update")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}
