//! A file's content as an answer: whole, or the part that a `Range` asks for (RFC 9110).

use std::ops::Range;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::Admin;
use super::openapi::{Answer, Operation};
use super::problem::ApiError;
use crate::store::files::FileRow;

/// A content that is on its way.
pub(super) struct Content(pub(super) Response);

impl IntoResponse for Content {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answer for Content {
    fn describe(operation: &mut Operation<'_>) {
        let binary = json!({ "type": "string", "format": "binary" });
        operation.answer(200, "*/*", &binary);
        operation.answer(206, "*/*", &binary);
    }
}

/// What somebody uploaded is a download here and never a page: it would be a page of this server.
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");

/// Sends a file.
pub(super) fn answer(admin: &Admin, file: &FileRow, headers: &HeaderMap) -> Result<Content, ApiError> {
    let size = file.size.cast_unsigned();
    let etag = format!("\"{}\"", file.version);
    // A part of another version is of no use to who has the beginning.
    let is_current = headers.get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == etag.as_bytes());
    let asked = headers.get(header::RANGE).filter(|_| is_current).and_then(|range| range.to_str().ok());
    let (status, range) = match asked.map_or(Asked::Whole, |text| asked_range(text, size)) {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Beyond => return Ok(Content(beyond(size))),
    };
    let content_range = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    let length = range.end - range.start;
    let body = Body::from_stream(admin.data.file_content(file, range));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, &file.content_type);
    set(header::CONTENT_LENGTH, &length.to_string());
    set(header::ETAG, &etag);
    set(header::CONTENT_DISPOSITION, &disposition(&file.name));
    if status == StatusCode::PARTIAL_CONTENT {
        set(header::CONTENT_RANGE, &content_range);
    }
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
    Ok(Content(response))
}

fn beyond(size: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Beyond,
}

/// One range. Several, and what is none, count as if nothing had been said, as the standard allows.
fn asked_range(text: &str, size: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    let number =
        |text: &str| if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok() } else { None };
    let (first, last) = (first.trim(), last.trim());
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if last < first => return Asked::Whole,
        (Some(first), Some(last)) => first..size.min(u64::saturating_add(last, 1)),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Asked::Whole,
    };
    if range.start >= range.end { Asked::Beyond } else { Asked::Part(range) }
}

/// A download under the file's name: in ASCII for those who know no better, and in full (RFC 6266).
fn disposition(name: &str) -> String {
    let plain: String =
        name.chars()
            .map(|c| {
                if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '/') || c == ' ' { c } else { '_' }
            })
            .collect();
    let full: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{full}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_the_standard_says() {
        for (text, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=2-", Asked::Part(2..10)),
            ("bytes=2-99", Asked::Part(2..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=3-2", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("bytes=99999999999999999999-", Asked::Whole),
        ] {
            assert_eq!(asked_range(text, 10), expected, "{text}");
        }
        assert_eq!(asked_range("bytes=0-", 0), Asked::Beyond);
        assert_eq!(asked_range(&format!("bytes=0-{}", u64::MAX - 1), 10), Asked::Part(0..10));
    }

    #[test]
    fn no_name_breaks_out_of_its_header() {
        for name in ["a\"; filename=\"b", "..\\..\\x", "a\r\nx: y", "\u{202e}gpj.exe", "ü/ß", "100%.txt"] {
            let header = disposition(name);
            assert!(HeaderValue::from_str(&header).is_ok_and(|value| value.to_str().is_ok()), "{header}");
            assert_eq!(header.matches('"').count(), 2, "{header}");
            assert!(!header.contains(['/', '\\', '\r', '\n']), "{header}");
        }
    }
}
