//! One execution: what is to run, and what came of it.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::call::Companion;
use crate::caller::Caller;
use crate::cause::{Cause, Delivery};
use crate::confidential::Confidential;
use crate::fault::Code;
use crate::guest_abi::{GuestDelivery, GuestHttp, GuestInput, InvocationType};
use crate::host_call::LogLevel;
use crate::id::{AppId, AppSessionId, DeliveryId, ExecutionId, ScriptId, UserId};
use crate::limits::ScriptLimits;
use crate::name::{AppSlug, ScriptName};
use crate::script::{Bundle, BundleHash, Diagnostic, Import};
use crate::trace::{TRACEPARENT, TraceContext};
use crate::wire::codec;

/// One version of a script, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptTarget {
    pub app: AppId,
    pub app_slug: AppSlug,
    /// The account that pays for the app; workers may be kept apart by it.
    pub owner: UserId,
    pub script: ScriptId,
    pub name: ScriptName,
    pub version: u32,
    pub bundle: BundleHash,
    pub limits: ScriptLimits,
    /// Whether its source names `invoke`, as was shown when the version was deployed: else it calls no other script.
    pub may_invoke: bool,
}

/// What makes a script run.
#[derive(Debug, Clone)]
pub struct Occasion<'a> {
    pub invocation_type: InvocationType,
    pub cause: Cause,
    pub delivery: Option<Delivery>,
    /// Whose rights it has, where it has anybody's.
    pub principal: Option<UserId>,
    pub caller: Option<&'a Caller>,
    pub http: Option<GuestHttp<'a>>,
    /// `ctx.event`: JSON text of an object.
    pub event: Option<&'a [u8]>,
}

/// An execution to be admitted and run.
#[derive(Debug)]
pub struct Invocation {
    pub execution: ExecutionId,
    pub request_id: Arc<str>,
    pub invocation_type: InvocationType,
    pub target: Arc<ScriptTarget>,
    /// On whose behalf it runs, where that was found out: what it may manage depends on that.
    pub principal: Option<UserId>,
    /// The session of an app's user by which the caller was let in.
    pub session: Option<AppSessionId>,
    /// Who is on the other end, where it began with a request.
    pub client: Option<IpAddr>,
    /// Asked for by somebody who works on the script, and not by its users: it may take the slot kept for them.
    pub is_test: bool,
    /// Its caller waits and keeps a slot: it starts at once, or in a worker made for it, and waits for nobody who waits.
    pub is_nested: bool,
    pub cause: Cause,
    /// The delivery that this is an attempt of, where an event is why it runs.
    pub delivery: Option<Delivery>,
    /// The execution as a step of its caller's trace, where there is one; boxed, as mostly there is none.
    pub trace: Option<Box<TraceContext>>,
    /// Goes along to those who answer the execution's calls.
    pub companion: Option<Companion>,
    /// What the script was told in confidence that waits for it: neither says it. None where nobody does.
    pub confidential: Option<Arc<Confidential>>,
    /// A postcard [`crate::guest_abi::GuestInput`]: the parent encodes it once and never reads it again.
    pub input: Vec<u8>,
}

impl Invocation {
    /// An execution for an HTTP request of nobody in particular, with a new id.
    pub fn http(target: Arc<ScriptTarget>, request_id: Arc<str>, http: GuestHttp<'_>) -> Self {
        Self::http_of(target, request_id, None, http)
    }

    /// An execution for an HTTP request of this caller.
    pub fn http_of(
        target: Arc<ScriptTarget>,
        request_id: Arc<str>,
        caller: Option<&Caller>,
        http: GuestHttp<'_>,
    ) -> Self {
        let execution = ExecutionId::new();
        let occasion = Occasion {
            invocation_type: InvocationType::Http,
            cause: Cause::root(execution),
            delivery: None,
            principal: caller.and_then(Caller::principal),
            caller,
            http: Some(http),
            event: None,
        };
        Self::new(target, execution, request_id, occasion)
    }

