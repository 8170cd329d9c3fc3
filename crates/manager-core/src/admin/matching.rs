//! Which script an address would reach, and why: what each route says to a request that is not sent.

use std::sync::Arc;

use axum::Json as JsonBody;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shared::fault::Code;
use shared::host::normalized;
use shared::http::Pairs;
use shared::id::RouteId;
use shared::path::{Captured, PathSegments};
use shared::ports::{AssetSource, AssetUnavailable, RouteSource};
use shared::route::{AppRoutes, HostRule, Route, RoutingTable, Verdict, is_reserved};

use super::Admin;
use super::problem::ApiError;
use super::read::Json;
use super::routes::method;
use crate::store::apps::App;

/// Most routes whose part in the answer is told; those that come first in precedence.
const CONSIDERED_MAX: usize = 500;
const ADDRESS_BYTES_MAX: usize = 8 << 10;

/// The request to think of: an address whole, or its parts.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// GET unless given.
    method: Option<String>,
    /// `https://shop.example.com/cart?x=1`.
    url: Option<String>,
    /// The app's own host unless given.
    host: Option<String>,
    path: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Explanation {
    method: String,
    path: String,
    host: HostAnswer,
    /// `script`, `file`, `platform`, `redirect`, `other_app`, `unknown_host`, `no_route` or `method_not_allowed`.
    outcome: &'static str,
    matched: Option<Matched>,
    /// Methods that the path is there for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    /// Every route of the app, the one that is asked first coming first.
    considered: Vec<Considered>,
    /// How many routes are not shown.
    left_out: usize,
}

#[derive(Serialize, JsonSchema)]
struct HostAnswer {
    name: String,
    leads_to: &'static str,
    reason: String,
}

#[derive(Serialize, JsonSchema)]
struct Matched {
    route: RouteId,
    script: String,
    version: u32,
    is_disabled: bool,
    params: serde_json::Map<String, serde_json::Value>,
    rest: String,
}

#[derive(Serialize, JsonSchema)]
struct Considered {
    route: RouteId,
    method: String,
    host: String,
    path: String,
    script: String,
    /// `answers`, `outranked`, `other_method`, `other_path` or `other_host`.
    verdict: &'static str,
    reason: String,
}

pub(super) async fn explain(
    State(admin): State<Arc<Admin>>,
    app: App,
    Json(question): Json<Question>,
) -> Result<JsonBody<Explanation>, ApiError> {
    let table = admin.snapshot.current();
    let own = table.apps.iter().find(|routes| routes.app == app.id);
    let own = own.ok_or_else(|| ApiError::not_found("the app is being removed"))?;
    let asked = Asked::new(question, own, &table.base_domain)?;
    let found = table.app_of(&asked.host);
    let (leads_here, host) = host_answer(&table, own, &asked.host, found);
    // A part of the host that the app's domain gives a name.
    let param = match found {
        Some((_, HostRule::Domain(domain))) => domain.param().zip(domain.label(&asked.host)),
        _ => None,
    };
    let mut answer = answer(own, &asked, host, leads_here, param);
    if answer.outcome == "no_route" && own.has_assets && matches!(asked.method.as_str(), "GET" | "HEAD") {
        let file = PathSegments::new(&asked.path).and_then(|path| path.file());
        let unavailable =
            |error: AssetUnavailable| ApiError::new(Code::Unavailable, error.to_string()).retry_after(1);
        if let Some(file) = file
            && admin.assets.asset(app.id, &file).await.map_err(unavailable)?.is_some()
        {
            answer.outcome = "file";
        }
    }
    Ok(JsonBody(answer))
}

/// A question, checked.
struct Asked {
    method: String,
    host: String,
    path: String,
}

impl Asked {
    fn new(question: Question, own: &AppRoutes, base: &str) -> Result<Self, ApiError> {
        let Question { method: asked, url, host, path } = question;
        let asked = asked.as_deref().map(method).transpose()?.flatten().unwrap_or_else(|| "GET".to_owned());
        let (of_url, path) = match (url, path) {
            (Some(url), None) => parts(&url)?,
            (None, Some(path)) => (None, path),
            _ => return Err(invalid("path", "give either url or path")),
        };
        let host = match (of_url, host) {
            (Some(_), Some(_)) => return Err(invalid("host", "the url names the host already")),
            (Some(host), None) | (None, Some(host)) => host,
            (None, None) => format!("{}.{base}", own.slug),
        };
        let path = path.split(['?', '#']).next().unwrap_or_default().to_owned();
        if !path.starts_with('/') || path.len() > ADDRESS_BYTES_MAX || host.len() > ADDRESS_BYTES_MAX {
            return Err(invalid("path", "a path begins with '/' and is at most 8 KiB long"));
        }
        Ok(Self { method: asked, host: normalized(&host).into_owned(), path })
    }
}

/// Host and path of an address; one that begins with a slash has no host.
fn parts(url: &str) -> Result<(Option<String>, String), ApiError> {
    if url.starts_with('/') {
        return Ok((None, url.to_owned()));
    }
    let (_, rest) =
        url.split_once("://").ok_or_else(|| invalid("url", "a url begins with http:// or with '/'"))?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(at);
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    Ok((Some(host.to_owned()), path))
}

fn invalid(field: &'static str, detail: &'static str) -> ApiError {
    ApiError::invalid(detail).with("field", field)
}

