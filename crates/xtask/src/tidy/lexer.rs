//! Tells Rust code from comments and strings, so that a rule about code is not broken by prose.

/// A Rust source, taken apart.
#[derive(Debug, Default)]
pub(super) struct Lexed {
    /// The source with comments and the content of literals left out; lines stay where they were.
    pub(super) code: String,
    /// String literals with the line they begin on, counted from 1.
    pub(super) strings: Vec<(usize, String)>,
}

/// Takes a source apart. Sources compile, so nothing here is an error.
pub(super) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer { rest: text, line: 1, lexed: Lexed::default() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.lexed
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    lexed: Lexed,
}

impl Lexer<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.skip(end);
        } else if self.rest.starts_with("/*") {
            self.skip(block_comment_len(self.rest));
        } else if let Some((prefix, hashes)) = raw_string_start(self.rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &self.rest[prefix..];
            let end = body.find(&close).unwrap_or(body.len());
            self.string(prefix, end, close.len());
        } else if self.rest.starts_with('"') {
            let end = string_len(&self.rest[1..]);
            self.string(1, end, 1);
        } else if let Some(len) = char_literal_len(self.rest) {
            self.skip(len);
        } else {
            // Whole words, so that the r of `for"` never looks like the start of a raw string.
            let word = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
            let len = if word == 0 { self.rest.chars().next().map_or(0, char::len_utf8) } else { word };
            self.lexed.code.push_str(&self.rest[..len]);
            self.advance(len);
        }
    }

    /// Leaves out `len` bytes, but not their line ends.
    fn skip(&mut self, len: usize) {
        let lines = self.rest[..len].matches('\n').count();
        self.lexed.code.extend(std::iter::repeat_n('\n', lines));
        self.advance(len);
    }

    fn string(&mut self, prefix: usize, body: usize, suffix: usize) {
        let content = self.rest[prefix..prefix + body].to_owned();
        self.lexed.strings.push((self.line, content));
        self.lexed.code.push_str("\"\"");
        self.skip((prefix + body + suffix).min(self.rest.len()));
    }

    fn advance(&mut self, len: usize) {
        self.line += self.rest[..len].matches('\n').count();
        self.rest = &self.rest[len..];
    }
}

/// Length of a block comment, which may contain others.
fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Bytes up to the content of a raw string, and its number of hashes.
fn raw_string_start(text: &str) -> Option<(usize, usize)> {
    let letters = ["br", "cr", "r"].into_iter().find(|letters| text.starts_with(letters))?.len();
    let hashes = text[letters..].bytes().take_while(|byte| *byte == b'#').count();
    text[letters + hashes..].starts_with('"').then_some((letters + hashes + 1, hashes))
}

/// Length of a string's content up to its closing quote.
fn string_len(body: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    body.len()
}

/// Length of a character literal; `None` for a lifetime.
fn char_literal_len(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        return Some(escape.get(1..)?.find('\'')? + 4);
    }
    let first = body.chars().next()?.len_utf8();
    body[first..].starts_with('\'').then_some(first + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let lexed = lex("a // unsafe {\n/* env /* x */ */ b \"unsafe\\\" {\" c");
        assert_eq!(lexed.code, "a \n b \"\" c");
        assert_eq!(lexed.strings, [(2, "unsafe\\\" {".to_owned())]);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let lexed = lex("let x = r#\"one \" two\nthree\"#; y");
        assert_eq!(lexed.strings, [(1, "one \" two\nthree".to_owned())]);
        assert_eq!(lexed.code, "let x = \"\"\n; y");
    }

    #[test]
    fn a_quote_character_begins_no_string_and_a_lifetime_no_character() {
        let lexed = lex("if c == '\"' { f::<'a>('\\'', '\\u{1F600}') } \"s\"");
        assert_eq!(lexed.strings, [(1, "s".to_owned())]);
        assert_eq!(lexed.code, "if c ==  { f::<'a>(, ) } \"\"");
    }
}
