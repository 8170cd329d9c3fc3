//! What callers were refused on each app, so that its owner can see which rule refused whom and
//! what would change that. Kept in memory and bounded: it answers "why was that denied just now?".
//! What was done, and not refused, is in the audit log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json as JsonBody;
use axum::extract::State;
use chrono::{DateTime, Utc};
use http::{Method, Uri};
use schemars::JsonSchema;
use serde::Serialize;
use shared::call::CallContext;
use shared::id::AppId;
use shared::name::Username;

use super::Admin;
use super::page::{Items, PageParams};
use super::problem::ApiError;
use super::read::Params;
use crate::auth::{Capability, Denial, Principal};
use crate::store::apps::App;

/// Denials kept of one app: more than a screen, and one caller cannot push out other apps'.
const PER_APP_MAX: usize = 50;
/// Denials kept of all apps: about a megabyte.
const ALL_MAX: usize = 2_000;
/// What is kept of a path; nobody needs more to recognise it.
const PATH_CHARS_MAX: usize = 200;

/// One refusal.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Denied {
    #[serde(skip)]
    app: AppId,
    /// Counts all denials since the start.
    #[serde(skip)]
    number: u64,
    at: DateTime<Utc>,
    /// Absent when a script asked that ran on behalf of nobody, and for requests to webhooks.
    username: Option<Username>,
    /// Absent for requests to webhooks, which strangers send.
    capability: Option<Capability>,
    method: String,
    path: String,
    request_id: Arc<str>,
    #[serde(flatten)]
    denial: Denial,
}

impl Denied {
    /// A request that the gate stopped.
    pub(super) fn new(
        app: AppId,
        principal: &Principal,
        capability: Capability,
        (method, uri): (&Method, &Uri),
        denial: Denial,
    ) -> Self {
        // As it was sent: a verb is a segment only within the router.
        let path = uri.path().replace("/~", ":");
        Self::of_person(app, principal, capability, (method.as_str(), &path), denial)
    }

    /// A request of which only the body said that it needs more than the gate asks for.
    pub(super) fn of_a_body(
        app: &App,
        principal: &Principal,
        capability: Capability,
        verb: &str,
        denial: Denial,
    ) -> Self {
        let path = format!("/apps/{}:{verb}", app.slug);
        Self::of_person(app.id, principal, capability, ("POST", &path), denial)
    }

    /// A caller whose key a route did not take. The ingress says nothing of the request but the key.
    pub(crate) fn on_a_route(
        app: AppId,
        principal: &Principal,
        capability: Capability,
        denial: Denial,
    ) -> Self {
        Self::of_person(app, principal, capability, ("*", "a route with auth: api_key"), denial)
    }

    /// A call of a script, which may do to its app what the person may it runs on behalf of.
    pub(crate) fn in_a_script(
        context: &CallContext,
        username: Option<Username>,
        capability: Capability,
        denial: Denial,
    ) -> Self {
        let path = format!("the script {}", context.target.name);
        let request_id = Arc::clone(&context.request_id);
        Self::noted(context.app(), (username, request_id), Some(capability), ("*", &path), denial)
    }

    fn of_person(
        app: AppId,
        principal: &Principal,
        capability: Capability,
        what: (&str, &str),
        denial: Denial,
    ) -> Self {
        let who = (Some(principal.user.username.clone()), Arc::clone(&principal.origin.request_id));
        Self::noted(app, who, Some(capability), what, denial)
    }

    fn noted(
        app: AppId,
        (username, request_id): (Option<Username>, Arc<str>),
        capability: Option<Capability>,
        (method, path): (&str, &str),
        denial: Denial,
    ) -> Self {
        Self {
            app,
            number: 0,
            at: Utc::now(),
            username,
            capability,
            method: method.to_owned(),
            path: path.chars().take(PATH_CHARS_MAX).collect(),
            request_id,
            denial,
        }
    }

    /// A stranger whose request a webhook did not believe.
    pub(super) fn on_a_webhook(app: AppId, path: &str, request_id: Arc<str>, denial: Denial) -> Self {
        Self::noted(app, (None, request_id), None, ("POST", path), denial)
    }

    /// Of strangers the last one at each address is kept: they may be many, and push out nobody else.
    fn replaces(&self, other: &Self) -> bool {
        self.capability.is_none()
            && other.capability.is_none()
            && (self.app, &self.path) == (other.app, &other.path)
    }
}

/// The last refusals, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    recorded: u64,
    last: VecDeque<Denied>,
}

impl Denials {
    pub(crate) fn record(&self, mut denied: Denied) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.recorded += 1;
        denied.number = kept.recorded;
        let all = &mut kept.last;
        all.retain(|other| !denied.replaces(other));
        let same_app = |other: &Denied| other.app == denied.app;
        if all.iter().filter(|other| same_app(other)).count() >= PER_APP_MAX {
            let oldest = all.iter().position(same_app);
            oldest.and_then(|at| all.remove(at));
        } else if all.len() >= ALL_MAX {
            all.pop_front();
        }
        all.push_back(denied);
    }

    /// Those of one app, newest first, older than the one of that number.
    fn of(&self, app: AppId, before: Option<u64>, rows: usize) -> Vec<Denied> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked_for =
            |denied: &&Denied| denied.app == app && before.is_none_or(|before| denied.number < before);
        kept.last.iter().rev().filter(is_asked_for).take(rows).cloned().collect()
    }
}

pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    app: App,
    Params(params): Params<PageParams>,
) -> Result<JsonBody<Items<Denied>>, ApiError> {
    let page = params.page::<u64>()?;
    let rows = admin.denials.of(app.id, page.after, usize::try_from(page.rows()).unwrap_or(PER_APP_MAX));
    Ok(JsonBody(page.items(rows, |denied| denied.number.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Rule;

    fn denied(app: AppId, path: &str) -> Denied {
        let denial = Denial { rule: Rule::Membership, value: String::new(), remedy: String::new() };
        let who = (Some("eve".parse().unwrap()), "r".into());
        Denied::noted(app, who, Some(Capability::ReadApp), ("GET", path), denial)
    }

    #[test]
    fn many_denials_of_one_app_push_out_no_other_apps() {
        let (denials, quiet, loud) = (Denials::default(), AppId::new(), AppId::new());
        denials.record(denied(quiet, "/quiet"));
        for n in 0..PER_APP_MAX + 10 {
            denials.record(denied(loud, &n.to_string()));
        }
        let loud = denials.of(loud, None, 1_000);
        assert_eq!((loud.len(), loud[0].path.as_str()), (PER_APP_MAX, "59"));
        assert_eq!(denials.of(quiet, None, 1_000).len(), 1);
    }

    #[test]
    fn many_requests_that_a_webhook_does_not_believe_are_one_denial() {
        let (denials, app) = (Denials::default(), AppId::new());
        denials.record(denied(app, "/by-eve"));
        for _ in 0..PER_APP_MAX + 10 {
            for path in ["/one", "/other"] {
                denials.record(Denied { capability: None, ..denied(app, path) });
            }
        }
        let paths: Vec<_> = denials.of(app, None, 1_000).into_iter().map(|denied| denied.path).collect();
        assert_eq!(paths, ["/other", "/one", "/by-eve"]);
    }

    #[test]
    fn denials_of_many_apps_are_bounded() {
        let denials = Denials::default();
        for _ in 0..ALL_MAX + 5 {
            denials.record(denied(AppId::new(), "/"));
        }
        assert_eq!(denials.0.lock().unwrap().last.len(), ALL_MAX);
    }
}
