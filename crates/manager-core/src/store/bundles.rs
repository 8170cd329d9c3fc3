//! Bundles: the content of script versions, named by its hash.

use shared::capabilities::Capabilities;
use shared::id::AppId;
use shared::script::{Bundle, BundleHash};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::columns;

/// What the bundle `b` takes as it is stored, known without reading it, and so much at least.
macro_rules! bundle_bytes {
    ($least:literal) => {
        concat!(
            "greatest(pg_column_size(b.source)::bigint + pg_column_size(b.modules), ",
            $least,
            "::bigint)"
        )
    };
}
pub(super) use bundle_bytes;

/// Keeps a bundle; one of the same content that the app has already is left as it is, but for what
/// releases before did not say of it.
pub(crate) async fn keep(
    conn: &mut PgConnection,
    app: AppId,
    hash: BundleHash,
    bundle: &Bundle,
    imports: &[String],
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into bundles (app_id, hash, kind, name, source, modules, imports, capabilities)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (app_id, hash) do update set capabilities = excluded.capabilities
         where bundles.capabilities is null",
    )
    .bind(app)
    .bind(hash.0)
    .bind(bundle.kind.as_str())
    .bind(&bundle.name)
    .bind(&bundle.source)
    .bind(Json(&bundle.modules))
    .bind(imports)
    .bind(Json(Capabilities::of(bundle)))
    .execute(conn)
    .await?;
    Ok(())
}

/// The content of this hash.
pub(crate) async fn by_hash(conn: &mut PgConnection, hash: BundleHash) -> sqlx::Result<Option<Bundle>> {
    let row = sqlx::query(
        "select kind, name, source, modules
         from bundles
         where hash = $1
         limit 1",
    )
    .bind(hash.0)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Bundle {
            kind: columns::kind(&row, "kind")?,
            name: row.try_get("name")?,
            source: row.try_get("source")?,
            modules: columns::json(&row, "modules")?,
        })
    })
    .transpose()
}

/// Removes bundles of an app that no version refers to any more. The app must be locked.
pub(crate) async fn forget_unused(conn: &mut PgConnection, app: AppId) -> sqlx::Result<()> {
    sqlx::query(
        "delete from bundles b
         where b.app_id = $1
           and not exists (
               select 1
               from script_versions v
               where v.app_id = b.app_id and v.bundle_hash = b.hash
           )",
    )
    .bind(app)
    .execute(conn)
    .await?;
    Ok(())
}

/// What the bundles of an app take together, each so much at least.
pub(crate) async fn bytes(conn: &mut PgConnection, app: AppId, least: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar(concat!(
        "select coalesce(sum(",
        bundle_bytes!("$2"),
        "), 0)::bigint
         from bundles b
         where b.app_id = $1"
    ))
    .bind(app)
    .bind(least)
    .fetch_one(conn)
    .await
}
