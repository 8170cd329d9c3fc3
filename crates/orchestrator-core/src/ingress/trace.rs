//! Traces: which one a request belongs to, and what those who record it are told (ADR 0020).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Request, StatusCode};
use shared::invocation::{ScriptTarget, WorkResult};
use shared::ports::SpanSink;
use shared::trace::{Attribute, Span, TRACEPARENT, TraceContext};

/// What is said of a path; enough to recognise it.
const PATH_CHARS_MAX: usize = 200;

/// Recording of traces, as the operator set it up.
#[derive(Clone)]
pub struct Tracing {
    pub sink: Arc<dyn SpanSink>,
    /// Of the traces that begin here, so many in a hundred. Those that come from elsewhere say it themselves.
    pub sample_percent: u8,
}

impl std::fmt::Debug for Tracing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracing").field("sample_percent", &self.sample_percent).finish_non_exhaustive()
    }
}

/// The trace that the caller began, if it did, else a new one where traces are recorded. From here on
/// the header names our step of it, so that what a script passes on leads back to this request; a
/// malformed one begins a new trace.
pub(super) fn follow(headers: &mut HeaderMap, tracing: Option<&Tracing>) -> Option<TraceContext> {
    let begin = || tracing.map(|tracing| TraceContext::sampled(tracing.sample_percent));
    let ours = match headers.get(TRACEPARENT) {
        Some(given) => TraceContext::following(given.as_bytes()).or_else(begin).unwrap_or_default(),
        None => begin()?,
    };
    headers.insert(TRACEPARENT, header_value(ours));
    Some(ours)
}

pub(super) fn header_value(trace: TraceContext) -> HeaderValue {
    HeaderValue::try_from(trace.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// A request whose trace is recorded, while it is worked on.
pub(super) struct Recording<'a> {
    sink: &'a dyn SpanSink,
    context: TraceContext,
    started: SystemTime,
    at: Instant,
    method: String,
    path: String,
    request_id: &'a str,
}

impl<'a> Recording<'a> {
    /// Nothing, at no cost, for a trace that nobody records.
    pub(super) fn begin<B>(
        tracing: Option<&'a Tracing>,
        context: Option<TraceContext>,
        request: &Request<B>,
        request_id: &'a str,
    ) -> Option<Self> {
        let context = context.filter(|context| context.is_sampled())?;
        let path = request.uri().path().chars().take(PATH_CHARS_MAX).collect();
        Some(Self {
            sink: &*tracing?.sink,
            context,
            started: SystemTime::now(),
            at: Instant::now(),
            method: request.method().as_str().to_owned(),
            path,
            request_id,
        })
    }

    /// Tells of an execution that was this step of the request's trace.
    pub(super) fn ran(&self, step: Option<TraceContext>, target: &ScriptTarget, result: &WorkResult) {
        let WorkResult::Ran(outcome) = result else { return };
        let usage = &outcome.usage;
        let (took, queued) =
            (Duration::from_micros(usage.duration_us), Duration::from_micros(usage.queued_us));
        let number = |n: u64| Attribute::Number(n.try_into().unwrap_or(i64::MAX));
        self.sink.ended(Span {
            context: step.unwrap_or_else(|| self.context.child()),
            is_server: false,
            name: "execution",
            // It ended just now.
            started: SystemTime::now().checked_sub(took).unwrap_or(self.started),
            took,
            attributes: &[
                ("picloud.app", Attribute::Text(target.app_slug.as_str())),
                ("picloud.script", Attribute::Text(target.name.as_str())),
                ("picloud.version", Attribute::Number(target.version.into())),
                ("picloud.status", Attribute::Text(outcome.status.as_str())),
                ("picloud.fuel", number(usage.fuel)),
                ("picloud.peak_memory_bytes", number(usage.peak_memory_bytes)),
                ("picloud.queued_us", number(queued.as_micros().try_into().unwrap_or(u64::MAX))),
            ],
            failure: outcome.status.problem().map(|code| code.title()),
        });
    }

    /// Tells of the request as a whole.
    pub(super) fn end(self, status: StatusCode) {
        self.sink.ended(Span {
            context: self.context,
            is_server: true,
            name: &self.method,
            started: self.started,
            took: self.at.elapsed(),
            attributes: &[
                ("http.request.method", Attribute::Text(&self.method)),
                ("url.path", Attribute::Text(&self.path)),
                ("http.response.status_code", Attribute::Number(status.as_u16().into())),
                ("picloud.request_id", Attribute::Text(self.request_id)),
            ],
            failure: status.is_server_error().then(|| status.canonical_reason().unwrap_or("server error")),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl SpanSink for Nobody {
        fn ended(&self, _: Span<'_>) {}
    }

    #[test]
    fn a_script_sees_our_step_of_its_callers_trace() {
        let mut headers = HeaderMap::new();
        assert_eq!(follow(&mut headers, None), None);
        assert!(headers.is_empty());
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(TRACEPARENT, given.parse().unwrap());
        let ours = follow(&mut headers, None).unwrap();
        assert_eq!(headers[TRACEPARENT], ours.to_string().as_str());
        assert!(headers[TRACEPARENT] != given && ours.to_string().starts_with(&given[..36]));
        headers.insert(TRACEPARENT, "rubbish".parse().unwrap());
        let fresh = follow(&mut headers, None).unwrap();
        assert_eq!(headers[TRACEPARENT], fresh.to_string().as_str());
        assert!(!fresh.is_sampled());
    }

    #[test]
    fn where_traces_are_recorded_every_request_has_one_and_the_callers_word_counts() {
        let tracing = Tracing { sink: Arc::new(Nobody), sample_percent: 100 };
        let is_recorded = |given: Option<&str>| {
            let mut headers = HeaderMap::new();
            given.map(|given| headers.insert(TRACEPARENT, given.parse().unwrap()));
            let trace = follow(&mut headers, Some(&tracing));
            assert_eq!(headers[TRACEPARENT], trace.unwrap().to_string().as_str());
            Recording::begin(Some(&tracing), trace, &Request::new(()), "r").is_some()
        };
        assert!(is_recorded(None) && is_recorded(Some("rubbish")));
        assert!(is_recorded(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")));
        assert!(!is_recorded(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")));
    }
}
