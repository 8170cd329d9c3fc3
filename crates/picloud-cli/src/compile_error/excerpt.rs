//! The lines of a script around an error, made fit for a terminal: tabs widened, control
//! characters written out, so that a caret stands where it should.

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use unicode_width::UnicodeWidthStr;

use crate::output::{visible, visible_line};

const TAB: &str = "    ";
/// A longer line, perhaps a minified script, is shown from around the error only.
const LINE_CHARS_MAX: usize = 160;

#[derive(Debug)]
pub(crate) struct Excerpt {
    file: String,
    /// Number of the wrong line, from 1, and its column for miette's header, from 1.
    line: usize,
    column: usize,
    wrong: String,
    has_line_before: bool,
    /// Bytes of `wrong` that the caret is under. Empty when it stands behind the line's end.
    start: usize,
    end: usize,
    /// All of it as miette wants it, with the span in it.
    text: String,
    span: SourceSpan,
}

impl Excerpt {
    /// From the whole source. An error behind the last line is shown at its end.
    pub(super) fn of_source(file: &str, source: &str, line: usize, column: Option<usize>) -> Self {
        let lines: Vec<&str> = source.lines().collect();
        let last = lines.len().max(1);
        let (line, column) = if line > last { (last, Some(usize::MAX)) } else { (line, column) };
        let at = |line: usize| lines.get(line).map(|text| clean(text));
        let before = line.checked_sub(2).and_then(at);
        Self::build(file, (before, lines.get(line - 1).unwrap_or(&""), at(line)), line, column)
    }

    /// From the one line that the server told.
    pub(super) fn of_line(file: &str, text: &str, line: usize, column: Option<usize>) -> Self {
        Self::build(file, (None, text, None), line, column)
    }

    fn build(
        file: &str,
        (before, wrong, after): (Option<String>, &str, Option<String>),
        line: usize,
        column: Option<usize>,
    ) -> Self {
        let token = token(wrong, column);
        let (head, wrong, tail) = window(wrong, &token);
        let (head, token) = (clean(head), clean(wrong));
        let (start, end) = (head.len(), head.len() + token.len());
        let wrong = format!("{head}{token}{}", clean(tail));
        let mut text = String::new();
        if let Some(before) = &before {
            text.push_str(before);
            text.push('\n');
        }
        let span = (text.len() + start, end - start).into();
        text.push_str(&wrong);
        text.push('\n');
        if let Some(after) = &after {
            text.push_str(after);
            text.push('\n');
        }
        let column = column.unwrap_or(1);
        let file = visible_line(file);
        Self { file, line, column, wrong, has_line_before: before.is_some(), start, end, text, span }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn wrong_line(&self) -> &str {
        &self.wrong
    }

    pub(super) fn span(&self) -> SourceSpan {
        self.span
    }

    /// The word right before the token, with nothing but blanks between.
    pub(super) fn word_before(&self) -> Option<&str> {
        let head = &self.wrong[..self.start];
        let text = head.trim_end();
        if text.len() == head.len() {
            return None;
        }
        let word = text.trim_end_matches(is_word);
        Some(&text[word.len()..]).filter(|word| !word.is_empty())
    }

    /// [`Self::word_before`], when a statement begins with it.
    pub(super) fn statement_word(&self) -> Option<&str> {
        let word = self.word_before()?;
        let head = self.wrong[..self.start].trim_end().strip_suffix(word)?.trim_end();
        Some(word).filter(|_| head.is_empty() || head.ends_with([';', '{', '}']))
    }

    /// What the caret is under.
    pub(super) fn token(&self) -> &str {
        &self.wrong[self.start..self.end]
    }

    pub(super) fn is_first_on_line(&self) -> bool {
        self.wrong[..self.start].trim().is_empty()
    }

    /// Columns of a terminal before the caret, and under it.
    pub(super) fn caret(&self) -> (usize, usize) {
        (self.wrong[..self.start].width(), self.wrong[self.start..self.end].width().max(1))
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        if span.offset() + span.len() > self.text.len() {
            return Err(MietteError::OutOfBounds);
        }
        // miette takes the header's line and column from a read without context. The column in the
        // file is not the one in the cleaned text, where tabs are wider.
        let head = usize::from(self.has_line_before);
        let (line, column) =
            if before == 0 && after == 0 { (self.line, self.column) } else { (self.line - head, 1) };
        let all = (0, self.text.len()).into();
        let name = self.file.clone();
        let contents =
            MietteSpanContents::new_named(name, self.text.as_bytes(), all, line - 1, column - 1, 0);
        Ok(Box::new(contents))
    }
}

/// Bytes of the line that the error is about: the word or the character at the column, or all of
/// the line where no column is known.
fn token(line: &str, column: Option<usize>) -> std::ops::Range<usize> {
    let Some(column) = column else {
        let start = line.len() - line.trim_start().len();
        return start..line.trim_end().len().max(start);
    };
    let start = line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
    let rest = &line[start..];
    let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    start..start + length
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line in three parts around the token, each cut where the line is too long to show.
fn window<'a>(line: &'a str, token: &std::ops::Range<usize>) -> (&'a str, &'a str, &'a str) {
    let (head, rest) = line.split_at(token.start);
    let (token, tail) = rest.split_at(token.end - token.start);
    let budget = LINE_CHARS_MAX / 2;
    let head_start = head.char_indices().rev().nth(budget).map_or(0, |(at, _)| at);
    let cut = |text: &'a str| text.char_indices().nth(budget).map_or(text, |(at, _)| &text[..at]);
    (&head[head_start..], cut(token), cut(tail))
}

fn clean(text: &str) -> String {
    let cut = text.char_indices().nth(LINE_CHARS_MAX).map_or(text, |(at, _)| &text[..at]);
    visible(cut).replace('\t', TAB)
}
