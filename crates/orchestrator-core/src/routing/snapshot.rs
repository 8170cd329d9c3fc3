//! The routing table compiled for lookup, renewed when the store publishes a new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::id::AppId;
use shared::ports::RouteSource;
use shared::route::RoutingTable;

use super::matcher::AppMatcher;

/// Finds the app of a host. Asks its source on every request and recompiles when the answer is
/// another table than before; a request sees one table from beginning to end.
pub struct Router {
    source: Arc<dyn RouteSource>,
    compiled: ArcSwap<Compiled>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Compiled {
    table: Arc<RoutingTable>,
    /// By slug, in lower case.
    apps: HashMap<String, Place>,
    default: Option<Arc<Host>>,
    /// `.localhost` for the base domain `localhost`.
    suffix: String,
}

/// What a host leads to.
#[derive(Debug, Clone)]
pub enum Place {
    App(Arc<Host>),
    /// The app that had this host's slug is on this host now.
    Moved(String),
}

/// An app that answers on a host.
#[derive(Debug)]
pub struct Host {
    pub app: AppId,
    pub routes: AppMatcher,
}

impl Router {
    pub fn new(source: Arc<dyn RouteSource>) -> Self {
        let compiled = ArcSwap::from_pointee(Compiled::new(source.current()));
        Self { source, compiled }
    }

    /// What answers on `host`, which may carry a port.
    pub fn host(&self, host: &str) -> Option<Place> {
        let current = self.source.current();
        let compiled = self.compiled.load();
        if Arc::ptr_eq(&compiled.table, &current) {
            return compiled.host(host);
        }
        let compiled = Arc::new(Compiled::new(current));
        self.compiled.store(compiled.clone());
        compiled.host(host)
    }
}

impl Compiled {
    fn new(table: Arc<RoutingTable>) -> Self {
        let mut apps = HashMap::new();
        let mut default = None;
        let suffix = format!(".{}", table.base_domain.to_ascii_lowercase());
        for app in &table.apps {
            let host = Arc::new(Host { app: app.app, routes: AppMatcher::new(app.routes.clone()) });
            if app.is_default {
                default = Some(host.clone());
            }
            for former in &app.former_slugs {
                let place = Place::Moved(format!("{}{suffix}", app.slug));
                // A slug that is some app's now is that app's.
                apps.entry(former.as_str().to_owned()).or_insert(place);
            }
            apps.insert(app.slug.as_str().to_owned(), Place::App(host));
        }
        Self { table, apps, default, suffix }
    }

    fn host(&self, host: &str) -> Option<Place> {
        let name = without_port(host);
        if is_local(name) || name.eq_ignore_ascii_case(&self.suffix[1..]) {
            return self.default.clone().map(Place::App);
        }
        let label = name.len().checked_sub(self.suffix.len()).and_then(|at| {
            let (label, suffix) = name.split_at_checked(at)?;
            suffix.eq_ignore_ascii_case(&self.suffix).then_some(label)
        })?;
        if label.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.apps.get(&label.to_ascii_lowercase()).cloned();
        }
        self.apps.get(label).cloned()
    }
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// `localhost` and bare addresses belong to the default app.
fn is_local(name: &str) -> bool {
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let may_be_address = name.starts_with('[') || name.ends_with(|c: char| c.is_ascii_digit());
    may_be_address && name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use shared::route::AppRoutes;

    use super::*;

    struct Fixed(Mutex<Arc<RoutingTable>>);

    impl RouteSource for Fixed {
        fn current(&self) -> Arc<RoutingTable> {
            self.0.lock().unwrap().clone()
        }
    }

    fn table(slugs: &[&str]) -> Arc<RoutingTable> {
        let app = |slug: &&str| AppRoutes {
            app: AppId::new(),
            slug: slug.parse().unwrap(),
            former_slugs: if *slug == "blog" { vec!["journal".parse().unwrap()] } else { Vec::new() },
            is_default: *slug == "default",
            routes: Vec::new(),
        };
        Arc::new(RoutingTable { base_domain: "Example.org".into(), apps: slugs.iter().map(app).collect() })
    }

    #[test]
    fn hosts_find_their_app() {
        let table = table(&["default", "blog"]);
        let router = Router::new(Arc::new(Fixed(Mutex::new(table.clone()))));
        let app = |host: &str| match router.host(host) {
            Some(Place::App(host)) => Some(host.app),
            _ => None,
        };
        let default = Some(table.apps[0].app);
        let blog = Some(table.apps[1].app);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "[::1]",
            "example.org",
            "default.example.org",
        ] {
            assert_eq!(app(host), default, "{host}");
        }
        for host in ["blog.example.org", "BLOG.Example.ORG:99", "blog.example.org."] {
            assert_eq!(app(host), blog, "{host}");
        }
        for host in [
            "",
            ":80",
            ".example.org",
            "nope.example.org",
            "a.blog.example.org",
            "blog.example.com",
            "blogexample.org",
            "[",
            "éblog.example.org",
        ] {
            assert_eq!(app(host), None, "{host}");
        }
    }

    #[test]
    fn a_former_slug_leads_to_the_host_of_today() {
        let router = Router::new(Arc::new(Fixed(Mutex::new(table(&["default", "blog"])))));
        match router.host("Journal.example.org:80") {
            Some(Place::Moved(host)) => assert_eq!(host, "blog.example.org"),
            other => panic!("{other:?}"),
        }
        // An app that takes the slug is what answers from then on.
        let router = Router::new(Arc::new(Fixed(Mutex::new(table(&["blog", "journal"])))));
        assert!(matches!(router.host("journal.example.org"), Some(Place::App(_))));
    }

    #[test]
    fn a_published_table_is_seen_by_the_next_request() {
        let source = Arc::new(Fixed(Mutex::new(table(&["default"]))));
        let router = Router::new(source.clone());
        assert!(router.host("new.example.org").is_none());
        *source.0.lock().unwrap() = table(&["default", "new"]);
        assert!(router.host("new.example.org").is_some());
    }
}
