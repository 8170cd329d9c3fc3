//! What finding a route costs, of many: the router alone, in this process, on one core.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use orchestrator_core::routing::{Place, Router};
use serde_json::json;
use shared::host::normalized;
use shared::id::{AppId, RouteId, ScriptId, UserId};
use shared::invocation::ScriptTarget;
use shared::limits::ScriptLimits;
use shared::name::AppSlug;
use shared::ports::RouteSource;
use shared::route::{AppRoutes, Route, RoutePolicy, RoutingTable};
use shared::script::BundleHash;

use crate::report::{Bound, Report};

const ROUTES: usize = 10_000;
const APPS: usize = 1_000;
/// Different requests, so that nothing is found because it was looked for just before.
const REQUESTS: usize = 8_192;
const LOOKUPS_PER_ROUND: usize = 200_000;
const ROUNDS: usize = 7;
/// A hundredth of what an execution of hello takes.
const GOAL_US: f64 = 5.0;

struct Fixed(Arc<RoutingTable>);

impl RouteSource for Fixed {
    fn current(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.0)
    }
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    report.heading(format_args!("Finding a route among {ROUTES}, per lookup on one core"));
    for apps in [APPS, 1] {
        let nanoseconds = measure(apps)?;
        report.line(format_args!("  of {apps:>5} apps   {nanoseconds:>7.0} ns"));
        report.keep(&format!("route_lookup_ns_{apps}_apps"), json!(nanoseconds));
        let name = format!("lookup among {ROUTES} routes of {apps} apps");
        report.goal(name, nanoseconds / 1_000.0, Bound::AtMost(GOAL_US), "µs");
    }
    Ok(())
}

/// The median of the rounds.
fn measure(apps: usize) -> anyhow::Result<f64> {
    let router = Router::new(Arc::new(Fixed(Arc::new(table(apps)?))));
    let requests: Vec<_> = (0..REQUESTS).map(|n| request(apps, n)).collect();
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for (host, path) in requests.iter().cycle().take(LOOKUPS_PER_ROUND) {
            let name = normalized(host);
            let Some(Place::App { host, .. }) = router.host(&name) else {
                anyhow::bail!("{name} leads nowhere")
            };
            let found = host.routes.find("GET", &name, path);
            anyhow::ensure!(black_box(&found).is_ok(), "{path} leads nowhere");
        }
        #[expect(clippy::cast_precision_loss, reason = "whole nanoseconds are shown")]
        rounds.push(began.elapsed().as_nanos() as f64 / LOOKUPS_PER_ROUND as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[ROUNDS / 2])
}

/// Half of the apps on hosts of their own; the routes exact, with parameters and prefixes.
fn table(apps: usize) -> anyhow::Result<RoutingTable> {
    let mut table = RoutingTable { base_domain: "pi.example.org".to_owned(), apps: Vec::new() };
    for app in 0..apps {
        let slug: AppSlug = format!("app-{app}").parse()?;
        let target = Arc::new(ScriptTarget {
            app: AppId::new(),
            app_slug: slug.clone(),
            owner: UserId::new(),
            script: ScriptId::new(),
            name: "page".parse()?,
            version: 1,
            bundle: BundleHash([0; 32]),
            limits: ScriptLimits::default(),
            may_invoke: true,
        });
        let routes = (0..ROUTES / apps).map(|n| route(n, &target)).collect::<anyhow::Result<_>>()?;
        table.apps.push(AppRoutes {
            app: target.app,
            slug,
            former_slugs: Vec::new(),
            is_default: app == 0,
            domains: vec![format!("{{tenant}}.shop-{app}.example.com").parse()?],
            has_assets: false,
            routes,
        });
    }
    Ok(table)
}

fn route(n: usize, target: &Arc<ScriptTarget>) -> anyhow::Result<Route> {
    let path = match n % 4 {
        0 => format!("/v1/resource-{n}"),
        1 => format!("/v1/resource-{n}/:id"),
        2 => format!("/v1/resource-{n}/:id/items/:item"),
        _ => format!("/v1/resource-{n}/files/*"),
    };
    Ok(Route {
        id: RouteId::new(),
        method: n.is_multiple_of(3).then(|| "GET".to_owned()),
        host: None,
        pattern: path.parse()?,
        target: Arc::clone(target),
        is_disabled: false,
        dispatch: shared::route::DispatchMode::Sync,
        body_bytes_max: 1 << 20,
        policy: RoutePolicy::default(),
    })
}

fn request(apps: usize, n: usize) -> (String, String) {
    // Steps that share no factor with the counts reach everything in no order.
    let (app, route) = (n * 7_919 % apps, n * 104_729 % (ROUTES / apps));
    let host = match n % 2 {
        0 => format!("app-{app}.pi.example.org:8080"),
        _ => format!("ada.shop-{app}.example.com"),
    };
    let path = match route % 4 {
        0 => format!("/v1/resource-{route}"),
        1 => format!("/v1/resource-{route}/{n}"),
        2 => format!("/v1/resource-{route}/{n}/items/7"),
        _ => format!("/v1/resource-{route}/files/a/b/c.txt"),
    };
    (host, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_the_measurement_finds_its_route() {
        for apps in [APPS, 1] {
            let router = Router::new(Arc::new(Fixed(Arc::new(table(apps).unwrap()))));
            for (host, path) in (0..REQUESTS).map(|n| request(apps, n)) {
                let name = normalized(&host);
                match router.host(&name) {
                    Some(Place::App { host, .. }) => assert!(host.routes.find("GET", &name, &path).is_ok()),
                    other => panic!("{host}: {other:?}"),
                }
            }
        }
    }
}
