//! Source as the few tokens that matter. Comments are nothing, and code within texts is code.

/// A piece of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// `::`
    Path,
    /// `(`
    Open,
    Comma,
    /// A text, or the part of one that stands before its first `${`.
    Text {
        text: &'a str,
        is_whole: bool,
    },
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
            self.rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if rest.starts_with("/*") {
            self.rest = behind_comment(rest);
        } else if let Some(text) = rest.strip_prefix('"') {
            self.plain_text(text);
        } else if let Some(text) = rest.strip_prefix('`') {
            self.template(text, true);
        } else if let Some(character) = rest.strip_prefix('\'') {
            let (_, behind) = until_unescaped(character, '\'');
            self.rest = behind;
            self.found.push(Token::Other);
        } else if let Some(behind) = rest.strip_prefix("::") {
            self.take(Token::Path, behind);
        } else if let Some(behind) = rest.strip_prefix('(') {
            self.take(Token::Open, behind);
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
        // An escape may stand for anything.
        let token = match text.find('\\') {
            None => Token::Text { text, is_whole: true },
            Some(escape) => Token::Text { text: &text[..escape], is_whole: false },
        };
        self.take(token, behind);
    }

    /// From within a template: to its end, or into the code that stands next in it.
    fn template(&mut self, text: &'a str, is_first: bool) {
        let end = text.find('`').unwrap_or(text.len());
        let code = text.find("${").filter(|code| *code < end);
        if is_first {
            let head = &text[..code.unwrap_or(end)];
            self.found.push(Token::Text { text: head, is_whole: code.is_none() });
        }
        match code {
            Some(code) => {
                self.braces.push(0);
                self.rest = &text[code + 2..];
            }
            None => self.rest = text.get(end + 1..).unwrap_or(""),
        }
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

/// What stands before an unescaped end, and what behind it.
fn until_unescaped(text: &str, end: char) -> (&str, &str) {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == end => return (&text[..at], &text[at + c.len_utf8()..]),
            _ => {}
        }
    }
    (text, "")
}
