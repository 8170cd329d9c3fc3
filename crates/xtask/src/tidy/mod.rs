//! The rules of the house that can be checked by reading files. Each file here is one rule, or a
//! few about the same thing; each rule is a function from what was read to its violations.

mod dependencies;
mod error_pages;
mod files;
mod lexer;
mod limits_page;
mod migrations;
mod placement;
mod source;

use std::fmt;
use std::path::Path;

use self::source::Source;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Relative to the repository.
    path: String,
    /// Counts from 1.
    line: usize,
    rule: &'static str,
    /// What to do about it.
    advice: String,
}

impl Violation {
    fn new(path: &str, line: usize, rule: &'static str, advice: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, advice: advice.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.advice)
    }
}

/// Checks a whole repository.
pub(crate) fn run(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let mut violations = dependencies::check(root)?;
    violations.extend(migrations::check(root)?);
    violations.extend(error_pages::check(root)?);
    violations.extend(limits_page::check(root)?);
    for source in Source::read_all(root)? {
        violations.extend(placement::sql(&source));
        violations.extend(placement::unsafe_code(&source));
        violations.extend(placement::environment(&source));
        violations.extend(files::name(&source));
        violations.extend(files::length(&source));
    }
    violations.sort();
    Ok(violations)
}
