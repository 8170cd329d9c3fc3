//! The double of the pool: says of sources what their text tells it to, answers runs as told, and
//! remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use shared::guest_abi::{GuestInput, GuestUser};
use shared::http::Pairs;
use shared::invocation::{
    ExecutionStatus, Outcome, Refusal, Response, ScriptFailure, Usage, Work, WorkResult,
};
use shared::ports::{BoxFuture, Invoke};
use shared::script::{Diagnostic, Import};

#[derive(Default)]
pub(crate) struct FakePool {
    answers: Mutex<VecDeque<WorkResult>>,
    requests: Mutex<Vec<SeenRequest>>,
    /// Runs wait here while somebody holds it.
    gate: tokio::sync::RwLock<()>,
}

/// A run's request as the guest would see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeenRequest {
    pub(crate) script: String,
    pub(crate) version: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) rest: String,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// What happened, where an event is why it runs.
    pub(crate) event: Value,
    pub(crate) delivery: Option<SeenDelivery>,
    pub(crate) user: Option<String>,
}

/// The delivery that a run is an attempt of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenDelivery {
    pub(crate) id: uuid::Uuid,
    pub(crate) attempt: u32,
    pub(crate) replay_of: Option<uuid::Uuid>,
}

impl FakePool {
    /// What the next run is answered with.
    pub(crate) fn will_answer(&self, answer: WorkResult) {
        self.answers.lock().unwrap().push_back(answer);
    }

    /// Runs that have begun so far.
    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.requests.lock().unwrap().clone()
    }

    /// Lets no run end while what it answers is held.
    pub(crate) async fn hold(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    pub(crate) fn last_request(&self) -> SeenRequest {
        self.requests.lock().unwrap().last().cloned().unwrap()
    }
}

impl Invoke for FakePool {
    fn invoke(&self, work: Work) -> BoxFuture<'_, WorkResult> {
        Box::pin(async move {
            match work {
                Work::Compile(compilation) => verdict(&compilation.bundle.source),
                Work::Run(invocation) => {
                    self.requests.lock().unwrap().push(seen(&invocation.input));
                    let _passed = self.gate.read().await;
                    let answer = self.answers.lock().unwrap().pop_front();
                    answer.unwrap_or_else(|| respond(200, "text/plain", b"hello"))
                }
            }
        })
    }
}

fn verdict(source: &str) -> WorkResult {
    if source.contains("@syntax") {
        let line = source.lines().position(|line| line.contains("@syntax")).unwrap() + 1;
        return WorkResult::Rejected(Diagnostic {
            script: "hello".into(),
            line: line.try_into().unwrap(),
            column: 5,
            message: "unexpected @".into(),
        });
    }
    match source {
        "@endless" => WorkResult::NotCompiled(ExecutionStatus::FuelExhausted),
        "@lost" => WorkResult::NotCompiled(ExecutionStatus::WorkerLost),
        "@busy" => WorkResult::Refused(Refusal::Overloaded),
        _ => WorkResult::Compiled { imports: imports(source) },
    }
}

/// Each line that is an import, as the real guest would find it.
fn imports(source: &str) -> Vec<Import> {
    let lines = (1..).zip(source.lines());
    lines
        .filter_map(|(line, text)| {
            let name = text.trim().strip_prefix("import \"")?.split('"').next()?.to_owned();
            Some(Import { name, line, column: 8 })
        })
        .collect()
}

pub(crate) fn respond(status: u16, content_type: &str, body: &[u8]) -> WorkResult {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", content_type.parse().unwrap());
    let status = http::StatusCode::from_u16(status).unwrap();
    WorkResult::Ran(Outcome {
        status: ExecutionStatus::Ok,
        response: Some(Response { status, headers, body: body.to_vec() }),
        failure: None,
        usage: Usage {
            fuel: 1_000,
            load_fuel: 0,
            peak_memory_bytes: 2_000,
            host_calls: 3,
            duration_us: 1_500,
            queued_us: 20,
        },
        logs: Arc::default(),
    })
}

pub(crate) fn fail(status: ExecutionStatus, message: &str, line: u32, column: u32) -> WorkResult {
    WorkResult::Ran(Outcome {
        status,
        response: None,
        failure: Some(ScriptFailure {
            message: message.into(),
            script: "hello".into(),
            line,
            column,
            is_fatal: false,
        }),
        usage: Usage::default(),
        logs: Arc::default(),
    })
}

fn seen(input: &[u8]) -> SeenRequest {
    let input: GuestInput<'_> = shared::wire::codec::decode_body(input).unwrap();
    let delivery = input.delivery.map(|delivery| SeenDelivery {
        id: uuid::Uuid::from_bytes(delivery.id),
        attempt: delivery.attempt,
        replay_of: delivery.replay_of.map(uuid::Uuid::from_bytes),
    });
    let event = input.event.map(|json| serde_json::from_slice(json).unwrap()).unwrap_or_default();
    let user = input.user.map(|user| match user {
        GuestUser::Person { name, .. } => name.to_owned(),
        GuestUser::AppUser { login, .. } => login.to_owned(),
    });
    let Some(http) = input.http else {
        let script = input.script.to_owned();
        return SeenRequest {
            script,
            version: input.version,
            timeout_ms: input.timeout_ms,
            event,
            delivery,
            user,
            ..SeenRequest::default()
        };
    };
    SeenRequest {
        event,
        delivery,
        user,
        script: input.script.to_owned(),
        version: input.version,
        timeout_ms: input.timeout_ms,
        method: http.method.to_owned(),
        path: http.path.to_owned(),
        rest: http.rest.to_owned(),
        params: pairs(http.params),
        query: pairs(http.query),
        headers: pairs(http.headers),
        body: String::from_utf8(http.body.to_vec()).unwrap(),
    }
}

fn pairs(block: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Pairs::new(block).map(|pair| pair.map(|(name, value)| (text(name), text(value))).unwrap()).collect()
}
