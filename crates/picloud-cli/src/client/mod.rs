//! The admin API over HTTP: one method per call.

mod domains;
mod events;
mod files;
mod people;

use std::borrow::Cow;
use std::fs::File;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use shared::limits::TIMEOUT_MS_MAX;
use shared::manifest::Manifest;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::{Agent, Body, BodyReader};

use crate::api::{NewRoute, PutScript};
use crate::failure::{Failure, Problem};
use crate::server_url::ServerUrl;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// A test run may take as long as the longest script, and a little for the way.
const ANSWER_PATIENCE: Duration = Duration::from_millis(TIMEOUT_MS_MAX as u64 + 30_000);
/// The largest response of a script as JSON text fits several times.
const ANSWER_BYTES_MAX: u64 = 128 << 20;
/// Pages asked for in one listing; beyond that the server's cursors go in circles.
const PAGES_MAX: usize = 10_000;
const PAGE_ITEMS: usize = 200;
/// An app renamed often enough leads to another name at each step only while that goes on.
const RENAMES_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    url: ServerUrl,
    token: Option<String>,
}

/// Which executions are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ExecutionFilter {
    pub(crate) script: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) limit: usize,
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
enum Sent<'a> {
    Bytes(&'a [u8]),
    /// Read while it is sent, from where it is.
    File(&'a File),
}

impl Client {
    pub(crate) fn new(url: ServerUrl, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_PATIENCE))
            .timeout_recv_response(Some(ANSWER_PATIENCE))
            // A renamed app redirects; the token goes along, but to no other host.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("pic/", env!("CARGO_PKG_VERSION")));
        // A proxy cannot reach this machine's loopback addresses.
        let config = if url.is_loopback() { config.proxy(None) } else { config };
        Self { agent: config.build().into(), url, token }
    }

    pub(crate) fn login(&self, username: &str, password: &str, otp: Option<&str>) -> Result<Value, Failure> {
        let mut body = json!({ "username": username, "password": password });
        if let Some(otp) = otp {
            body["otp"] = otp.into();
        }
        self.post("/auth/login", &body)
    }

    pub(crate) fn logout(&self) -> Result<Value, Failure> {
        self.post("/auth/logout", &json!({}))
    }

    pub(crate) fn me(&self) -> Result<Value, Failure> {
        self.get("/auth/me")
    }

    pub(crate) fn apps(&self) -> Result<Value, Failure> {
        self.list("/apps", &[], usize::MAX)
    }

    pub(crate) fn create_app(&self, slug: &str, name: &str) -> Result<Value, Failure> {
        self.post("/apps", &json!({ "slug": slug, "name": name }))
    }

    pub(crate) fn update_app(&self, slug: &str, change: &Value) -> Result<Value, Failure> {
        self.send(Method::PATCH, &format!("/apps/{slug}"), change)
    }

    pub(crate) fn delete_app(&self, slug: &str, is_forced: bool) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{slug}{}", force(is_forced)))
    }

    pub(crate) fn assets(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/assets"), &[], usize::MAX)
    }

    pub(crate) fn put_asset(&self, app: &str, path: &str, content: &[u8]) -> Result<Value, Failure> {
        let path = format!("/apps/{app}/assets?path={}", segment(path));
        // The server tells the type by the name.
        let headers = [("content-type", "application/octet-stream")];
        self.answer(self.run(Method::PUT, &path, &headers, Some(Sent::Bytes(content)))?)
    }

    pub(crate) fn delete_asset(&self, app: &str, path: &str) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{app}/assets?path={}", segment(path)))
    }

    pub(crate) fn scripts(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/scripts"), &[], usize::MAX)
    }

    pub(crate) fn put_script(&self, app: &str, name: &str, script: &PutScript<'_>) -> Result<Value, Failure> {
        self.send(Method::PUT, &format!("/apps/{app}/scripts/{name}"), script)
    }

    pub(crate) fn delete_script(&self, app: &str, name: &str, is_forced: bool) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{app}/scripts/{name}{}", force(is_forced)))
    }

    pub(crate) fn versions(&self, app: &str, name: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/scripts/{name}/versions"), &[], usize::MAX)
    }

    /// `plan` or `apply` a whole app.
    pub(crate) fn manifest(&self, app: &str, verb: &str, manifest: &Manifest) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}:{verb}"), manifest)
    }

    pub(crate) fn diff_versions(
        &self,
        app: &str,
        name: &str,
        from: u32,
        to: Option<u32>,
    ) -> Result<Value, Failure> {
        let query = to.map(|to| format!("?to={to}")).unwrap_or_default();
        self.get(&format!("/apps/{app}/scripts/{name}/versions/{from}:diff{query}"))
    }

    pub(crate) fn rollback(&self, app: &str, name: &str, version: u32) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/scripts/{name}/rollback"), &json!({ "version": version }))
    }

    pub(crate) fn approve(&self, app: &str, name: &str, version: u32) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/scripts/{name}/versions/{version}:approve"), &json!({}))
    }

    pub(crate) fn invoke(
        &self,
        app: &str,
        name: &str,
        request: &Value,
        is_dry_run: bool,
    ) -> Result<Value, Failure> {
        let query = if is_dry_run { "?dry_run=true" } else { "" };
        self.post(&format!("/apps/{app}/scripts/{name}/invoke{query}"), request)
    }

    pub(crate) fn routes(&self, app: &str) -> Result<Value, Failure> {
        self.list(&format!("/apps/{app}/routes"), &[], usize::MAX)
    }

    pub(crate) fn match_route(&self, app: &str, question: &Value) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/routes:match"), question)
    }

    pub(crate) fn switch_script(&self, app: &str, name: &str, on: bool) -> Result<Value, Failure> {
        let verb = if on { "enable" } else { "disable" };
        self.post(&format!("/apps/{app}/scripts/{name}:{verb}"), &json!({}))
    }

    pub(crate) fn create_route(&self, app: &str, route: &NewRoute<'_>) -> Result<Value, Failure> {
        self.post(&format!("/apps/{app}/routes"), route)
    }

    pub(crate) fn delete_route(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.delete(&format!("/apps/{app}/routes/{}", segment(id)))
    }

    pub(crate) fn executions(&self, app: &str, filter: &ExecutionFilter) -> Result<Value, Failure> {
        let given = [("script", &filter.script), ("status", &filter.status)];
        let query: Vec<_> =
            given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        self.list(&format!("/apps/{app}/executions"), &query, filter.limit)
    }

    pub(crate) fn execution(&self, app: &str, id: &str) -> Result<Value, Failure> {
        self.get(&format!("/apps/{app}/executions/{}", segment(id)))
    }

    /// The app's log lines from now on, or from the event after `last_id`.
    pub(crate) fn tail(&self, app: &str, last_id: &str) -> Result<BodyReader<'static>, Failure> {
        let mut headers = vec![("accept", "text/event-stream")];
        if !last_id.is_empty() {
            headers.push(("last-event-id", last_id));
        }
        let response = self.run(Method::GET, &format!("/apps/{app}/logs:tail"), &headers, None)?;
        Ok(response.into_body().into_reader())
    }

    /// Follows the cursors until there are `limit` items; answers one page that holds them all, and what else the last
    /// one says.
    pub(crate) fn list(&self, path: &str, query: &[(&str, &str)], limit: usize) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        let mut whole = json!({});
        for _ in 0..PAGES_MAX {
            let mut text = form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(query);
            text.append_pair("limit", &(limit - items.len()).min(PAGE_ITEMS).to_string());
            if let Some(cursor) = &cursor {
                text.append_pair("cursor", cursor);
            }
            let mut page = self.get(&format!("{path}?{}", text.finish()))?;
            let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) else {
                return Err(Failure::UnexpectedAnswer(serde::de::Error::missing_field("items")));
            };
            items.extend(more);
            cursor = page.get("next_cursor").and_then(Value::as_str).map(ToOwned::to_owned);
            whole = page;
            if cursor.is_none() || items.len() >= limit {
                break;
            }
        }
        items.truncate(limit);
        whole["items"] = items.into();
        whole["next_cursor"] = cursor.into();
        Ok(whole)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.run(Method::GET, path, &[], None)?)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.run(Method::DELETE, path, &[], None)?)
    }

    pub(crate) fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::POST, path, body)
    }

    pub(crate) fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::PUT, path, body)
    }

    pub(crate) fn patch(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        self.send(Method::PATCH, path, body)
    }

    pub(crate) fn send(&self, method: Method, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let body = serde_json::to_vec(body).map_err(Failure::UnexpectedAnswer)?;
        self.answer(self.run(
            method,
            path,
            &[("content-type", "application/json")],
            Some(Sent::Bytes(&body)),
        )?)
    }

    /// Sends the request, again where a renamed app is now; an answer that is no success becomes a
    /// failure.
    fn run(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Sent<'_>>,
    ) -> Result<Response<Body>, Failure> {
        let mut path = Cow::Borrowed(path);
        for _ in 0..RENAMES_MAX {
            let mut response = self.run_once(&method, &path, headers, body)?;
            if response.status().is_success() {
                return Ok(response);
            }
            match new_path(&response) {
                Some(now) => path = Cow::Owned(now),
                None => {
                    let body = self.bytes(&mut response)?;
                    let problem = Problem::read(response.status().as_u16(), &body);
                    let had_token = self.token.is_some();
                    return Err(Failure::Refused(Box::new(Problem { had_token, ..problem })));
                }
            }
        }
        Err(Failure::UnexpectedAnswer(serde::de::Error::custom("the server redirects in circles")))
    }

    fn run_once(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Sent<'_>>,
    ) -> Result<Response<Body>, Failure> {
        let uri = format!("{}/api/v1/admin{path}", self.url);
        let mut request = Request::builder().method(method.clone()).uri(uri);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = match body {
            Some(Sent::Bytes(bytes)) => self.send_with(request.body(bytes)),
            Some(Sent::File(file)) => self.send_with(request.body(file)),
            None => self.send_with(request.body(())),
        };
        sent.map_err(|error| self.unreachable(error))
    }

    fn send_with<B: ureq::AsSendBody>(
        &self,
        request: ureq::http::Result<Request<B>>,
    ) -> Result<Response<Body>, ureq::Error> {
        self.agent.run(self.once(request?))
    }

    /// The agent follows redirects of what only reads; what changes something is sent again by us.
    fn once<B: ureq::AsSendBody>(&self, request: Request<B>) -> Request<B> {
        if request.method() == Method::GET {
            return request;
        }
        self.agent.configure_request(request).max_redirects(0).max_redirects_will_error(false).build()
    }

    fn answer(&self, mut response: Response<Body>) -> Result<Value, Failure> {
        parse(&self.bytes(&mut response)?)
    }

    fn bytes(&self, response: &mut Response<Body>) -> Result<Vec<u8>, Failure> {
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        body.read_to_vec().map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, error: ureq::Error) -> Failure {
        Failure::Unreachable { url: self.url.to_string(), source: Box::new(error) }
    }
}

/// Where a renamed app is now, on this very server.
fn new_path(response: &Response<Body>) -> Option<String> {
    if response.status() != StatusCode::PERMANENT_REDIRECT {
        return None;
    }
    let location = response.headers().get("location")?.to_str().ok()?;
    location.strip_prefix("/api/v1/admin").map(ToOwned::to_owned)
}

fn parse(body: &[u8]) -> Result<Value, Failure> {
    if body.is_empty() {
        // 204: done, nothing to say.
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(Failure::UnexpectedAnswer)
}

fn force(is_forced: bool) -> &'static str {
    if is_forced { "?force=true" } else { "" }
}

/// An id as the user typed it, as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    // The form encoding writes a space as '+', which a path would keep as it is.
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
