//! From a worker's report to what the caller is told. The report is untrusted: a response is
//! checked like any client's input.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use shared::confidential::Confidential;
use shared::guest_abi::{GuestOutput, LoadReply};
use shared::http::{Pairs, USER_COOKIE};
use shared::invocation::{
    ExecutionRecord, ExecutionStatus, LogEntry, Outcome, Response, ScriptFailure, Usage, WorkResult,
};
use shared::limits::{ERROR_MESSAGE_BYTES_MAX, MODULES_MAX, RESPONSE_HEADER_BYTES_MAX, RESPONSE_HEADERS_MAX};
use shared::ports::RecordSink;
use shared::script::Diagnostic;
use shared::wire::codec;
use shared::wire::frame::{Done, Ending};

use super::execution::{Cancelled, Execution};
use super::job::Task;
use super::violation::Violation;

/// Headers that describe one connection or the length of a body; the server sets them itself.
const DROPPED_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Cookies of the platform itself: a script must not set them for the host it shares.
const RESERVED_COOKIE_PREFIX: &str = "__host-picloud";

const OVER_RESPONSE_BYTES: &str = "the response is over the limit response_bytes";

static NO_LOGS: LazyLock<Arc<[LogEntry]>> = LazyLock::new(|| Arc::from([]));

/// What a worker reports of an execution, once it has been looked at.
pub(super) struct Judged {
    /// What is charged for it.
    pub(super) fuel: u64,
    pub(super) load_fuel: u64,
    peak_memory_bytes: u64,
    verdict: Verdict,
}

enum Verdict {
    Compiled(WorkResult),
    Ran(Ran),
}

/// Reads what a worker reports of an execution; fails for what none of ours would.
pub(super) fn judge(execution: &Execution, body: &[u8]) -> Result<Judged, Violation> {
    let done: Done<'_> = codec::decode_body(body)?;
    let verdict = match execution.job.task {
        Task::Compile => Verdict::Compiled(compiled(&done)?),
        Task::Run(_) => Verdict::Ran(ran(execution, &done)?),
    };
    Ok(Judged {
        fuel: execution.fuel(&done),
        load_fuel: Execution::load_fuel(&done),
        peak_memory_bytes: done.peak_memory_bytes,
        verdict,
    })
}

/// Ends an execution that its worker reported on: tells the caller and writes the record.
pub(super) fn conclude(execution: Execution, judged: Judged, records: &dyn RecordSink) {
    let Judged { fuel, load_fuel, peak_memory_bytes, verdict } = judged;
    match verdict {
        Verdict::Compiled(result) => {
            // Also when the caller is gone: else a deploy that is broken off would burn for nothing.
            records.compiled(execution.job.app, fuel.saturating_add(load_fuel));
            drop(execution.job.reply.send(result));
        }
        Verdict::Ran((status, response, failure)) => {
            let usage = Usage { fuel, load_fuel, peak_memory_bytes, ..elapsed(&execution) };
            deliver(execution, status, response, failure, usage, records);
        }
    }
}

/// Ends an execution whose worker is gone.
pub(super) fn conclude_lost(execution: Execution, records: &dyn RecordSink) {
    let status = if execution.is_overdue(Instant::now()) {
        ExecutionStatus::Timeout
    } else {
        ExecutionStatus::WorkerLost
    };
    if matches!(execution.job.task, Task::Compile) {
        records.compiled(execution.job.app, execution.fuel_when_lost());
        let _ = execution.job.reply.send(WorkResult::NotCompiled(status));
        return;
    }
    // What is beyond the script's own must have been the loading.
    let lost = execution.fuel_when_lost();
    let fuel = lost.min(execution.job.fuel_max());
    let usage = Usage { fuel, load_fuel: lost - fuel, ..elapsed(&execution) };
    deliver(execution, status, None, None, usage, records);
}

fn elapsed(execution: &Execution) -> Usage {
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Usage {
        duration_us: micros(execution.started.elapsed()),
        queued_us: micros(execution.started - execution.job.submitted),
        host_calls: execution.calls.count(),
        ..Usage::default()
    }
}

