//! Slugs that apps had before they were renamed.

use shared::id::AppId;
use shared::name::AppSlug;
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::columns;

/// The app that had this slug last, when no app has it now.
pub(crate) async fn app_of(conn: &mut PgConnection, slug: &str) -> sqlx::Result<Option<AppId>> {
    sqlx::query_scalar("select app_id from app_former_slugs where slug = $1")
        .bind(slug)
        .fetch_optional(conn)
        .await
}

/// Makes a slug lead to the app that had it. The app must have another one by now.
pub(crate) async fn keep(conn: &mut PgConnection, app: AppId, slug: &AppSlug) -> sqlx::Result<()> {
    sqlx::query("insert into app_former_slugs (app_id, slug) values ($1, $2)")
        .bind(app)
        .bind(slug.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends what a slug led to, because an app has it now. Comes after the app took the slug: whoever is
/// giving it up in this moment has either done so by then, or finds it taken.
pub(crate) async fn forget(conn: &mut PgConnection, slug: &AppSlug) -> sqlx::Result<()> {
    sqlx::query("delete from app_former_slugs where slug = $1").bind(slug.as_str()).execute(conn).await?;
    Ok(())
}

/// Former slugs of an app, the latest first.
pub(crate) async fn of_app(conn: &mut PgConnection, app: AppId) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("select slug from app_former_slugs where app_id = $1 order by retired_at desc, slug")
        .bind(app)
        .fetch_all(conn)
        .await
}

/// Every former slug.
pub(crate) async fn all(conn: &mut PgConnection) -> sqlx::Result<Vec<(AppId, AppSlug)>> {
    let rows = sqlx::query("select app_id, slug from app_former_slugs").fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get("app_id")?, columns::parsed(row, "slug")?))).collect()
}