/// Where the host leads, and whether that is this app. Of others it is not said which.
fn host_answer(
    table: &RoutingTable,
    own: &AppRoutes,
    name: &str,
    found: Option<(&AppRoutes, HostRule<'_>)>,
) -> (bool, HostAnswer) {
    let (is_own, leads_to, reason) = match found {
        None => (false, "nobody", "no app has this slug or has proven this domain to be its own".to_owned()),
        Some((app, _)) if app.app != own.app => {
            (false, "another_app", "another app answers there".to_owned())
        }
        Some((_, HostRule::FormerSlug)) => {
            let reason =
                format!("the app was renamed: requests are sent on to {}.{}", own.slug, table.base_domain);
            (false, "redirect", reason)
        }
        Some((_, HostRule::Default)) => (true, "this_app", "it is the default app".to_owned()),
        Some((_, HostRule::Slug)) => {
            (true, "this_app", "it is the app's slug below the base domain".to_owned())
        }
        Some((_, HostRule::Domain(domain))) => (true, "this_app", format!("the app has claimed {domain}")),
    };
    (is_own, HostAnswer { name: name.to_owned(), leads_to, reason })
}

fn answer(
    own: &AppRoutes,
    asked: &Asked,
    host: HostAnswer,
    leads_here: bool,
    param: Option<(&str, &str)>,
) -> Explanation {
    let mut routes: Vec<&Route> = own.routes.iter().collect();
    routes.sort_by(|a, b| a.precedence(b));
    let segments = PathSegments::new(&asked.path);
    let mut winner: Option<(&Route, Captured)> = None;
    let mut allow = Vec::new();
    let mut considered = Vec::new();
    for route in &routes {
        let verdict = segments
            .as_ref()
            .map_or(Verdict::OtherPath, |path| route.verdict(&asked.method, &asked.host, path));
        if considered.len() < CONSIDERED_MAX {
            considered.push(Considered::new(
                route,
                asked,
                &verdict,
                winner.as_ref().map(|(route, _)| *route),
            ));
        }
        match verdict {
            Verdict::Answers(captured) if winner.is_none() => winner = Some((route, captured)),
            Verdict::OtherMethod => allow.extend(route.methods().map(ToOwned::to_owned)),
            _ => {}
        }
    }
    allow.sort();
    allow.dedup();
    let outcome = match (&winner, host.leads_to) {
        _ if is_reserved(&asked.path) => "platform",
        (_, "nobody") => "unknown_host",
        (_, "another_app") => "other_app",
        (_, "redirect") => "redirect",
        (Some(_), _) => "script",
        (None, _) if allow.is_empty() => "no_route",
        (None, _) => "method_not_allowed",
    };
    let matched = winner
        .filter(|_| leads_here && outcome == "script")
        .map(|(route, captured)| Matched::new(route, asked, captured, param));
    Explanation {
        method: asked.method.clone(),
        path: asked.path.clone(),
        host,
        outcome,
        allow: if matched.is_some() { Vec::new() } else { allow },
        matched,
        left_out: routes.len() - considered.len(),
        considered,
    }
}

impl Matched {
    fn new(route: &Route, asked: &Asked, captured: Captured, of_domain: Option<(&str, &str)>) -> Self {
        let mut params = serde_json::Map::new();
        for (name, value) in of_domain.into_iter().chain(route.host_param(&asked.host)) {
            params.insert(name.to_owned(), value.into());
        }
        for (name, value) in Pairs::new(captured.params.as_bytes()).flatten() {
            let value = String::from_utf8_lossy(value).into_owned();
            params.insert(String::from_utf8_lossy(name).into_owned(), value.into());
        }
        Self {
            route: route.id,
            script: route.target.name.to_string(),
            version: route.target.version,
            is_disabled: route.is_disabled,
            params,
            rest: captured.rest,
        }
    }
}

impl Considered {
    fn new(route: &Route, asked: &Asked, verdict: &Verdict, winner: Option<&Route>) -> Self {
        let (verdict, reason) = match (verdict, winner) {
            (Verdict::OtherHost, _) => ("other_host", format!("it is not for the host {:?}", asked.host)),
            (Verdict::OtherPath, _) => ("other_path", format!("{} does not match the path", route.pattern)),
            (Verdict::OtherMethod, _) => {
                let only = route.method.as_deref().unwrap_or_default();
                ("other_method", format!("it answers {only}, not {}", asked.method))
            }
            (Verdict::Answers(_), Some(winner)) => ("outranked", outranked_by(winner, route)),
            (Verdict::Answers(_), None) => {
                ("answers", "it is the first in precedence that matches".to_owned())
            }
        };
        Self {
            route: route.id,
            method: route.method.clone().unwrap_or_else(|| "ANY".to_owned()),
            host: route.host.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string),
            path: route.pattern.to_string(),
            script: route.target.name.to_string(),
            verdict,
            reason,
        }
    }
}

/// By which rule one of two matching routes goes before the other.
fn outranked_by(winner: &Route, route: &Route) -> String {
    let rule = if winner.host != route.host {
        "its host is more specific"
    } else if winner.pattern.shape() == route.pattern.shape() {
        "it names the method"
    } else {
        "its path is more specific: exact goes before parameters before a prefix, then more literal segments"
    };
    format!("{} {} goes before it: {rule}", winner.method.as_deref().unwrap_or("ANY"), winner.pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let taken = |url: &str| parts(url).map(|(host, path)| (host.unwrap_or_default(), path)).ok();
        let pair = |host: &str, path: &str| Some((host.to_owned(), path.to_owned()));
        assert_eq!(taken("https://a.example:8443/x?y#z"), pair("a.example:8443", "/x?y#z"));
        assert_eq!(taken("http://a.example"), pair("a.example", "/"));
        assert_eq!(taken("http://a.example?x"), pair("a.example", "/?x"));
        assert_eq!(taken("/x"), pair("", "/x"));
        assert_eq!(taken("a.example/x"), None);
    }
}
