//! A host call as the parent sees it: who asks for what, and what they are answered.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::Serialize;

use crate::allowance::Left;
use crate::cause::{Cause, Delivery};
use crate::confidential::Confidential;
use crate::host_call::{CallFailure, HostOp};
use crate::id::{AppId, AppSessionId, ExecutionId, UserId};
use crate::invocation::ScriptTarget;
use crate::trace::TraceContext;
use crate::wire::codec;

/// Who asks. Made by the pool from what it was told to run; nothing of it comes from a worker.
#[derive(Debug)]
pub struct CallContext {
    pub execution: ExecutionId,
    pub request_id: Arc<str>,
    pub target: Arc<ScriptTarget>,
    /// The person on whose behalf the script runs, where that is known; nobody on a public route.
    pub principal: Option<UserId>,
    /// The session of an app's user by which the route let the caller in.
    pub session: Option<AppSessionId>,
    /// Who is on the other end, where it began with a request.
    pub client: Option<IpAddr>,
    /// Why the execution runs.
    pub cause: Cause,
    /// The delivery that it is an attempt of; a repeated one makes the same calls again.
    pub delivery: Option<Delivery>,
    /// The execution as a step of its caller's trace, where there is one.
    pub trace: Option<TraceContext>,
    /// When the execution has to be over.
    pub deadline: Instant,
    /// What its calls may still use up.
    pub left: Left,
    /// Secrets that it has used, and the execution that waits for it, and those for which it waits.
    pub confidential: Arc<Confidential>,
    /// What those who answer gave it to take along.
    pub companion: Option<Companion>,
    /// What those who answer note about it, until it ends.
    pub notes: Notes,
}

/// Something that whoever answers calls wants to know at the next call of the same execution. Nobody between knows what it
/// is.
#[derive(Default)]
pub struct Notes(OnceLock<Box<dyn Any + Send + Sync>>);

impl Notes {
    /// The notes there are, or these; none if those that there are are something else.
    pub fn get_or_init<T: Any + Send + Sync>(&self, begin: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(begin())).downcast_ref()
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

/// Something of whoever answers calls that goes along with an execution. Nobody between knows what it is.
#[derive(Clone)]
pub struct Companion(Arc<dyn Any + Send + Sync>);

impl Companion {
    pub fn new<T: Any + Send + Sync>(companion: Arc<T>) -> Self {
        Self(companion)
    }

    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Companion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Companion")
    }
}

impl CallContext {
    /// The app whose data the call is about: the only one it can be.
    pub fn app(&self) -> AppId {
        self.target.app
    }

    /// Why something runs that this call brings about.
    pub fn effect(&self) -> Cause {
        self.cause.child(self.execution)
    }
}

/// What a script asks for.
#[derive(Debug)]
pub struct HostCall {
    pub context: Arc<CallContext>,
    /// Which of the execution's calls it is, from 1.
    pub number: u32,
    pub op: HostOp,
    /// A postcard struct of [`crate::host_call`]. It comes from a worker: anything may be in it.
    pub args: Vec<u8>,
    pub stage: Arc<Stage>,
}

/// How far a call has come, which decides what happens when its execution ends first.
///
/// Until it [begins](Self::begin) it may be dropped at any point where it waits. From then on it is
/// carried out to its end, although nobody hears of it: what it changes must not be left half done,
/// and what it has changed must be told to whom it concerns.
#[derive(Debug, Default)]
pub struct Stage(AtomicU8);

const BEGUN: u8 = 1;
const ABANDONED: u8 = 2;

impl Stage {
    /// To be asked before the first lasting effect; false when the execution is over, and then
    /// nothing may be done.
    pub fn begin(&self) -> bool {
        self.leave(BEGUN)
    }

    /// Gives the call up; false when it has begun.
    pub fn abandon(&self) -> bool {
        self.leave(ABANDONED)
    }

    fn leave(&self, to: u8) -> bool {
        match self.0.compare_exchange(0, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(stage) => stage == to,
        }
    }
}

/// What kind of failure a script is told of; the codes are part of the SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallCode {
    /// An argument is not what the function takes.
    InvalidArgument,
    /// A value is over its limit.
    TooLarge,
    /// What the call is about is not as the script expects.
    Conflict,
    /// There is no such thing to act on.
    NotFound,
    /// The execution's caller may not do that.
    Forbidden,
    /// The execution or its app has used up what it has of something.
    BudgetExhausted,
    /// Too many tries in too short a time, such as guesses of a password.
    Throttled,
    /// A script that was called failed.
    ScriptFailed,
    /// Nothing is free that could do it.
    Overloaded,
    /// Somebody else said no for good, such as the mail server to a recipient.
    Refused,
    /// The operator has not set up what it takes.
    NotConfigured,
    /// The database or another part cannot be reached now.
    Unavailable,
    /// The platform failed.
    Internal,
    /// The arguments are none that our guest encodes. No script hears of it: who sends them is no guest
    /// any more, and its worker is ended.
    Forged,
}

impl CallCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::TooLarge => "too_large",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::BudgetExhausted => "budget_exhausted",
            Self::Throttled => "throttled",
            Self::ScriptFailed => "script_failed",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::NotConfigured => "not_configured",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Forged => "forged",
        }
    }
}

/// Why a call did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct CallError {
    pub code: CallCode,
    pub message: String,
}

impl CallError {
    pub fn new(code: CallCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(CallCode::InvalidArgument, message)
    }
}

/// The call did what it was asked.
pub const SUCCESS: u8 = 0;
/// It did not, and the script is told why.
pub const FAILURE: u8 = 1;
/// No guest of ours can have made it. This answer goes to nobody.
pub const FORGED: u8 = 2;

/// The answer, as it goes to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// [`SUCCESS`], [`FAILURE`] or [`FORGED`].
    pub status: u8,
    /// A postcard struct of [`crate::host_call`].
    pub body: Vec<u8>,
}

impl Reply {
    pub fn success<T: Serialize>(answer: &T) -> Self {
        let mut body = Vec::new();
        codec::encode_body(&mut body, answer);
        Self { status: SUCCESS, body }
    }

    pub fn failure(error: &CallError) -> Self {
        let mut body = Vec::new();
        codec::encode_body(&mut body, &CallFailure { code: error.code.as_str(), message: &error.message });
        let status = if error.code == CallCode::Forged { FORGED } else { FAILURE };
        Self { status, body }
    }
}

impl From<Result<Self, CallError>> for Reply {
    fn from(result: Result<Self, CallError>) -> Self {
        result.unwrap_or_else(|error| Self::failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_begun_is_not_given_up_and_what_was_given_up_does_not_begin() {
        let (begun, abandoned) = (Stage::default(), Stage::default());
        assert!(begun.begin() && !begun.abandon() && begun.begin());
        assert!(abandoned.abandon() && !abandoned.begin());
    }
}
