//! The routing table compiled for lookup, renewed when the store publishes a new one.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::host::{self, HostPattern};
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
    /// Hosts of apps' own, by the whole name.
    exact: HashMap<String, Arc<Host>>,
    /// Hosts of apps' own, by the name that they are below. No two patterns have the same.
    below: HashMap<String, (HostPattern, Arc<Host>)>,
}

/// What a host leads to.
#[derive(Debug, Clone)]
pub enum Place {
    /// An app; where its domain names a part of the host, with the name and the part.
    App { host: Arc<Host>, param: Option<(String, String)> },
    /// The app that had this host's slug is on this host now.
    Moved(String),
}

/// An app that answers on a host.
#[derive(Debug)]
pub struct Host {
    pub app: AppId,
    pub has_assets: bool,
    pub routes: AppMatcher,
}

impl Router {
    pub fn new(source: Arc<dyn RouteSource>) -> Self {
        let compiled = ArcSwap::from_pointee(Compiled::new(source.current()));
        Self { source, compiled }
    }

    /// What answers on a normalised host.
    pub fn host(&self, host: &str) -> Option<Place> {
        self.compiled().host(host)
    }

    /// Whether a normalised host is an app's own, by its slug of now or before, or by a claim. Those of
    /// the machine itself are not, although the app `default` answers there too.
    pub fn is_of_an_app(&self, host: &str) -> bool {
        let compiled = self.compiled();
        !compiled.is_machines(host) && compiled.host(host).is_some()
    }

    /// Whether a certificate for this normalised name may be asked for: an app answers on it, or
    /// did before it was renamed, and it is no name of one machine alone.
    pub fn may_have_certificate(&self, name: &str) -> bool {
        let is_private = host::is_address(name) || name == "localhost" || name.ends_with(".localhost");
        !is_private && self.compiled().host(name).is_some()
    }

    fn compiled(&self) -> Arc<Compiled> {
        let current = self.source.current();
        let compiled = self.compiled.load_full();
        if Arc::ptr_eq(&compiled.table, &current) {
            return compiled;
        }
        let compiled = Arc::new(Compiled::new(current));
        self.compiled.store(compiled.clone());
        compiled
    }
}

impl Compiled {
    fn new(table: Arc<RoutingTable>) -> Self {
        let mut apps = HashMap::new();
        let mut default = None;
        let (mut exact, mut below) = (HashMap::new(), HashMap::new());
        let suffix = format!(".{}", table.base_domain.to_ascii_lowercase());
        for app in &table.apps {
            let host = Arc::new(Host {
                app: app.app,
                has_assets: app.has_assets,
                routes: AppMatcher::new(app.routes.clone()),
            });
            if app.is_default {
                default = Some(host.clone());
            }
            for domain in &app.domains {
                let base = domain.base().to_owned();
                match domain.is_exact() {
                    true => drop(exact.insert(base, host.clone())),
                    false => drop(below.insert(base, (domain.clone(), host.clone()))),
                }
            }
            for former in &app.former_slugs {
                let place = Place::Moved(format!("{}{suffix}", app.slug));
                // A slug that is some app's now is that app's.
                apps.entry(former.as_str().to_owned()).or_insert(place);
            }
            apps.insert(app.slug.as_str().to_owned(), Place::of(host));
        }
        Self { table, apps, default, suffix, exact, below }
    }

    /// Whether a host is `localhost`, an address or the base domain.
    fn is_machines(&self, name: &str) -> bool {
        name == "localhost" || host::is_address(name) || *name == self.suffix[1..]
    }

    fn host(&self, name: &str) -> Option<Place> {
        if self.is_machines(name) {
            return self.default.clone().map(Place::of);
        }
        match name.strip_suffix(&self.suffix) {
            Some(label) => self.apps.get(label).cloned(),
            None => self.domain(name),
        }
    }

    /// The app that has claimed a host: by its whole name, else by the longest name it is below.
    fn domain(&self, name: &str) -> Option<Place> {
        if let Some(host) = self.exact.get(name) {
            return Some(Place::of(host.clone()));
        }
        let dots = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        let mut claims = dots.filter_map(|base| self.below.get(base));
        let (pattern, host) = claims.find(|(pattern, _)| pattern.matches(name))?;
        let param = pattern.param().zip(pattern.label(name));
        let param = param.map(|(param, label)| (param.to_owned(), label.to_owned()));
        Some(Place::App { host: host.clone(), param })
    }
}

