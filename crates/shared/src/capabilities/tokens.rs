//! Source as the few tokens that matter. Comments are nothing, and code within texts is code.
//!
//! Where a text or a comment ends is decided as Rhai's own reader does it, to the letter: a text that
//! seems longer here than there would hide what stands behind it.

/// A piece of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// `::`
    Path,
    /// `(`
    Open,
    /// `)`
    Close,
    Comma,
    /// A text, or what stands before the first escape in one.
    Text {
        text: &'a str,
        is_whole: bool,
    },
    /// What stands before the first `${` of a text. Its code follows, and then [`Token::TemplateEnd`].
    Template(&'a str),
    TemplateEnd,
    Other,
}

pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut reader = Reader { rest: source, braces: Vec::new(), found: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.found
}

struct Reader<'a> {
    rest: &'a str,
    /// For each template that the code is within, the braces that are open in that code.
    braces: Vec<usize>,
    found: Vec<Token<'a>>,
}

impl<'a> Reader<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        if let Some(comment) = rest.strip_prefix("//") {
            // Either ends a line.
            self.rest = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
        } else if rest.starts_with("/*") {
            self.rest = behind_comment(rest);
        } else if let Some(text) = rest.strip_prefix('"') {
            self.plain_text(text);
        } else if let Some(text) = rest.strip_prefix('`') {
            self.template(text, true);
        } else if let Some((text, behind)) = raw_text(rest) {
            self.take(Token::Text { text, is_whole: true }, behind);
        } else if let Some(character) = rest.strip_prefix('\'') {
            let (_, behind) = until_unescaped(character, '\'');
            self.take(Token::Other, behind);
        } else if let Some(behind) = rest.strip_prefix("::") {
            self.take(Token::Path, behind);
        } else if let Some(behind) = rest.strip_prefix('(') {
            self.take(Token::Open, behind);
        } else if let Some(behind) = rest.strip_prefix(')') {
            self.take(Token::Close, behind);
        } else if let Some(behind) = rest.strip_prefix(',') {
            self.take(Token::Comma, behind);
        } else {
            self.word_or_other();
        }
    }

    fn take(&mut self, token: Token<'a>, behind: &'a str) {
        self.found.push(token);
        self.rest = behind;
    }

    fn plain_text(&mut self, text: &'a str) {
        let (text, behind) = until_unescaped(text, '"');
        // An escape, and a quote that stands for one by being there twice, may make it anything.
        let odd = text.find(['\\', '"']);
        let token = Token::Text { text: &text[..odd.unwrap_or(text.len())], is_whole: odd.is_none() };
        self.take(token, behind);
    }

    /// From within a template: to its end, or into the code that stands next in it.
    fn template(&mut self, text: &'a str, is_first: bool) {
        let (piece, is_code) = until_code_or_end(text);
        let behind = &text[piece.len()..];
        if is_first {
            let odd = piece.find(['\\', '`']);
            let head = &piece[..odd.unwrap_or(piece.len())];
            self.found.push(match is_code {
                true => Token::Template(head),
                false => Token::Text { text: head, is_whole: odd.is_none() },
            });
        } else if !is_code {
            self.found.push(Token::TemplateEnd);
        }
        if is_code {
            self.braces.push(0);
        }
        // Past the `${` or the quote, if there is one.
        self.rest = behind.get(if is_code { 2 } else { 1 }..).unwrap_or("");
    }

    fn word_or_other(&mut self) {
        let rest = self.rest;
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if word > 0 {
            return self.take(Token::Word(&rest[..word]), &rest[word..]);
        }
        let Some(other) = rest.chars().next() else { return };
        let behind = &rest[other.len_utf8()..];
        self.rest = behind;
        match (other, self.braces.last_mut()) {
            ('{', Some(open)) => *open += 1,
            ('}', Some(0)) => {
                self.braces.pop();
                // What comes is the template again.
                return self.template(behind, false);
            }
            ('}', Some(open)) => *open -= 1,
            _ => {}
        }
        if !other.is_whitespace() {
            self.found.push(Token::Other);
        }
    }
}

/// Comments stand within comments.
fn behind_comment(source: &str) -> &str {
    let mut rest = source;
    let mut depth = 0_usize;
    loop {
        if let Some(inner) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, inner);
        } else if let Some(outer) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, outer);
            if depth == 0 {
                return rest;
            }
        } else {
            let Some(next) = rest.chars().next() else { return "" };
            rest = &rest[next.len_utf8()..];
        }
    }
}

/// `#"…"#`, with as many `#` behind it as before it and no escapes; and what stands behind it.
fn raw_text(source: &str) -> Option<(&str, &str)> {
    let opened = source.trim_start_matches('#');
    let hashes = &source[..source.len() - opened.len()];
    let text = opened.strip_prefix('"').filter(|_| !hashes.is_empty())?;
    let end = format!("\"{hashes}");
    Some(text.split_once(&end).unwrap_or((text, "")))
}

/// What stands before the quote that ends a text, and what behind it. A quote that is there twice ends
/// nothing.
fn until_unescaped(text: &str, end: char) -> (&str, &str) {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let next = &rest[c.len_utf8()..];
        let doubled = next.strip_prefix(end);
        rest = match c {
            '\\' => next.chars().next().map_or("", |escaped| &next[escaped.len_utf8()..]),
            c if c == end => match doubled {
                Some(behind) => behind,
                None => return (&text[..at], next),
            },
            _ => next,
        };
    }
    (text, "")
}

/// The part of a template before its next `${` or its end, and whether it is code that comes then. `\${`
/// is no code, and a quote that is there twice no end.
fn until_code_or_end(text: &str) -> (&str, bool) {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += match c {
            '\\' if rest.starts_with("\\${") => 3,
            '$' if rest.starts_with("${") => return (&text[..at], true),
            '`' if rest.starts_with("``") => 2,
            '`' => return (&text[..at], false),
            other => other.len_utf8(),
        };
    }
    (text, false)
}
