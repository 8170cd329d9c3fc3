//! The routing table: everything the router needs, read from one commit.

use std::collections::HashMap;
use std::sync::Arc;

use shared::host::HostPattern;
use shared::id::{AppId, ScriptId};
use shared::invocation::ScriptTarget;
use shared::name::AppSlug;
use shared::route::{AppRoutes, Route, RoutingTable};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::{apps, assets, columns, domains, former_slugs, scripts};

/// Reads the table: all apps, also those without routes, in the order of their ids. The connection must be in a
/// transaction in which every statement sees the same commit.
pub(crate) async fn table(conn: &mut PgConnection, base_domain: &str) -> sqlx::Result<RoutingTable> {
    let apps = apps::all(conn).await?;
    let rows = sqlx::query(concat!(
        "select r.app_id, r.id, r.method, r.host, r.path, r.dispatch_mode, r.body_bytes_max, r.policy,
                a.slug, a.owner_id, r.script_id, s.name, s.live_version, v.bundle_hash, v.limits,
                s.disabled_at is not null as is_disabled, ",
        scripts::may_invoke!(),
        " from routes r
         join apps a on a.id = r.app_id
         join scripts s on s.app_id = r.app_id and s.id = r.script_id
         join script_versions v
           on v.app_id = s.app_id and v.script_id = s.id and v.number = s.live_version
         join bundles b on b.app_id = v.app_id and b.hash = v.bundle_hash
         order by r.app_id, r.id"
    ))
    .fetch_all(&mut *conn)
    .await?;

    let mut by_app: HashMap<AppId, Vec<Route>> = HashMap::new();
    let mut targets: HashMap<ScriptId, Arc<ScriptTarget>> = HashMap::new();
    for row in &rows {
        // One row that cannot be read must not take every other route down with it.
        match route(row, &mut targets) {
            Ok(route) => by_app.entry(route.target.app).or_default().push(route),
            Err(error) => tracing::error!(%error, "a stored route is left out because it cannot be read"),
        }
    }
    let mut former_slugs: HashMap<AppId, Vec<AppSlug>> = HashMap::new();
    for (app, slug) in former_slugs::all(conn).await? {
        former_slugs.entry(app).or_default().push(slug);
    }
    let mut domains: HashMap<AppId, Vec<HostPattern>> = HashMap::new();
    for (app, pattern) in domains::verified(conn).await? {
        domains.entry(app).or_default().push(pattern);
    }
    let with_assets = assets::owners(conn).await?;
    let apps = apps
        .into_iter()
        .map(|app| AppRoutes {
            former_slugs: former_slugs.remove(&app.id).unwrap_or_default(),
            domains: domains.remove(&app.id).unwrap_or_default(),
            has_assets: with_assets.contains(&app.id),
            routes: by_app.remove(&app.id).unwrap_or_default(),
            app: app.id,
            slug: app.slug,
            is_default: app.is_default,
        })
        .collect();
    Ok(RoutingTable { base_domain: base_domain.to_owned(), apps })
}

fn route(row: &PgRow, targets: &mut HashMap<ScriptId, Arc<ScriptTarget>>) -> sqlx::Result<Route> {
    let script: ScriptId = row.try_get("script_id")?;
    let target = match targets.get(&script) {
        Some(target) => Arc::clone(target),
        None => {
            let target = Arc::new(scripts::target_of(row)?);
            targets.insert(script, Arc::clone(&target));
            target
        }
    };
    let method: String = row.try_get("method")?;
    Ok(Route {
        id: row.try_get("id")?,
        method: Some(method).filter(|method| !method.is_empty()),
        host: columns::host(row, "host")?,
        pattern: columns::parsed(row, "path")?,
        target,
        is_disabled: row.try_get("is_disabled")?,
        dispatch: columns::parsed(row, "dispatch_mode")?,
        body_bytes_max: columns::count(row, "body_bytes_max")?,
        policy: columns::json(row, "policy")?,
    })
}