impl Place {
    const fn of(host: Arc<Host>) -> Self {
        Self::App { host, param: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use proptest::prelude::*;
    use shared::route::{AppRoutes, HostRule};

    use super::*;

    struct Fixed(Mutex<Arc<RoutingTable>>);

    impl RouteSource for Fixed {
        fn current(&self) -> Arc<RoutingTable> {
            self.0.lock().unwrap().clone()
        }
    }

    /// A host as requests name it, which is normalised before it gets here.
    fn on(router: &Router, given: &str) -> Option<Place> {
        router.host(&host::normalized(given))
    }

    fn table(slugs: &[&str]) -> Arc<RoutingTable> {
        with_domains(slugs, &[])
    }

    /// All domains are of the last app.
    fn with_domains(slugs: &[&str], domains: &[&str]) -> Arc<RoutingTable> {
        let app = |slug: &&str| AppRoutes {
            app: AppId::new(),
            slug: slug.parse().unwrap(),
            former_slugs: if *slug == "blog" { vec!["journal".parse().unwrap()] } else { Vec::new() },
            is_default: *slug == "default",
            domains: match slugs.last() == Some(slug) {
                true => domains.iter().map(|domain| domain.parse().unwrap()).collect(),
                false => Vec::new(),
            },
            has_assets: false,
            routes: Vec::new(),
        };
        Arc::new(RoutingTable { base_domain: "Example.org".into(), apps: slugs.iter().map(app).collect() })
    }

    #[test]
    fn hosts_find_their_app() {
        let table = table(&["default", "blog"]);
        let router = Router::new(Arc::new(Fixed(Mutex::new(table.clone()))));
        let app = |host: &str| match on(&router, host) {
            Some(Place::App { host, .. }) => Some(host.app),
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
    fn the_hosts_of_the_machine_are_no_apps_and_all_others_that_answer_are() {
        let table = with_domains(&["default", "blog"], &["*.example.com"]);
        let router = Router::new(Arc::new(Fixed(Mutex::new(table))));
        for name in ["default.example.org", "blog.example.org", "journal.example.org", "a.example.com"] {
            assert!(router.is_of_an_app(name), "{name}");
        }
        for name in ["localhost", "127.0.0.1", "[::1]", "example.org", "nope.example.org", "example.com", ""]
        {
            assert!(!router.is_of_an_app(name), "{name}");
        }
    }

    #[test]
    fn a_former_slug_leads_to_the_host_of_today() {
        let router = Router::new(Arc::new(Fixed(Mutex::new(table(&["default", "blog"])))));
        match on(&router, "Journal.example.org:80") {
            Some(Place::Moved(host)) => assert_eq!(host, "blog.example.org"),
            other => panic!("{other:?}"),
        }
        // An app that takes the slug is what answers from then on.
        let router = Router::new(Arc::new(Fixed(Mutex::new(table(&["blog", "journal"])))));
        assert!(matches!(router.host("journal.example.org"), Some(Place::App { .. })));
    }

    #[test]
    fn an_apps_own_hosts_lead_to_it_the_most_specific_first() {
        let domains = ["shop.example.com", "{tenant}.shop.example.com", "*.example.com"];
        let router = Router::new(Arc::new(Fixed(Mutex::new(with_domains(&["default", "shop"], &domains)))));
        let param = |host: &str| match on(&router, host) {
            Some(Place::App { param, .. }) => Some(param.map(|(name, value)| format!("{name}={value}"))),
            _ => None,
        };
        assert_eq!(param("Shop.Example.com:443"), Some(None));
        assert_eq!(param("ada.shop.example.com."), Some(Some("tenant=ada".to_owned())));
        assert_eq!(param("b.ada.shop.example.com"), Some(None), "the star takes what the parameter leaves");
        assert_eq!(param("x.example.com"), Some(None));
        for stranger in ["example.com", "example.net", "shop.example.com.evil.net", "xexample.com"] {
            assert_eq!(param(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn certificates_are_for_names_that_somebody_answers_on() {
        let table = with_domains(&["default", "blog"], &["*.example.com"]);
        let router = Router::new(Arc::new(Fixed(Mutex::new(table))));
        for name in ["example.org", "blog.example.org", "journal.example.org", "a.example.com"] {
            assert!(router.may_have_certificate(name), "{name}");
        }
        for name in ["nope.example.org", "example.com", "localhost", "127.0.0.1", "[::1]", "", "x"] {
            assert!(!router.may_have_certificate(name), "{name}");
        }
    }

    #[test]
    fn a_published_table_is_seen_by_the_next_request() {
        let source = Arc::new(Fixed(Mutex::new(table(&["default"]))));
        let router = Router::new(source.clone());
        assert!(router.host("new.example.org").is_none());
        *source.0.lock().unwrap() = table(&["default", "new"]);
        assert!(router.host("new.example.org").is_some());
    }

    proptest! {
        /// The router finds fast what the rule says, whatever is claimed.
        #[test]
        fn every_host_leads_where_the_rule_says(
            domains in proptest::collection::vec(r"(\*\.|\{t\}\.)?([ab]\.){0,2}ex\.com", 0..6),
            host in r"(a|b|blog|journal|default)?\.?([ab]\.){0,3}(ex\.com|example\.org|localhost)",
        ) {
            let mut seen = BTreeSet::new();
            let claims: Vec<&str> = domains.iter().map(String::as_str).filter(|domain| {
                domain.parse::<HostPattern>().is_ok_and(|pattern| seen.insert(pattern.shape()))
            }).collect();
            let table = with_domains(&["default", "blog"], &claims);
            let router = Router::new(Arc::new(Fixed(Mutex::new(table.clone()))));
            let name = host::normalized(&host);
            let found = match router.host(&name) {
                Some(Place::App { host, .. }) => Some((host.app, false)),
                Some(Place::Moved(_)) => Some((table.apps[1].app, true)),
                None => None,
            };
            let rule = table.app_of(&name).map(|(app, rule)| (app.app, rule == HostRule::FormerSlug));
            prop_assert_eq!(found, rule);
        }
    }
}
