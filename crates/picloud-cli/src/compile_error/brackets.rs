//! Finds the bracket that is never closed. The compiler reports such an error at the end of the
//! script, which is rarely where the mistake is.

/// An opening bracket and where it stands, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) bracket: char,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The innermost bracket or template string still open at the end, or at the first closing bracket
/// that does not fit it.
pub(super) fn find_unclosed(source: &str) -> Option<Opening> {
    let mut scanner = Scanner { chars: source.chars().peekable(), line: 1, column: 0 };
    let mut open: Vec<Opening> = Vec::new();
    while let Some(c) = scanner.next() {
        let here = Opening { bracket: c, line: scanner.line, column: scanner.column };
        if open.last().is_some_and(|opening| opening.bracket == '`') {
            match c {
                '`' => drop(open.pop()),
                '$' if scanner.peek() == Some('{') => {
                    scanner.next();
                    open.push(Opening { bracket: '{', ..here });
                }
                _ => {}
            }
            continue;
        }
        match c {
            '(' | '[' | '{' | '`' => open.push(here),
            ')' | ']' | '}' => match open.pop() {
                Some(opening) if closes(opening.bracket, c) => {}
                mismatched => return mismatched,
            },
            '"' | '\'' => scanner.skip_literal(c),
            '#' => scanner.skip_raw_string(),
            '/' => scanner.skip_comment(),
            _ => {}
        }
    }
    open.pop()
}

fn closes(opening: char, closing: char) -> bool {
    matches!((opening, closing), ('(', ')') | ('[', ']') | ('{', '}'))
}

struct Scanner<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    column: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    /// The rest of a string or character literal. One that is not closed ends with its line.
    fn skip_literal(&mut self, quote: char) {
        while let Some(c) = self.peek() {
            if c == '\n' {
                return;
            }
            self.next();
            if c == '\\' {
                self.next();
            } else if c == quote {
                return;
            }
        }
    }

    /// `#"…"#`, with any number of `#`. The first one is read already.
    fn skip_raw_string(&mut self) {
        let mut hashes = 1;
        while self.peek() == Some('#') {
            self.next();
            hashes += 1;
        }
        if self.peek() != Some('"') {
            return;
        }
        self.next();
        let mut seen = None;
        while let Some(c) = self.next() {
            seen = match (c, seen) {
                ('"', _) => Some(0),
                ('#', Some(count)) => Some(count + 1),
                _ => None,
            };
            if seen == Some(hashes) {
                return;
            }
        }
    }

    /// `// …` or `/* … */`, which nests. The first `/` is read already.
    fn skip_comment(&mut self) {
        match self.peek() {
            Some('/') => while self.peek().is_some_and(|c| c != '\n') && self.next().is_some() {},
            Some('*') => {
                self.next();
                let mut depth = 1;
                while depth > 0 {
                    match (self.next(), self.peek()) {
                        (Some('*'), Some('/')) => depth -= 1,
                        (Some('/'), Some('*')) => depth += 1,
                        (Some(_), _) => continue,
                        (None, _) => return,
                    }
                    self.next();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unclosed(source: &str) -> Option<(char, usize, usize)> {
        find_unclosed(source).map(|opening| (opening.bracket, opening.line, opening.column))
    }

    #[test]
    fn balanced_scripts_have_none() {
        for source in [
            "",
            "fn f(x) { [x, #{ a: 1 }] }",
            "let a = \"}{\\\"(\"; let b = '{'; // (((\n /* { /* [ */ ( */ a",
            "`text ( ${ [1, `inner { ${2}`] } }`",
            "#\"raw \" ( \"#",
            "##\"raw \"# ( \"##",
        ] {
            assert_eq!(unclosed(source), None, "{source}");
        }
    }

    #[test]
    fn the_innermost_open_bracket_is_named() {
        assert_eq!(unclosed("fn f() {\n  if x {\n    1\n"), Some(('{', 2, 8)));
        assert_eq!(unclosed("print((1);"), Some(('(', 1, 6)));
        assert_eq!(unclosed("f(a[1);"), Some(('[', 1, 4)));
        assert_eq!(unclosed("`never ${1}"), Some(('`', 1, 1)));
    }

    #[test]
    fn a_closing_bracket_without_opening_names_none() {
        assert_eq!(unclosed("a) + (b"), None);
    }
}
