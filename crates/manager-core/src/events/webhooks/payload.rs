//! What a script is told of a request: `ctx.event.webhook`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::json_scan;
use url::form_urlencoded;

use crate::events::triggers::webhook::Provider;
use crate::events::{EventKind, Payload};

/// Headers that say who may do what, or from where; they are no script's business.
const HIDDEN: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-forwarded-for"];

#[derive(Debug, Serialize)]
struct About {
    provider: &'static str,
    headers: Map<String, Value>,
    body: Value,
}

pub(super) fn of(provider: Provider, headers: &HeaderMap, body: &[u8]) -> serde_json::Result<Payload> {
    let about = About { provider: provider.as_str(), headers: shown(headers), body: parsed(headers, body) };
    Payload::new(EventKind::Webhook, &about)
}

/// A repeated header is one with commas, as RFC 9110 says.
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let visible = headers.keys().filter(|name| !HIDDEN.contains(&name.as_str()));
    let pairs = visible.map(|name| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        (name.as_str().to_owned(), values.collect::<Vec<_>>().join(", ").into())
    });
    pairs.collect()
}

/// The body as its content type describes it: JSON and forms parsed, other text as it is, other bytes
/// in base64. Objects and lists are parsed whatever they are called: many senders call them nothing.
fn parsed(headers: &HeaderMap, body: &[u8]) -> Value {
    let Ok(text) = str::from_utf8(body) else { return STANDARD.encode(body).into() };
    if text.is_empty() {
        return Value::Null;
    }
    let media = media_type(headers);
    let is_called_json = media == "application/json" || media.ends_with("+json");
    if (is_called_json || text.trim_start().starts_with(['{', '[']))
        && json_scan::check(text).is_ok()
        && let Ok(value) = serde_json::from_str(text)
    {
        return value;
    }
    if media == "application/x-www-form-urlencoded" {
        return form(text);
    }
    text.into()
}

/// Of a repeated field the first counts, as on a route.
fn form(text: &str) -> Value {
    let mut fields = Map::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        fields.entry(name.into_owned()).or_insert_with(|| value.into_owned().into());
    }
    fields.into()
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::headers;
    use super::*;

    fn body(content_type: &str, body: &[u8]) -> Value {
        parsed(&headers(&[("content-type", content_type)]), body)
    }

    #[test]
    fn a_body_is_what_its_content_type_says() {
        assert_eq!(body("Application/JSON; charset=utf-8", b" 7 "), json!(7));
        assert_eq!(body("application/cloudevents+json", b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(
            body("application/x-www-form-urlencoded", b"a=1+2&b=%7b&a=3"),
            json!({ "a": "1 2", "b": "{" })
        );
        assert_eq!(body("text/plain", b"7"), json!("7"));
        assert_eq!(body("image/png", b"\x89PNG\xff"), json!("iVBOR/8="));
        assert_eq!(body("application/json", b""), Value::Null);
    }

    #[test]
    fn objects_and_lists_are_json_whatever_they_are_called() {
        assert_eq!(body("application/x-www-form-urlencoded", b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(parsed(&HeaderMap::new(), b"\n[1]"), json!([1]));
    }

    #[test]
    fn what_is_not_what_it_claims_to_be_is_text() {
        for text in ["{", "{\"a\":1}x", &"[".repeat(1_000), &format!("{}{}", "[".repeat(65), "]".repeat(65))]
        {
            assert_eq!(body("application/json", text.as_bytes()), json!(text));
        }
    }

    #[test]
    fn what_proves_who_asks_is_hidden() {
        let sent =
            [("authorization", "Bearer x"), ("cookie", "a=b"), ("x-a", "1"), ("x-a", "2"), ("x-b", "3")];
        assert_eq!(Value::from(shown(&headers(&sent))), json!({ "x-a": "1, 2", "x-b": "3" }));
    }
}