fn compiled(done: &Done<'_>) -> Result<WorkResult, Violation> {
    Ok(match done.ending {
        Ending::Compiled => match codec::decode_body(done.output).map_err(|_| Violation::Answer)? {
            LoadReply::Loaded { imports } if imports.len() <= MODULES_MAX => WorkResult::Compiled { imports },
            _ => return Err(Violation::Answer),
        },
        Ending::Rejected => match codec::decode_body(done.output).map_err(|_| Violation::Answer)? {
            LoadReply::Rejected { script, line, column, message } => WorkResult::Rejected(Diagnostic {
                script: script.to_owned(),
                line,
                column,
                message: message.to_owned(),
            }),
            LoadReply::Loaded { .. } => return Err(Violation::Answer),
        },
        Ending::StackOverflow => WorkResult::Rejected(Diagnostic {
            script: String::new(),
            line: 0,
            column: 0,
            message: "the source is nested too deeply".to_owned(),
        }),
        Ending::FuelExhausted => WorkResult::NotCompiled(ExecutionStatus::FuelExhausted),
        Ending::MemoryExceeded => WorkResult::NotCompiled(ExecutionStatus::MemoryExceeded),
        Ending::Timeout => WorkResult::NotCompiled(ExecutionStatus::Timeout),
        Ending::Cancelled => WorkResult::NotCompiled(ExecutionStatus::Cancelled),
        Ending::Trapped => WorkResult::NotCompiled(ExecutionStatus::ScriptError),
        Ending::Answered | Ending::OutputTooLarge => return Err(Violation::Answer),
    })
}

type Ran = (ExecutionStatus, Option<Response>, Option<ScriptFailure>);

fn ran(execution: &Execution, done: &Done<'_>) -> Result<Ran, Violation> {
    let failed = |status, message: &str| (status, None, Some(ScriptFailure::without_position(message)));
    Ok(match done.ending {
        Ending::Answered => answered(done.output, execution.job.output_bytes())?,
        Ending::FuelExhausted => (ExecutionStatus::FuelExhausted, None, None),
        Ending::MemoryExceeded => (ExecutionStatus::MemoryExceeded, None, None),
        Ending::Timeout => (ExecutionStatus::Timeout, None, None),
        Ending::Cancelled => match execution.cancelled {
            Some(Cancelled::Deadline) => (ExecutionStatus::Timeout, None, None),
            Some(Cancelled::CallerLeft) => (ExecutionStatus::Cancelled, None, None),
            None => return Err(Violation::Answer),
        },
        Ending::StackOverflow => {
            failed(ExecutionStatus::ScriptError, "stack overflow: the calls are nested too deeply")
        }
        Ending::Trapped => failed(ExecutionStatus::ScriptError, "the interpreter ended unexpectedly"),
        Ending::OutputTooLarge => failed(ExecutionStatus::InvalidResponse, OVER_RESPONSE_BYTES),
        // It compiled when it was deployed; a guest of another version may see it differently.
        Ending::Rejected => match codec::decode_body(done.output).map_err(|_| Violation::Answer)? {
            LoadReply::Rejected { script, line, column, message } => {
                (ExecutionStatus::ScriptError, None, Some(failure(script, line, column, message)))
            }
            LoadReply::Loaded { .. } => return Err(Violation::Answer),
        },
        Ending::Compiled => return Err(Violation::Answer),
    })
}

fn answered(output: &[u8], body_bytes_max: u32) -> Result<Ran, Violation> {
    let invalid = |message: String| {
        (ExecutionStatus::InvalidResponse, None, Some(ScriptFailure::without_position(cut(&message))))
    };
    Ok(match codec::decode_body(output).map_err(|_| Violation::Answer)? {
        // The worker's own check is of the whole answer; here the body alone is known.
        GuestOutput::Response { body, .. } if body.len() > body_bytes_max as usize => {
            invalid(OVER_RESPONSE_BYTES.to_owned())
        }
        GuestOutput::Response { status, headers, body } => match check(status, headers, body) {
            Ok(response) => (ExecutionStatus::Ok, Some(response), None),
            Err(message) => invalid(message),
        },
        GuestOutput::ScriptError { script, line, column, message, is_fatal } => {
            let failure = ScriptFailure { is_fatal, ..failure(script, line, column, message) };
            (ExecutionStatus::ScriptError, None, Some(failure))
        }
        GuestOutput::InvalidResponse { message } => invalid(message.to_owned()),
    })
}

