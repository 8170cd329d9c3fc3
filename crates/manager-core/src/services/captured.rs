//! Requests and mails as a dry run tells them: all that is in them, but for what is secret and what is too long.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use shared::confidential::Confidential;
use shared::host_call::email::Send;
use shared::host_call::http::{BEHIND_SECRET, Request, SECRET_HERE};
use shared::http::Pairs;

use super::deeds::HIDDEN;
use crate::data::rehearsal::Deed;

/// Bytes of one body that are shown.
const BODY_BYTES_MAX: usize = 16 << 10;

/// A request as the script makes it; what the platform adds to it is the same for all.
pub(super) fn request(confidential: &Confidential, request: &Request<'_>) -> Deed {
    let body = (!request.body.is_empty()).then(|| body(confidential, request.body));
    let value = object([("headers", Some(json!(headers(confidential, request)))), ("body", body)]);
    Deed { call: "http.send", target: format!("{} {}", request.method, request.url), value: Some(value) }
}

/// A mail; of its files only what they are called and how long they are.
pub(super) fn mail(confidential: &Confidential, mail: &Send<'_>) -> Deed {
    let recipients: Vec<_> = [&mail.to, &mail.cc, &mail.bcc].into_iter().flatten().copied().collect();
    let shown = |text: &str| Value::from(cut(&confidential.redacted(text)));
    let files = mail.attachments.iter().map(|file| {
        let (name, content_type) = (shown(file.name), shown(file.content_type));
        json!({ "name": name, "content_type": content_type, "bytes": file.content.len() })
    });
    let files: Vec<Value> = files.collect();
    let value = object([
        ("subject", Some(shown(mail.subject))),
        ("from_name", mail.from_name.map(shown)),
        ("reply_to", mail.reply_to.map(shown)),
        ("text", mail.text.map(shown)),
        ("html", mail.html.map(shown)),
        ("attachments", (!files.is_empty()).then(|| files.into())),
    ]);
    Deed { call: "email.send", target: recipients.join(", "), value: Some(value) }
}

/// By name; the values of a name that is given twice together, which means the same.
fn headers(confidential: &Confidential, request: &Request<'_>) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::<String, String>::new();
    let mut show = |name: &[u8], value: &[u8]| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = String::from_utf8_lossy(&confidential.redacted_bytes(value)).into_owned();
        match shown.get_mut(&name) {
            Some(values) => values.extend([", ", value.as_str()]),
            None => _ = shown.insert(name, value),
        }
    };
    for (name, value) in Pairs::new(request.headers).flatten() {
        show(name, value);
    }
    for (name, template) in Pairs::new(request.secret_headers).flatten() {
        show(name, unfilled(template).as_bytes());
    }
    shown
}

/// The text around a secret that the script has not seen, with a mark where it goes.
fn unfilled(template: &[u8]) -> String {
    let text = String::from_utf8_lossy(template);
    let around = text.split_once(char::from(BEHIND_SECRET)).map_or("", |(_, around)| around);
    around.replacen(SECRET_HERE, HIDDEN, 1)
}

/// A text, or in base64 what is none. The secrets are taken out of the whole of it: in what a cut leaves of one nobody
/// would know it.
fn body(confidential: &Confidential, body: &[u8]) -> Value {
    let shown = confidential.redacted_bytes(body);
    match str::from_utf8(&shown) {
        Ok(text) => cut(text).into(),
        Err(_) => {
            let start = &shown[..shown.len().min(BODY_BYTES_MAX)];
            json!({ "base64": STANDARD.encode(start), "bytes": body.len() })
        }
    }
}

/// The start of what is too long, which says that it is.
fn cut(text: &str) -> String {
    let start = &text[..text.floor_char_boundary(BODY_BYTES_MAX)];
    if start.len() == text.len() {
        return text.to_owned();
    }
    format!("{start}… [cut: {} bytes in all]", text.len())
}

