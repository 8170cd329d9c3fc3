//! A script that does not compile, shown as rustc shows it: what, where, the line, a caret, why,
//! and what may help.
//!
//! On a terminal miette draws it; in a pipe it is plain ASCII around the script's own text.

mod brackets;
mod excerpt;
mod hint;
mod plain;

use std::fmt;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::excerpt::Excerpt;
use crate::failure::Problem;
use crate::output::{Stream, visible_line};

/// Lines shown around the wrong one on a terminal.
const CONTEXT_LINES: usize = 1;

#[derive(Debug)]
pub(crate) struct CompileError {
    script: String,
    message: String,
    help: Option<String>,
    /// Absent when the server does not know where the error is.
    place: Option<Place>,
    raw: Option<Value>,
}

#[derive(Debug)]
struct Place {
    /// The file as the user named it; for an imported module its script name.
    file: String,
    line: usize,
    /// `None` when only the line is known.
    column: Option<usize>,
    excerpt: Excerpt,
}

/// What the problem says beside its title. Line and column count from 1; 0 means unknown.
#[derive(Debug, Deserialize)]
struct Report {
    message: String,
    #[serde(default)]
    script: String,
    #[serde(default)]
    line: u32,
    #[serde(default)]
    column: u32,
    #[serde(default)]
    source_line: String,
}

impl CompileError {
    /// Reads the server's problem about `source`, which was deployed from `file` as script `name`.
    /// Gives the problem back when it is not about compiling.
    pub(crate) fn read(
        problem: Box<Problem>,
        file: &str,
        name: &str,
        source: &str,
    ) -> Result<Self, Box<Problem>> {
        if problem.code != "compile_error" {
            return Err(problem);
        }
        let Some(report) = report_of(&problem.more) else { return Err(problem) };
        let is_own = report.script.is_empty() || report.script == name;
        let script = if is_own { name } else { &report.script };
        let text = if is_own { Some(source) } else { None };
        let place = Place::find(&report, if is_own { file } else { script }, text);
        let help = place.as_ref().and_then(|place| hint::find(&report.message, place, text));
        Ok(Self {
            script: visible_line(script),
            message: visible_line(&report.message),
            help,
            place,
            raw: problem.raw,
        })
    }

    /// The problem as the server sent it.
    pub(crate) fn raw(&self) -> Option<&Value> {
        self.raw.as_ref()
    }

    pub(crate) fn render(&self, stream: Stream) -> String {
        if !stream.is_terminal {
            return plain::render(self);
        }
        let theme =
            if stream.has_colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        self.render_graphical(theme)
    }

    fn render_graphical(&self, theme: GraphicalTheme) -> String {
        let mut text = String::new();
        // Tabs are widened by the excerpt, and links would need the terminal's help.
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_context_lines(CONTEXT_LINES)
            .with_wrap_lines(false);
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(_) => plain::render(self),
        }
    }
}

impl Place {
    fn find(report: &Report, file: &str, source: Option<&str>) -> Option<Self> {
        let line = usize::try_from(report.line).ok().filter(|line| *line > 0)?;
        let column = usize::try_from(report.column).ok().filter(|column| *column > 0);
        let excerpt = match source {
            Some(source) => Excerpt::of_source(file, source, line, column),
            None => Excerpt::of_line(file, &report.source_line, line, column),
        };
        Some(Self { file: visible_line(file), line: excerpt.line(), column, excerpt })
    }
}

fn report_of(more: &Map<String, Value>) -> Option<Report> {
    Report::deserialize(more).ok()
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not compile", self.script)?;
        if self.place.is_none() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

impl Diagnostic for CompileError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new("compile_error"))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| &place.excerpt as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.place.as_ref()?.excerpt.span();
        let label = LabeledSpan::new_primary_with_span(Some(self.message.clone()), span);
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests;
