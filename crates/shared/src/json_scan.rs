//! Whether a text is JSON: one pass, no recursion, no copy.
//!
//! What comes from a worker is checked by this before anything else looks at it, because a parser
//! that descends into values descends as deep as a stranger likes.

use crate::limits::JSON_DEPTH_MAX;

/// Why a text is not JSON that the platform takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("the JSON text is broken at byte {0}")]
    Syntax(usize),
    #[error("the JSON text is nested deeper than {JSON_DEPTH_MAX} levels")]
    Depth,
    #[error("the number at byte {0} is too large")]
    Number(usize),
}

/// Checks a whole text: one value, with nothing but space around it.
pub fn check(text: &str) -> Result<(), JsonError> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0, objects: 0, depth: 0 };
    while !scanner.value()? {}
    Ok(())
}

/// Whether a checked text is an object.
pub fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// One bit for each open container, the innermost last: set for an object.
    objects: u64,
    depth: usize,
}

// A bit for each level.
const _: () = assert!(JSON_DEPTH_MAX <= u64::BITS as usize);

impl Scanner<'_> {
    /// Takes in a value up to where the next one is expected; true when the text has ended.
    fn value(&mut self) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.open(1)?;
                if self.peek() != Some(b'}') {
                    self.name()?;
                    return Ok(false);
                }
            }
            Some(b'[') => {
                self.open(0)?;
                if self.peek() != Some(b']') {
                    return Ok(false);
                }
            }
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => return Err(self.broken()),
        }
        self.after_value()
    }

    /// Closes what ends here.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        loop {
            self.space();
            if self.depth == 0 {
                return if self.at == self.bytes.len() { Ok(true) } else { Err(self.broken()) };
            }
            let is_object = self.objects & 1 == 1;
            match (self.peek(), is_object) {
                (Some(b','), _) => {
                    self.at += 1;
                    if is_object {
                        self.space();
                        self.name()?;
                    }
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    self.objects >>= 1;
                    self.depth -= 1;
                }
                _ => return Err(self.broken()),
            }
        }
    }

    const fn broken(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn open(&mut self, kind: u64) -> Result<(), JsonError> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(JsonError::Depth);
        }
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | kind;
        self.space();
        Ok(())
    }

    /// A member's name with its colon.
    fn name(&mut self) -> Result<(), JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.broken());
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.broken());
        }
        self.at += word.len();
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) | None => return Err(self.broken()),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            // Halves of a pair mean nothing by themselves.
            Some(b'u') => match self.code_unit()? {
                0xd800..=0xdbff => match (self.bytes.get(self.at..self.at + 2), self.code_unit()?) {
                    (Some(b"\\u"), 0xdc00..=0xdfff) => Ok(()),
                    _ => Err(self.broken()),
                },
                0xdc00..=0xdfff => Err(self.broken()),
                _ => Ok(()),
            },
            _ => Err(self.broken()),
        }
    }

    /// Four hexadecimal digits after `\u`.
    fn code_unit(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at + 2..self.at + 6).ok_or_else(|| self.broken())?;
        let mut unit = 0;
        for digit in digits {
            unit = unit << 4 | char::from(*digit).to_digit(16).ok_or_else(|| self.broken())?;
        }
        self.at += 6;
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.skip(b"-");
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut is_long = self.at - start > DIGITS_SAFE;
        if self.skip(b".") {
            self.digits()?;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digits()?;
            is_long = true;
        }
        if is_long && !is_finite(&self.bytes[start..self.at]) {
            return Err(JsonError::Number(start));
        }
        Ok(())
    }

    /// Passes one of these characters, if one is there.
    fn skip(&mut self, any: &[u8]) -> bool {
        let is_there = self.peek().is_some_and(|byte| any.contains(&byte));
        self.at += usize::from(is_there);
        is_there
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.broken()) } else { Ok(()) }
    }
}

/// A whole number of so many digits fits a float for sure.
const DIGITS_SAFE: usize = 300;

