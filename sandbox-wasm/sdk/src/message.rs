//! What scripts are given of a message: its headers, its body as its content type says.

use rhai::{Dynamic, Map};
use shared::http::Pairs;

use crate::convert;

/// A repeated header is one with commas, as RFC 9110 says.
#[inline]
pub fn headers(block: &[u8]) -> Map {
    pairs(block, |old, new| format!("{old}, {new}"))
}

#[inline]
pub fn content_type(headers: &[u8]) -> &str {
    let found = Pairs::new(headers).flatten().find(|(name, _)| *name == b"content-type");
    found.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
}

/// A map of a block's pairs; `merge` decides what a repeated name ends up with.
pub fn pairs(block: &[u8], merge: impl Fn(&str, &str) -> String) -> Map {
    let mut map = Map::new();
    for (name, value) in Pairs::new(block).flatten() {
        let name = String::from_utf8_lossy(name);
        let value = String::from_utf8_lossy(value);
        let merged = match map.get(name.as_ref()).and_then(|old| old.clone().into_immutable_string().ok()) {
            Some(old) => Dynamic::from(merge(&old, &value)),
            None => text(&value),
        };
        map.insert(name.as_ref().into(), merged);
    }
    map
}

/// The body as its content type describes it: JSON and forms parsed, other text as a string, other
/// bytes as a blob. A body that is not what it claims to be is `()`; `body_raw` still has it.
#[inline]
pub fn body(content_type: &str, bytes: &[u8]) -> Dynamic {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if bytes.is_empty() {
        return Dynamic::UNIT;
    }
    if media == "application/json" || media.ends_with("+json") {
        return convert::parse_json(bytes).unwrap_or(Dynamic::UNIT);
    }
    if media == "application/x-www-form-urlencoded" {
        return match std::str::from_utf8(bytes) {
            Ok(form) => parse_form(form).into(),
            Err(_) => Dynamic::UNIT,
        };
    }
    text_or_blob(bytes)
}

#[inline]
pub fn text_or_blob(bytes: &[u8]) -> Dynamic {
    match std::str::from_utf8(bytes) {
        Ok(utf8) => text(utf8),
        Err(_) => Dynamic::from_blob(bytes.to_vec()),
    }
}

fn text(utf8: &str) -> Dynamic {
    utf8.to_owned().into()
}

/// Decodes an HTML form. Of a repeated field the first counts, as for the query.
fn parse_form(form: &str) -> Map {
    let mut map = Map::new();
    for pair in form.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        map.entry(percent_decode(name).as_str().into()).or_insert_with(|| percent_decode(value).into());
    }
    map
}

fn percent_decode(text: &str) -> String {
    let mut bytes = text.as_bytes().iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match hex_pair(bytes.as_slice()) {
                Some(value) => {
                    decoded.push(value);
                    bytes.nth(1);
                }
                None => decoded.push(byte),
            },
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match bytes {
        [high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}