    /// An execution with everything said.
    pub fn new(
        target: Arc<ScriptTarget>,
        execution: ExecutionId,
        request_id: Arc<str>,
        occasion: Occasion<'_>,
    ) -> Self {
        let Occasion { invocation_type, cause, delivery, principal, caller, http, event } = occasion;
        let limits = &target.limits;
        let client = http.as_ref().and_then(|http| http.remote_ip.parse().ok());
        let http_bytes =
            http.as_ref().map_or(0, |http| http.headers.len() + http.query.len() + http.body.len());
        let mut input = Vec::with_capacity(256 + http_bytes + event.map_or(0, <[u8]>::len));
        codec::encode_body(
            &mut input,
            &GuestInput {
                execution_id: execution.to_bytes(),
                request_id: &request_id,
                app: target.app_slug.as_str(),
                script: target.name.as_str(),
                version: target.version,
                invocation_type,
                trigger_depth: cause.depth,
                fuel: limits.fuel,
                memory_mb: limits.memory_mb,
                timeout_ms: limits.timeout_ms,
                response_bytes: limits.response_bytes,
                user: caller.map(Caller::to_guest),
                http,
                event,
                delivery: delivery.map(|delivery| GuestDelivery {
                    id: delivery.id.to_bytes(),
                    attempt: delivery.attempt,
                    replay_of: delivery.replay_of.map(DeliveryId::to_bytes),
                }),
            },
        );
        Self {
            execution,
            request_id,
            invocation_type,
            target,
            principal,
            session: caller.and_then(Caller::session),
            client,
            is_test: false,
            is_nested: false,
            trace: None,
            companion: None,
            confidential: None,
            cause,
            delivery,
            input,
        }
    }

    /// The same, for a person of whom the script is not told.
    pub fn on_behalf_of(self, person: UserId) -> Self {
        Self { principal: Some(person), ..self }
    }

    /// The same, as a test run.
    pub fn as_test(self) -> Self {
        Self { is_test: true, ..self }
    }

    /// The same, as a step of the trace that these headers name, if they name one.
    #[must_use]
    pub fn following(self, headers: &HeaderMap) -> Self {
        let given = headers.get(TRACEPARENT);
        let trace = given.and_then(|given| TraceContext::following(given.as_bytes()));
        Self { trace: trace.map(Box::new), ..self }
    }

    /// The same, with something for those who answer its calls.
    #[must_use]
    pub fn with(self, companion: Companion) -> Self {
        Self { companion: Some(companion), ..self }
    }
}

/// A bundle to be compiled in a worker, only to learn whether it compiles.
#[derive(Debug)]
pub struct Compilation {
    pub app: AppId,
    /// As in [`ScriptTarget`].
    pub owner: UserId,
    pub bundle: Arc<Bundle>,
    pub limits: ScriptLimits,
}

/// What the pool is asked to do.
#[derive(Debug)]
pub enum Work {
    Run(Invocation),
    Compile(Compilation),
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExecutionStatus {
    Ok,
    ScriptError,
    FuelExhausted,
    MemoryExceeded,
    Timeout,
    WorkerLost,
    InvalidResponse,
    Cancelled,
    DepthExceeded,
}

impl ExecutionStatus {
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::ScriptError,
        Self::FuelExhausted,
        Self::MemoryExceeded,
        Self::Timeout,
        Self::WorkerLost,
        Self::InvalidResponse,
        Self::Cancelled,
        Self::DepthExceeded,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ScriptError => "script_error",
            Self::FuelExhausted => "fuel_exhausted",
            Self::MemoryExceeded => "memory_exceeded",
            Self::Timeout => "timeout",
            Self::WorkerLost => "worker_lost",
            Self::InvalidResponse => "invalid_response",
            Self::Cancelled => "cancelled",
            Self::DepthExceeded => "depth_exceeded",
        }
    }

    /// The problem that a caller is told of; none when the script answered.
    pub const fn problem(self) -> Option<Code> {
        match self {
            Self::Ok => None,
            Self::ScriptError => Some(Code::ScriptError),
            Self::FuelExhausted => Some(Code::FuelExhausted),
            Self::MemoryExceeded => Some(Code::MemoryExceeded),
            Self::Timeout => Some(Code::Timeout),
            Self::InvalidResponse => Some(Code::InvalidResponse),
            // A cancelled caller is gone, and nobody waits for an event that ran too deep.
            Self::WorkerLost | Self::Cancelled | Self::DepthExceeded => Some(Code::WorkerLost),
        }
    }
}