fn is_finite(number: &[u8]) -> bool {
    std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok()).is_some_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agrees(text: &str) {
        let ours = check(text);
        let theirs = serde_json::from_str::<serde_json::Value>(text);
        if ours == Err(JsonError::Depth) {
            return;
        }
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{text:?}: {ours:?}, {theirs:?}");
    }

    /// In the manner of the public JSON test suites: what must, must not and may be accepted.
    const TEXTS: &[&str] = &[
        "",
        " ",
        "null",
        "nul",
        "nulll",
        "null null",
        "true",
        "True",
        "false",
        "falsee",
        "[]",
        "[ ]",
        "[,]",
        "[1,]",
        "[1 2]",
        "[1,,2]",
        "[1",
        "1]",
        "[1]]",
        "{}",
        "{ }",
        "{,}",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1]",
        "[1}",
        "{\"a\":[}",
        "{\"a\":{}}",
        "[[],{},[{}]]",
        "{\"\":0}",
        "{\"a\":1,\"a\":2}",
        "0",
        "-0",
        "-",
        "+1",
        "01",
        "-01",
        "1.",
        ".1",
        "1.0",
        "1e",
        "1e1",
        "1E+1",
        "1e-1",
        "1e+",
        "1ee1",
        "1.e1",
        "0x1",
        "1e308",
        "1e309",
        "-1e309",
        "1e-400",
        "NaN",
        "Infinity",
        "-Infinity",
        "123456789012345678901234567890",
        "\"\"",
        "\"a\"",
        "\"a",
        "a\"",
        "\"\\\"",
        "\"\\\\\"",
        "\"\\n\"",
        "\"\\x\"",
        "\"\\u0000\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud834\\udd1e\"",
        "\"\\ud834\"",
        "\"\\udd1e\"",
        "\"\\ud834\\u0041\"",
        "\"\\ud834xxdd1e\"",
        "\"\\ud834\\n\"",
        "\"\u{1}\"",
        "\"\n\"",
        "\"\t\"",
        "\"\u{7f}\"",
        "\"\u{202e}\"",
        "\"\u{10ffff}\"",
        "\u{feff}1",
        "1\u{a0}",
        "// x\n1",
        "1 // x",
        "/* x */1",
        "\t1\r\n",
        "\u{c}1",
        "[\"a\",\n4\n,1,",
        "[\"\\u00A\"]",
        "[1:2]",
        "{\"a\":/*c*/1}",
        "*",
        "[*]",
        "{[: \"x\"}\n",
        "[\"\"],",
        "\"\\/\"",
        "[-1.5e-3, true, null]",
        "[0e]",
        "[0e+]",
        "[1.2.3]",
        "[--1]",
        "[-a]",
    ];

    #[test]
    fn accepts_and_refuses_what_serde_json_does() {
        TEXTS.iter().for_each(|text| agrees(text));
        agrees(&"9".repeat(308));
        agrees(&"9".repeat(310));
    }

    #[test]
    fn nesting_is_bounded_and_needs_no_stack() {
        let nested = |open: &str, close: &str, levels: usize| {
            format!("{}1{}", open.repeat(levels), close.repeat(levels))
        };
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert_eq!(check(&nested(open, close, JSON_DEPTH_MAX)), Ok(()));
            assert_eq!(check(&nested(open, close, JSON_DEPTH_MAX + 1)), Err(JsonError::Depth));
            assert_eq!(check(&open.repeat(1_000_000)), Err(JsonError::Depth));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_anything(text in "[\\[\\]{}\",:0-9eE+\\-.\\\\untrfalse \u{e9}\u{1}]{0,24}") {
            agrees(&text);
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_json(
            value in json(), at in any::<prop::sample::Index>(), byte in 0u8..128,
        ) {
            let mut text = value.to_string();
            agrees(&text);
            let at = at.index(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, char::from(byte).encode_utf8(&mut [0; 4]));
            }
            agrees(&text);
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            ".{0,8}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
