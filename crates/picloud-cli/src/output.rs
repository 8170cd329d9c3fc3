//! The one place that writes to the terminal.
//!
//! Results go to standard output, everything said about them to standard error. Scripts are not
//! trusted, so what they logged or answered reaches a terminal only with its control characters
//! made visible.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, Color, Table, presets};
use serde_json::Value;

use crate::config;
use crate::failure::Failure;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// The server's JSON for programs.
    Json,
}

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) is_terminal: bool,
    pub(crate) has_colour: bool,
}

/// Meaning of a piece of text, shown as a colour where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        let stream =
            |is_terminal| Stream { is_terminal, has_colour: is_terminal && !config::is_colour_refused() };
        Self {
            format,
            stdout: stream(io::stdout().is_terminal()),
            stderr: stream(io::stderr().is_terminal()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line of result.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        // Flushed by line: `pic logs -f | grep` must see a line when it happens.
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::Output)
    }

    /// Bytes as they are, for a pipe; made harmless for a terminal.
    pub(crate) fn body(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let written = if self.stdout.is_terminal {
            let text = String::from_utf8_lossy(bytes);
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            write!(stdout, "{}{end}", visible(&text))
        } else {
            stdout.write_all(bytes)
        };
        written.and_then(|()| stdout.flush()).map_err(Failure::Output)
    }

    pub(crate) fn json(&self, value: &Value) -> Result<(), Failure> {
        self.line(&format!("{value:#}"))
    }

    /// The outcome of a change: the server's answer for programs, a sentence for people.
    pub(crate) fn done(&self, answer: &Value, sentence: &str) -> Result<(), Failure> {
        match (self.format, answer) {
            (Format::Table, _) => self.line(sentence),
            // Nothing was answered, so nothing is printed.
            (Format::Json, Value::Null) => Ok(()),
            (Format::Json, answer) => self.json(answer),
        }
    }

    /// One value to a line, for streams.
    pub(crate) fn json_line(&self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string())
    }

    /// Something about the result, or about the work. A closed standard error is nobody's problem.
    pub(crate) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A question; the answer is typed behind it.
    pub(crate) fn prompt(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("{} {}", self.stderr.paint(Tone::Warning, "warning:"), visible(text)));
    }

    /// Rows under a header; `empty` says in words that there are none.
    pub(crate) fn table(
        &self,
        header: &[&str],
        rows: Vec<Vec<TableCell>>,
        empty: &str,
    ) -> Result<(), Failure> {
        if rows.is_empty() {
            self.note(empty);
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        if self.stdout.has_colour {
            table.enforce_styling();
        }
        table.set_header(header);
        for row in rows {
            table.add_row(row.into_iter().map(TableCell::into_cell));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

impl Stream {
    pub(crate) fn paint<'a>(&self, tone: Tone, text: &'a str) -> Cow<'a, str> {
        if !self.has_colour || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match tone {
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
    }
}

/// A cell of a table; made from text by `into`.
#[derive(Debug)]
pub(crate) struct TableCell {
    text: String,
    tone: Option<Tone>,
}

impl TableCell {
    pub(crate) fn toned(text: &str, tone: Tone) -> Self {
        Self { tone: Some(tone), ..Self::from(text) }
    }

    fn into_cell(self) -> Cell {
        let cell = Cell::new(self.text);
        match self.tone {
            Some(Tone::Good) => cell.fg(Color::Green),
            Some(Tone::Warning) => cell.fg(Color::Yellow),
            Some(Tone::Bad) => cell.fg(Color::Red),
            _ => cell,
        }
    }
}

impl<T: AsRef<str>> From<T> for TableCell {
    fn from(text: T) -> Self {
        Self { text: visible_line(text.as_ref()), tone: None }
    }
}

/// The text with control characters written out (`\u{1b}`), so that it cannot drive a terminal.
/// Newlines and tabs stay.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hazard) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hazard(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// As [`visible`], on one line.
pub(crate) fn visible_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', " ")
}

/// Control characters, and those that reorder the text around them.
fn is_hazard(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    reorders || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_from_a_script_do_not_reach_the_terminal() {
        assert_eq!(visible("\u{1b}]0;owned\u{7}ok\n"), "\\u{1b}]0;owned\\u{7}ok\n");
        assert_eq!(visible("ab\u{202e}cd"), "ab\\u{202e}cd");
        assert_eq!(visible("\u{9b}31m"), "\\u{9b}31m");
        assert!(matches!(visible("plain\ttext é\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(visible_line("a\nb\r"), "a\\nb\\u{d}");
    }

    #[test]
    fn without_colour_nothing_is_painted() {
        let plain = Stream { is_terminal: true, has_colour: false };
        assert_eq!(plain.paint(Tone::Bad, "x"), "x");
        let coloured = Stream { is_terminal: true, has_colour: true };
        assert_eq!(coloured.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
