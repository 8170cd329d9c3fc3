//! From how a run ended to what its caller is told.

use shared::fault::Code;
use shared::invocation::{Outcome, Refusal};

use super::problem::ApiError;

/// The problem of a run that gave no response. The callers here may see the script's source, so
/// they are told where it failed.
pub(super) fn failed(outcome: &Outcome) -> ApiError {
    // The pool answers a good run with a response; without one it is the platform's fault.
    let code = outcome.status.problem().unwrap_or(Code::Internal);
    let Some(failure) = &outcome.failure else { return ApiError::new(code, code.title()) };
    let at = match (failure.line, failure.column) {
        (0, _) => String::new(),
        (line, 0) => format!(" (line {line})"),
        (line, column) => format!(" (line {line}, column {column})"),
    };
    let error =
        ApiError::new(code, format!("{}{at}", failure.message)).with("message", failure.message.clone());
    let error = match failure.script.as_str() {
        "" => error,
        script => error.with("script", script),
    };
    match failure.line {
        0 => error,
        line => error.with("line", line).with("column", failure.column),
    }
}

/// The problem of work that was not started.
pub(super) fn refused(refusal: Refusal) -> ApiError {
    let error = ApiError::new(refusal.problem(), refusal.to_string());
    match refusal.retry_after_s() {
        Some(seconds) => error.retry_after(seconds),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::invocation::{ExecutionStatus, ScriptFailure, Usage};

    use super::*;

    #[test]
    fn a_failure_says_where_it_happened() {
        let failure = ScriptFailure {
            message: "boom".into(),
            script: "hello".into(),
            line: 3,
            column: 7,
            is_fatal: false,
        };
        let outcome = Outcome {
            status: ExecutionStatus::ScriptError,
            response: None,
            failure: Some(failure),
            usage: Usage::default(),
            logs: Arc::default(),
        };
        let problem = failed(&outcome).to_json("r1");
        assert_eq!(problem["detail"], "boom (line 3, column 7)");
        assert_eq!((&problem["line"], &problem["script"]), (&3.into(), &"hello".into()));
    }
}
