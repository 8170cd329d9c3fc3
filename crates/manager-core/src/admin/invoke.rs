//! Test runs: a script with a made-up request, and everything about the run in the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json as JsonBody};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use http::header::{self, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use shared::call::Companion;
use shared::fault::{Code, PROBLEM_JSON};
use shared::guest_abi::InvocationType;
use shared::http::{ClientAddress, RequestId};
use shared::invocation::{ExecutionRecord, ExecutionStatus, Invocation, Response, ScriptTarget};
use shared::path::{Captured, PathSegments};
use shared::ports::RouteSource;

use super::executions::Execution;
use super::made_up::{MadeUp, TestBody};
use super::problem::ApiError;
use super::read::{self, Json, Params};
use super::rehearsed::Rehearsed;
use super::run::{live_target, run};
use super::{Admin, access, outcome};
use crate::auth::Principal;
use crate::data::rehearsal::{self, Rehearsal};
use crate::recorder;
use crate::store::apps::App;

/// What came of a test run.
#[derive(Serialize, JsonSchema)]
pub(super) struct TestAnswer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Box<RawValue>,
    execution: Execution,
    /// What the script would have done; there for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<Rehearsed>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestParams {
    /// Whether all that the script does is taken back, and told.
    #[serde(default)]
    dry_run: bool,
}

#[expect(clippy::too_many_arguments, reason = "each is a part of the request, which axum hands over")]
pub(super) async fn test(
    State(admin): State<Arc<Admin>>,
    principal: Principal,
    app: App,
    Extension(RequestId(request_id)): Extension<RequestId>,
    address: Option<Extension<ClientAddress>>,
    Path((_, name)): Path<(String, String)>,
    Params(params): Params<TestParams>,
    Json(body): Json<TestBody>,
) -> Result<JsonBody<TestAnswer>, ApiError> {
    let mut target = {
        let mut conn = admin.database.acquire().await?;
        let script = access::script(&mut conn, &app, &name).await?;
        live_target(&mut conn, script.id).await?
    };
    let is_cut = params.dry_run && target.limits.timeout_ms > rehearsal::TIMEOUT_MS_MAX;
    if is_cut {
        Arc::make_mut(&mut target).limits.timeout_ms = rehearsal::TIMEOUT_MS_MAX;
    }
    let request = MadeUp::from_body(body)?;
    let captured = captured(&admin, &target, &request);
    let remote_ip = address.map(|Extension(ClientAddress(ip))| ip.to_string()).unwrap_or_default();
    let http = request.guest_http(&captured, &remote_ip);
    let invocation = Invocation::http(Arc::clone(&target), Arc::clone(&request_id), http);
    let invocation = invocation.as_test().on_behalf_of(principal.user.id);
    let rehearsal = if params.dry_run { Some(begin(&admin, &app).await?) } else { None };
    let invocation = match &rehearsal {
        Some(rehearsal) => invocation.with(Companion::new(Arc::clone(rehearsal))),
        None => invocation,
    };
    let started_at_us = Utc::now().timestamp_micros();
    let (id, cause) = (invocation.execution, invocation.cause);
    let outcome = run(&admin, invocation).await;
    let would = match rehearsal {
        Some(rehearsal) => Some(admin.data.end_rehearsal(&rehearsal).await),
        None => None,
    };
    let outcome = outcome?;
    let budget = admin.budgets.meter(app.id).budget;
    let dry_run = would.map(|would| Rehearsed::new(would, &budget, &outcome.usage));

    let (status, headers, body) = match &outcome.response {
        Some(response) => (response.status.as_u16(), header_texts(&response.headers), shown_body(response)),
        None => {
            let problem = match outcome.status {
                ExecutionStatus::Timeout if is_cut => out_of_time(),
                _ => outcome::failed(&outcome),
            };
            let headers = BTreeMap::from([("content-type".to_owned(), PROBLEM_JSON.to_owned())]);
            (problem.code.status(), headers, raw(&problem.to_json(&request_id)))
        }
    };
    let record = ExecutionRecord {
        id,
        request_id,
        target,
        invocation_type: InvocationType::Http,
        cause,
        delivery: None,
        status: outcome.status,
        http_status: Some(status),
        started_at_us,
        usage: outcome.usage,
        failure: outcome.failure,
        logs: outcome.logs,
    };
    let execution = Execution::with_logs(recorder::row(&record));
    Ok(JsonBody(TestAnswer { status, headers, body, execution, dry_run }))
}

async fn begin(admin: &Admin, app: &App) -> Result<Arc<Rehearsal>, ApiError> {
    admin.data.rehearse(app).await?.ok_or_else(|| {
        ApiError::new(Code::Overloaded, "other dry runs are going on; try again in a moment").retry_after(1)
    })
}

/// What is told of a dry run whose script may run for longer.
fn out_of_time() -> ApiError {
    let seconds = rehearsal::TIMEOUT_MS_MAX / 1_000;
    let detail =
        format!("a dry run has {seconds} s, although the script's timeout_ms is more: run it for real");
    ApiError::new(Code::Timeout, detail)
}

/// What the first of the script's routes that matches would take from the path.
fn captured(admin: &Admin, target: &ScriptTarget, request: &MadeUp) -> Captured {
    let table = admin.snapshot.current();
    let app = table.apps.iter().find(|app| app.app == target.app);
    let mut routes: Vec<_> = app
        .into_iter()
        .flat_map(|app| &app.routes)
        .filter(|route| route.target.script == target.script)
        .filter(|route| route.method.as_ref().is_none_or(|method| *method == request.method))
        .collect();
    routes.sort_by(|a, b| a.precedence(b));
    let path = PathSegments::new(&request.path);
    let captured = path.and_then(|path| routes.iter().find_map(|route| path.capture(&route.pattern)));
    captured.unwrap_or_default()
}

fn header_texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        texts
            .entry(name.as_str().to_owned())
            .and_modify(|text| {
                text.push_str(", ");
                text.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    texts
}

/// A response's body in JSON: parsed when it is JSON, a string when it is text.
fn shown_body(response: &Response) -> Box<RawValue> {
    let content_type = response.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match str::from_utf8(&response.body) {
        Ok(text) if content_type.is_some_and(read::is_json_type) => {
            RawValue::from_string(text.to_owned()).unwrap_or_else(|_| raw(&text))
        }
        Ok(text) => raw(&text),
        Err(_) => raw(&json!({ "base64": STANDARD.encode(&response.body) })),
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