fn failure(script: &str, line: u32, column: u32, message: &str) -> ScriptFailure {
    ScriptFailure { message: cut(message), script: cut(script), line, column, is_fatal: false }
}

/// What is kept of a text. It may be as long as a response, and is stored with the execution.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX)].to_owned()
}

/// Checks a response as the bytes of a stranger.
fn check(status: u16, headers: &[u8], body: &[u8]) -> Result<Response, String> {
    // 1xx are not answers: the server sends them on its own account.
    if !(200..=599).contains(&status) {
        return Err(format!("statusCode {status} is not between 200 and 599"));
    }
    let status =
        StatusCode::from_u16(status).map_err(|_| format!("statusCode {status} is not an HTTP status"))?;
    let mut checked = HeaderMap::new();
    let mut bytes = 0;
    for pair in Pairs::new(headers) {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        bytes += name.len() + value.len();
        if checked.len() >= RESPONSE_HEADERS_MAX || bytes > RESPONSE_HEADER_BYTES_MAX {
            return Err(format!(
                "the headers are over the limit of {RESPONSE_HEADERS_MAX} headers or {RESPONSE_HEADER_BYTES_MAX} bytes"
            ));
        }
        let name = HeaderName::from_bytes(name)
            .map_err(|_| format!("{:?} is not a header name", String::from_utf8_lossy(name)))?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| format!("header {name} has a value with control characters"))?;
        if !is_dropped(&name, &value) {
            checked.append(name, value);
        }
    }
    Ok(Response { status, headers: checked, body: body.to_vec() })
}

fn is_dropped(name: &HeaderName, value: &HeaderValue) -> bool {
    if name == http::header::SET_COOKIE {
        // Browsers do not see the spaces in front of a name.
        let cookie = value.as_bytes().trim_ascii_start();
        let start = &cookie[..cookie.len().min(RESERVED_COOKIE_PREFIX.len())];
        let cookie_name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default();
        // That of the app's own users is the script's to give.
        return start.eq_ignore_ascii_case(RESERVED_COOKIE_PREFIX.as_bytes())
            && cookie_name != USER_COOKIE.as_bytes();
    }
    DROPPED_HEADERS.contains(&name.as_str())
}

fn deliver(
    execution: Execution,
    status: ExecutionStatus,
    response: Option<Response>,
    failure: Option<ScriptFailure>,
    usage: Usage,
    records: &dyn RecordSink,
) {
    let Task::Run(invocation) = execution.job.task else {
        return;
    };
    // Also one that asked for nothing may have been told something, by the script that waits for it.
    let confidential = execution.calls.confidential().or(invocation.confidential.as_deref());
    let failure = match (failure, confidential) {
        (Some(failure), Some(confidential)) => Some(discreet_failure(failure, confidential)),
        (failure, _) => failure,
    };
    let logs: Arc<[LogEntry]> = match confidential {
        _ if execution.logs.is_empty() => NO_LOGS.clone(),
        Some(confidential) => execution.logs.iter().map(|line| discreet_line(line, confidential)).collect(),
        None => execution.logs.into(),
    };
    records.record(ExecutionRecord {
        id: invocation.execution,
        request_id: invocation.request_id,
        target: invocation.target,
        invocation_type: invocation.invocation_type,
        cause: invocation.cause,
        delivery: invocation.delivery,
        status,
        http_status: response.as_ref().map(|response| response.status.as_u16()),
        started_at_us: execution.started_at_us,
        usage,
        failure: failure.clone(),
        logs: logs.clone(),
    });
    let _ = execution.job.reply.send(WorkResult::Ran(Outcome { status, response, failure, usage, logs }));
}

