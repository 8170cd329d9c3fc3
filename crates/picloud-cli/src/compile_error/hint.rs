//! Advice on a compile error: only where the message alone does not say what to do, and only what
//! is likely right.

use super::Place;
use super::brackets::find_unclosed;

const KEYWORDS: &[&str] = &[
    "let", "const", "if", "else", "switch", "while", "loop", "until", "for", "in", "continue", "break", "fn",
    "private", "return", "throw", "try", "catch", "import", "export", "as", "this", "true", "false", "do",
];

/// What other languages call a thing, and what Rhai calls it.
const FOREIGN: &[(&str, &str)] = &[
    ("function", "a function begins with `fn`"),
    ("func", "a function begins with `fn`"),
    ("def", "a function begins with `fn`"),
    ("fun", "a function begins with `fn`"),
    ("async", "scripts have no `async`; a call waits for its answer"),
    ("await", "scripts have no `await`; a call waits for its answer"),
    ("var", "a variable begins with `let`"),
    ("static", "a constant begins with `const`"),
    ("mut", "every `let` variable can be changed; leave out `mut`"),
    ("elif", "write `else if`"),
    ("elsif", "write `else if`"),
    ("elseif", "write `else if`"),
    ("foreach", "write `for item in items`"),
    ("match", "write `switch`"),
    ("case", "a `switch` case is written `value => result`"),
    ("default", "the default of a `switch` is written `_ => result`"),
    ("null", "nothing is written `()`"),
    ("nil", "nothing is written `()`"),
    ("undefined", "nothing is written `()`"),
    ("None", "nothing is written `()`"),
    ("new", "there are no classes; a map is written `#{ name: value }`"),
    ("and", "write `&&`"),
    ("or", "write `||`"),
    ("not", "write `!`"),
    ("use", "write `import \"name\" as name;`"),
    ("require", "write `import \"name\" as name;`"),
    ("debug", "`debug` is a keyword; to log, use `log::trace` or `log::info`"),
    ("===", "values are compared with `==`"),
    ("!==", "values are compared with `!=`"),
    ("++", "write `+= 1`"),
    ("--", "write `-= 1`"),
    ("->", "functions do not declare what they return"),
    (":=", "a variable begins with `let` and is set with `=`"),
];

/// `source` is absent when the error is in a module that was not deployed here.
pub(super) fn find(message: &str, place: &Place, source: Option<&str>) -> Option<String> {
    unclosed(message, source)
        .or_else(|| quoting(message))
        .or_else(|| quoted(message).and_then(foreign))
        .or_else(|| place.excerpt.word_before().and_then(foreign))
        .or_else(|| foreign(place.excerpt.token()))
        .or_else(|| place.excerpt.statement_word().and_then(misspelt))
        .or_else(|| semicolon(message, place, source))
}

fn unclosed(message: &str, source: Option<&str>) -> Option<String> {
    let is_about_brackets = message.contains("incomplete")
        || ["'}'", "')'", "']'", "','"]
            .iter()
            .any(|token| message.starts_with(&format!("Expecting {token}")));
    let opening = find_unclosed(source.filter(|_| is_about_brackets)?)?;
    let (bracket, line, column) = (opening.bracket, opening.line, opening.column);
    Some(format!("the '{bracket}' at line {line}, column {column} is never closed"))
}

fn quoting(message: &str) -> Option<String> {
    if message.contains("string is not terminated") {
        return Some("a string in \"…\" ends on its own line; use `…` for text of several lines".to_owned());
    }
    if message.starts_with("Invalid character: '") {
        return Some("'…' holds a single character; a string is written \"…\" or `…`".to_owned());
    }
    None
}

/// What the message puts between quotes, as in `'var' is a reserved keyword`.
fn quoted(message: &str) -> Option<&str> {
    message.split('\'').nth(1).filter(|text| !text.is_empty())
}

fn foreign(word: &str) -> Option<String> {
    FOREIGN.iter().find(|(other, _)| *other == word).map(|(_, help)| (*help).to_owned())
}

fn misspelt(word: &str) -> Option<String> {
    // Of two letters nearly everything is one step from `if`, `in`, `fn`, `as` and `do`.
    if word.chars().count() < 3 || KEYWORDS.contains(&word) {
        return None;
    }
    let keyword = KEYWORDS.iter().filter(|k| k.len() > 2).find(|k| is_one_slip_away(word, k))?;
    Some(format!("did you mean `{keyword}` instead of `{word}`?"))
}

/// True for one letter too many, too few, wrong, or two neighbours swapped.
fn is_one_slip_away(word: &str, keyword: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (word.chars().collect(), keyword.chars().collect());
    let same_start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same_start..], &b[same_start..]);
    match (a, b) {
        ([_, a @ ..], [_, c @ ..]) if a == c => true,
        ([_, rest @ ..], b) if rest == b => true,
        (a, [_, rest @ ..]) if a == rest => true,
        ([x, y, a @ ..], [z, w, c @ ..]) => (x, y) == (w, z) && a == c,
        _ => false,
    }
}

/// A missing `;` is reported at the next token, which is often lines further down.
fn semicolon(message: &str, place: &Place, source: Option<&str>) -> Option<String> {
    if !message.starts_with("Expecting ';'") || !place.excerpt.is_first_on_line() {
        return None;
    }
    let is_code = |text: &str| !text.trim().is_empty() && !text.trim_start().starts_with("//");
    let lines: Vec<&str> = source?.lines().take(place.line - 1).collect();
    let line = lines.iter().rposition(|text| is_code(text))? + 1;
    Some(format!("is there a ';' missing at the end of line {line}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_is_recognised_and_two_are_not() {
        for (word, keyword) in [
            ("lett", "let"),
            ("retrun", "return"),
            ("swich", "switch"),
            ("whlie", "while"),
            ("cinst", "const"),
        ] {
            assert!(is_one_slip_away(word, keyword), "{word}");
            assert_eq!(misspelt(word), Some(format!("did you mean `{keyword}` instead of `{word}`?")));
        }
        for word in ["rtrun", "value", "name", "lab", "forty"] {
            assert_eq!(misspelt(word), None, "{word}");
        }
    }

    #[test]
    fn keywords_of_other_languages_are_translated() {
        assert_eq!(
            quoted("'var' is a reserved keyword").and_then(foreign).unwrap(),
            "a variable begins with `let`"
        );
        assert_eq!(foreign("banana"), None);
    }
}
