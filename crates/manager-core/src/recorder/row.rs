//! From a record to the row that is stored.

use chrono::DateTime;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use shared::host_call::LogLevel;
use shared::invocation::{ExecutionRecord, LogEntry};
use shared::json_scan;

use crate::store::executions::ExecutionRow;

pub(crate) fn row(record: &ExecutionRecord) -> ExecutionRow {
    let target = &record.target;
    let usage = &record.usage;
    ExecutionRow {
        app_id: target.app,
        id: record.id,
        script_id: target.script,
        script_name: target.name.to_string(),
        version: clamped(target.version),
        bundle_hash: target.bundle,
        // PostgreSQL's text has no U+0000.
        request_id: record.request_id.replace('\0', "\u{fffd}"),
        invocation_type: record.invocation_type.as_str().to_owned(),
        root_id: Some(record.cause.root).filter(|root| *root != record.id),
        parent_id: record.cause.parent,
        depth: clamped(record.cause.depth),
        delivery_id: record.delivery.map(|delivery| delivery.id),
        attempt: record.delivery.map(|delivery| clamped(delivery.attempt)),
        status: record.status.as_str().to_owned(),
        http_status: record.http_status.and_then(|status| i16::try_from(status).ok()),
        started_at: DateTime::from_timestamp_micros(record.started_at_us).unwrap_or_default(),
        duration_us: clamped(usage.duration_us),
        queued_us: clamped(usage.queued_us),
        fuel: clamped(usage.fuel),
        peak_memory_bytes: clamped(usage.peak_memory_bytes),
        host_calls: clamped(usage.host_calls),
        error: record.failure.as_ref().and_then(json),
        logs: lines(&record.logs),
    }
}

/// The number, or the largest that fits: a record with a clamped number is better than none.
fn clamped<From, To: TryFrom<From> + Bounded>(number: From) -> To {
    To::try_from(number).unwrap_or(To::MOST)
}

trait Bounded {
    const MOST: Self;
}

impl Bounded for i32 {
    const MOST: Self = Self::MAX;
}

impl Bounded for i64 {
    const MOST: Self = Self::MAX;
}

#[derive(Serialize)]
struct Line<'a> {
    level: LogLevel,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

pub(super) fn lines(logs: &[LogEntry]) -> Box<RawValue> {
    let lines: Vec<_> = logs
        .iter()
        .map(|entry| Line { level: entry.level, message: &entry.message, data: data(&entry.data) })
        .collect();
    json(&lines).unwrap_or_else(empty)
}

/// What the script logged with the line: JSON as it is, any other text as a string. JSON that not
/// every reader takes, such as 1e999 or half a surrogate pair, is text: one line of a script must
/// not make its whole record unreadable. So is what is nested deeper than values are anywhere else.
fn data(text: &str) -> Option<Box<RawValue>> {
    if text.is_empty() {
        return None;
    }
    if json_scan::check(text).is_ok() && serde_json::from_str::<Value>(text).is_ok() {
        RawValue::from_string(text.to_owned()).ok()
    } else {
        json(&text)
    }
}

fn json(value: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

pub(super) fn empty() -> Box<RawValue> {
    RawValue::from_string("[]".to_owned()).expect("two brackets are JSON")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shared::invocation::{ExecutionStatus, ScriptFailure};
    use shared::limits::JSON_DEPTH_MAX;

    use super::super::testing::record;
    use super::*;

    #[test]
    fn attack_data_that_is_nested_deeper_than_other_values_is_kept_as_text() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let kept = |depth| data(&nested(depth)).unwrap().get().to_owned();
        assert_eq!(kept(JSON_DEPTH_MAX), nested(JSON_DEPTH_MAX));
        assert_eq!(kept(JSON_DEPTH_MAX + 1), format!("\"{}\"", nested(JSON_DEPTH_MAX + 1)));
    }

    #[test]
    fn data_that_is_no_json_is_kept_as_text() {
        let entry = |data: &str| LogEntry { level: LogLevel::Warn, message: "m\0".into(), data: data.into() };
        let mut record = record(ExecutionStatus::ScriptError);
        record.logs = Arc::new([entry(""), entry("{\"a\":1e2}"), entry("not json")]);
        record.failure = Some(ScriptFailure::without_position("boom"));
        record.request_id = "r\0".into();
        record.usage.fuel = u64::MAX;
        let row = row(&record);
        assert_eq!(
            row.logs.get(),
            r#"[{"level":"warn","message":"m\u0000"},{"level":"warn","message":"m\u0000","data":{"a":1e2}},{"level":"warn","message":"m\u0000","data":"not json"}]"#
        );
        assert_eq!(row.error.unwrap().get(), r#"{"message":"boom","line":0,"column":0}"#);
        assert_eq!((row.request_id.as_str(), row.fuel), ("r\u{fffd}", i64::MAX));
    }
}