/// A line without the secrets that the execution has used, and the one that waits for it.
fn discreet_line(line: &LogEntry, confidential: &Confidential) -> LogEntry {
    let data = confidential.redacted_json_text(&line.data).into();
    LogEntry { message: confidential.redacted(&line.message).into(), data, ..line.clone() }
}

fn discreet_failure(failure: ScriptFailure, confidential: &Confidential) -> ScriptFailure {
    ScriptFailure { message: confidential.redacted(&failure.message).into_owned(), ..failure }
}

#[cfg(test)]
mod tests {
    use shared::http::PairBlock;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut block = PairBlock::default();
        for (name, value) in pairs {
            block.push(name.as_bytes(), value.as_bytes());
        }
        block.into_bytes()
    }

    #[test]
    fn a_status_outside_200_to_599_is_no_response() {
        for status in [0, 99, 100, 101, 199, 600, 1000] {
            assert!(check(status, &[], &[]).is_err(), "{status}");
        }
        assert!(check(200, &[], &[]).is_ok() && check(599, &[], &[]).is_ok());
    }

    #[test]
    fn response_splitting_is_refused() {
        for (name, value) in
            [("x", "a\r\nset-cookie: b"), ("x\r\ny", "a"), ("x", "a\0"), ("", "a"), ("a b", "c")]
        {
            assert!(check(200, &headers(&[(name, value)]), &[]).is_err(), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn headers_of_the_connection_and_the_platforms_cookie_are_dropped() {
        let given = headers(&[
            ("Content-Length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("Set-Cookie", "__Host-picloud=stolen"),
            ("Set-Cookie", " \t__host-picloud=stolen"),
            ("Set-Cookie", "__Host-picloud-users=stolen"),
            ("Set-Cookie", "__Host-picloud-user=mine"),
            ("Set-Cookie", "mine=1"),
            ("X-Ok", "1"),
        ]);
        let response = check(200, &given, b"body").unwrap();
        let names: Vec<_> =
            response.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        assert_eq!(
            names,
            ["set-cookie: \"__Host-picloud-user=mine\"", "set-cookie: \"mine=1\"", "x-ok: \"1\""]
        );
    }

    #[test]
    fn headers_are_taken_at_their_limits_and_refused_one_over_them() {
        let many = |count| headers(&vec![("x", "1"); count]);
        let most = check(200, &many(RESPONSE_HEADERS_MAX), &[]).unwrap();
        assert_eq!(most.headers.len(), RESPONSE_HEADERS_MAX);
        let refused = check(200, &many(RESPONSE_HEADERS_MAX + 1), &[]).unwrap_err();
        assert!(refused.contains("over the limit of 64 headers or 16384 bytes"), "{refused}");
        // The name counts too.
        let long = |bytes: usize| headers(&[("x", &"v".repeat(bytes - 1))]);
        assert!(check(200, &long(RESPONSE_HEADER_BYTES_MAX), &[]).is_ok());
        assert_eq!(check(200, &long(RESPONSE_HEADER_BYTES_MAX + 1), &[]).unwrap_err(), refused);
    }

    #[test]
    fn a_body_is_taken_at_its_limit_and_refused_one_byte_over_it() {
        let answer = |bytes: usize| {
            let mut output = Vec::new();
            let body = vec![b'x'; bytes];
            codec::encode_body(
                &mut output,
                &GuestOutput::Response { status: 200, headers: &[], body: &body },
            );
            output
        };
        let (status, response, _) = answered(&answer(100), 100).unwrap();
        assert_eq!(status, ExecutionStatus::Ok);
        assert_eq!(response.unwrap().body.len(), 100);
        let (status, response, failure) = answered(&answer(101), 100).unwrap();
        assert_eq!((status, response.is_none()), (ExecutionStatus::InvalidResponse, true));
        assert_eq!(failure.unwrap().message, OVER_RESPONSE_BYTES);
    }
}