impl Refusal {
    pub const fn problem(self) -> Code {
        match self {
            Self::Overloaded | Self::ShuttingDown => Code::Overloaded,
            Self::BundleUnavailable => Code::Unavailable,
            Self::OverBudget { .. } => Code::BudgetExhausted,
            Self::Frozen => Code::AppFrozen,
            Self::Quarantined => Code::ScriptQuarantined,
        }
    }

    /// When to try again; none when somebody has to do something first.
    pub const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::Overloaded | Self::ShuttingDown | Self::BundleUnavailable => Some(1),
            Self::OverBudget { retry_after_s } => Some(retry_after_s),
            Self::Frozen | Self::Quarantined => None,
        }
    }
}

/// A script's answer, checked: status 100-599 without 101, header names and values well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Where and why a script failed. Line and column count from 1; 0 means unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScriptFailure {
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub script: String,
    pub line: u32,
    pub column: u32,
    /// The script itself says that trying again is of no use.
    #[serde(skip)]
    pub is_fatal: bool,
}

impl ScriptFailure {
    pub fn without_position(message: impl Into<String>) -> Self {
        Self { message: message.into(), script: String::new(), line: 0, column: 0, is_fatal: false }
    }
}

/// A line that a script logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    pub level: LogLevel,
    pub message: String,
    /// JSON text; empty when the script gave no data.
    pub data: String,
}

/// What an execution used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub fuel: u64,
    /// Fuel for loading the script's code, when its worker did not have it at hand. The app is charged
    /// for it, but it is none of the execution's own: that is the same wherever it runs.
    pub load_fuel: u64,
    pub peak_memory_bytes: u64,
    pub host_calls: u32,
    /// From dispatch to result, without the time in the queue.
    pub duration_us: u64,
    /// Time in the queue before dispatch.
    pub queued_us: u64,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub status: ExecutionStatus,
    /// Present exactly when the status is `Ok`.
    pub response: Option<Response>,
    pub failure: Option<ScriptFailure>,
    pub usage: Usage,
    /// The record's logs, for callers that show them (test invoke).
    pub logs: Arc<[LogEntry]>,
}

/// The pool's answer to a piece of [`Work`].
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every answer is the large one")]
pub enum WorkResult {
    Ran(Outcome),
    /// `imports` is what the main source itself imports.
    Compiled {
        imports: Vec<Import>,
    },
    Rejected(Diagnostic),
    /// Compiling failed for another reason than the source's grammar.
    NotCompiled(ExecutionStatus),
    /// Nothing was started.
    Refused(Refusal),
}

/// Why work was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("all workers are busy and the queue is full")]
    Overloaded,
    #[error("the platform is shutting down")]
    ShuttingDown,
    #[error("the script's code could not be read from the database")]
    BundleUnavailable,
    #[error("the app has used up its budget; it begins anew in {retry_after_s} s")]
    OverBudget { retry_after_s: u32 },
    #[error("the app is frozen until somebody who runs this instance lets it go on")]
    Frozen,
    #[error(
        "the script is quarantined, because workers that ran it failed in ways that scripts should not cause"
    )]
    Quarantined,
}

/// One execution as it is kept.
#[derive(Debug, Clone)]
pub struct ExecutionRecord {
    pub id: ExecutionId,
    pub request_id: Arc<str>,
    pub target: Arc<ScriptTarget>,
    pub invocation_type: InvocationType,
    pub cause: Cause,
    pub delivery: Option<Delivery>,
    pub status: ExecutionStatus,
    pub http_status: Option<u16>,
    /// Microseconds since the Unix epoch.
    pub started_at_us: i64,
    pub usage: Usage,
    pub failure: Option<ScriptFailure>,
    pub logs: Arc<[LogEntry]>,
}