/// Of the members those that there are.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let there = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use shared::host_call::email::Attachment;
    use shared::http::PairBlock;

    use super::*;

    fn knowing(secret: &str) -> Confidential {
        let confidential = Confidential::default();
        confidential.add(secret).unwrap();
        confidential
    }

    fn post<'a>(headers: &'a [u8], secret_headers: &'a [u8], body: &'a [u8]) -> Request<'a> {
        let url = "https://example.com/a";
        Request { method: "POST", url, headers, secret_headers, body, timeout_ms: 0, follows: true }
    }

    fn body_of(confidential: &Confidential, body: &[u8]) -> Value {
        request(confidential, &post(b"", b"", body)).value.unwrap()["body"].take()
    }

    #[test]
    fn a_request_is_told_with_its_headers_and_its_body() {
        let mut headers = PairBlock::default();
        for (name, value) in [("X-Many", "1"), ("x-many", "2"), ("x-one", "é")] {
            headers.push(name.as_bytes(), value.as_bytes());
        }
        let deed = request(&Confidential::default(), &post(headers.as_bytes(), b"", b"{\"n\":1}"));
        assert_eq!((deed.call, deed.target.as_str()), ("http.send", "POST https://example.com/a"));
        let expected = json!({ "headers": { "x-many": "1, 2", "x-one": "é" }, "body": "{\"n\":1}" });
        assert_eq!(deed.value, Some(expected));
        let bare = request(&Confidential::default(), &post(b"", b"", b""));
        assert_eq!(bare.value, Some(json!({ "headers": {} })));
        let bytes = body_of(&Confidential::default(), b"\xff\xfe");
        assert_eq!(bytes, json!({ "base64": "//4=", "bytes": 2 }));
    }

    #[test]
    fn attack_no_header_tells_a_secret_however_it_came_there() {
        let secret = "hunter2-secret";
        let (mut headers, mut secret_headers) = (PairBlock::default(), PairBlock::default());
        headers.push(b"x-read", format!("key {secret}").as_bytes());
        secret_headers.push(b"authorization", b"token\0Bearer {}");
        let request = request(
            &knowing(secret),
            &post(headers.as_bytes(), secret_headers.as_bytes(), br#"{"a":"hunter2-secret"}"#),
        );
        let expected = json!({
            "headers": { "authorization": "Bearer [secret]", "x-read": "key [secret]" },
            "body": r#"{"a":"[secret]"}"#,
        });
        assert_eq!(request.value, Some(expected));
    }

    #[test]
    fn attack_a_body_that_is_cut_within_a_secret_tells_nothing_of_it() {
        let secret = "hunter2-secret";
        let confidential = knowing(secret);
        for before in BODY_BYTES_MAX - secret.len()..=BODY_BYTES_MAX {
            for filler in ["x", "\u{0}"] {
                let body = format!("{}{secret}{}", filler.repeat(before), "y".repeat(99));
                let shown = body_of(&confidential, body.as_bytes());
                let shown = shown.as_str().unwrap();
                assert!(!shown.contains("hu"), "{before}: {}", &shown[before..]);
                assert!(shown.ends_with(" bytes in all]"), "{before}");
            }
            let body = [b"\xff".repeat(before).as_slice(), secret.as_bytes(), b"y"].concat();
            let shown = body_of(&confidential, &body);
            let bytes = STANDARD.decode(shown["base64"].as_str().unwrap()).unwrap();
            assert!(bytes.len() <= BODY_BYTES_MAX && !bytes.contains(&b'h'), "{before}");
            assert_eq!(shown["bytes"], body.len());
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        let text = format!("x{}", "é".repeat(BODY_BYTES_MAX));
        let shown = cut(&text);
        assert_eq!(shown, format!("{}… [cut: 32769 bytes in all]", &text[..BODY_BYTES_MAX - 1]));
        let text = "x".repeat(BODY_BYTES_MAX);
        assert_eq!(cut(&text), text);
    }

    #[test]
    fn a_mail_is_told_with_all_that_there_is_to_read_and_the_names_of_its_files() {
        let file = Attachment { name: "a.txt", content_type: "text/plain", content: b"hunter2-secret" };
        let send = Send {
            to: vec!["ada@example.com"],
            bcc: vec!["bob@example.com"],
            reply_to: Some("me@example.com"),
            subject: "About hunter2-secret",
            text: Some("It is hunter2-secret."),
            html: Some("<b>a</b>"),
            attachments: vec![file],
            ..Send::default()
        };
        let deed = mail(&knowing("hunter2-secret"), &send);
        assert_eq!(deed.target, "ada@example.com, bob@example.com");
        let expected = json!({
            "subject": "About [secret]",
            "reply_to": "me@example.com",
            "text": "It is [secret].",
            "html": "<b>a</b>",
            "attachments": [{ "name": "a.txt", "content_type": "text/plain", "bytes": 14 }],
        });
        assert_eq!(deed.value, Some(expected));
    }
}
