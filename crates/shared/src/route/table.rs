//! The routing table that the store hands to the router, and what makes a route answer a request.
//! The router finds routes by it fast; the admin API explains by it why a route was chosen.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{DispatchMode, PathPattern, RoutePolicy};
use crate::host::{HostPattern, is_address};
use crate::id::{AppId, RouteId};
use crate::invocation::ScriptTarget;
use crate::name::AppSlug;
use crate::path::{Captured, PathSegments};

/// All routes of the instance as of one commit.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// `blog` answers on `blog.<base domain>`.
    pub base_domain: String,
    pub apps: Vec<AppRoutes>,
}

/// The routes of one app.
#[derive(Debug)]
pub struct AppRoutes {
    pub app: AppId,
    pub slug: AppSlug,
    /// Slugs the app had before, whose hosts lead on to its host now.
    pub former_slugs: Vec<AppSlug>,
    /// Answers on `localhost` and on bare addresses.
    pub is_default: bool,
    /// Hosts of its own, proven to be the app's. No two apps have one of the same shape.
    pub domains: Vec<HostPattern>,
    /// Whether it has static files, which are looked for where no route answers.
    pub has_assets: bool,
    pub routes: Vec<Route>,
}

/// A route of an app.
#[derive(Debug, Clone)]
pub struct Route {
    pub id: RouteId,
    /// `None` answers every method.
    pub method: Option<String>,
    /// `None` answers on every host of the app.
    pub host: Option<HostPattern>,
    pub pattern: PathPattern,
    pub target: Arc<ScriptTarget>,
    /// Its people have switched the script off.
    pub is_disabled: bool,
    pub dispatch: DispatchMode,
    pub body_bytes_max: u32,
    pub policy: RoutePolicy,
}

/// Why a host leads to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRule<'a> {
    /// It is the base domain, `localhost` or an address, which are the default app's.
    Default,
    /// It is the app's slug below the base domain.
    Slug,
    /// It is a slug the app had below the base domain: the host of today is where to go.
    FormerSlug,
    /// The app has claimed it.
    Domain(&'a HostPattern),
}

impl RoutingTable {
    /// The app that a normalised host leads to. This is the rule; the router finds the same faster.
    pub fn app_of<'a>(&'a self, host: &str) -> Option<(&'a AppRoutes, HostRule<'a>)> {
        let base = self.base_domain.to_ascii_lowercase();
        if host == "localhost" || is_address(host) || host == base {
            return self.apps.iter().find(|app| app.is_default).map(|app| (app, HostRule::Default));
        }
        if let Some(slug) = host.strip_suffix(&base).and_then(|rest| rest.strip_suffix('.')) {
            let now = self.apps.iter().find(|app| app.slug.as_str() == slug);
            let former =
                || self.apps.iter().find(|app| app.former_slugs.iter().any(|former| former.as_str() == slug));
            return now
                .map(|app| (app, HostRule::Slug))
                .or_else(|| former().map(|app| (app, HostRule::FormerSlug)));
        }
        let claims = self.apps.iter().flat_map(|app| app.domains.iter().map(move |domain| (app, domain)));
        let best = claims.filter(|(_, domain)| domain.matches(host)).min_by(|(_, a), (_, b)| a.precedence(b));
        best.map(|(app, domain)| (app, HostRule::Domain(domain)))
    }
}

/// What a route says to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for other hosts.
    OtherHost,
    /// Its pattern does not match the path.
    OtherPath,
    /// It answers other methods on this path.
    OtherMethod,
    /// It answers, unless one before it does.
    Answers(Captured),
}

impl Route {
    /// What the route says to a request for a normalised host.
    pub fn verdict(&self, method: &str, host: &str, path: &PathSegments<'_>) -> Verdict {
        if self.host.as_ref().is_some_and(|pattern| !pattern.matches(host)) {
            return Verdict::OtherHost;
        }
        let Some(captured) = path.capture(&self.pattern) else { return Verdict::OtherPath };
        match &self.method {
            Some(only) if !answers(only, method) => Verdict::OtherMethod,
            _ => Verdict::Answers(captured),
        }
    }

    /// The methods that it answers; none where it answers all.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        let only = self.method.as_deref();
        only.into_iter().chain((only == Some("GET")).then_some("HEAD"))
    }

    /// Which of two routes of an app is asked first: `Less` goes first. One for a host goes before
    /// one for more hosts, then the paths decide, then one for a method goes before one for any.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let by_host = match (&self.host, &other.host) {
            (Some(a), Some(b)) => a.precedence(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        by_host
            .then_with(|| self.pattern.precedence(&other.pattern))
            .then_with(|| self.method.is_none().cmp(&other.method.is_none()))
    }

    /// What stands in the host where the route's pattern has a parameter, and its name.
    pub fn host_param<'a>(&'a self, host: &'a str) -> Option<(&'a str, &'a str)> {
        let pattern = self.host.as_ref()?;
        pattern.param().zip(pattern.label(host))
    }
}

/// Whoever answers GET answers HEAD.
fn answers(only: &str, method: &str) -> bool {
    only == method || (only == "GET" && method == "HEAD")
}
