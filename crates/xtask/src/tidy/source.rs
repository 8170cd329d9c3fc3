//! The repository's Rust files, read once for all rules.

use std::path::Path;

use anyhow::Context;

use super::lexer::{Lexed, lex};

/// Directories with Rust code of ours.
const ROOTS: [&str; 2] = ["crates", "sandbox-wasm"];

/// A Rust file.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the repository, with slashes.
    pub(super) path: String,
    pub(super) lexed: Lexed,
    /// Lines before the tests at the end of the file; 0 for a file of tests.
    pub(super) production_lines: usize,
}

impl Source {
    pub(super) fn new(path: impl Into<String>, text: &str) -> Self {
        let path = path.into();
        let lexed = lex(text);
        let is_test = path.split('/').any(|part| matches!(part, "tests" | "tests.rs" | "benches"));
        let production_lines = if is_test { 0 } else { lines_before_tests(&lexed.code) };
        Self { path, lexed, production_lines }
    }

    /// Every Rust file of the repository.
    pub(super) fn read_all(root: &Path) -> anyhow::Result<Vec<Self>> {
        let mut sources = Vec::new();
        for directory in ROOTS {
            read_below(root, &root.join(directory), &mut sources)?;
        }
        Ok(sources)
    }

    /// The lines of code before the tests, with their numbers from 1.
    pub(super) fn production_code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.lexed.code.lines()).take(self.production_lines)
    }

    /// The string literals before the tests, with their lines.
    pub(super) fn production_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lexed
            .strings
            .iter()
            .filter(|(line, _)| *line <= self.production_lines)
            .map(|(line, text)| (*line, text.as_str()))
    }
}

fn read_below(root: &Path, directory: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                read_below(root, &path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let relative = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
            sources.push(Source::new(relative, &text));
        }
    }
    Ok(())
}

/// Lines before an inline test module that stands at the file's outermost level.
fn lines_before_tests(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().collect();
    let is_test_module = |pair: &[&str]| {
        let [attribute, item] = pair else { return false };
        attribute.starts_with("#[cfg(")
            && (attribute.contains("(test)") || attribute.contains("(test,"))
            && item.contains("mod ")
            && item.ends_with('{')
    };
    lines.windows(2).position(is_test_module).unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_at_the_end_are_not_production() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    const SQL: &str = \"x\";\n}\n";
        let source = Source::new("crates/a/src/lib.rs", text);
        assert_eq!(source.production_lines, 2);
        assert_eq!(source.production_strings().count(), 0);
    }

    #[test]
    fn a_declared_test_module_ends_nothing() {
        let source = Source::new("crates/a/src/lib.rs", "#[cfg(test)]\nmod fake;\nfn a() {}\n");
        assert_eq!(source.production_lines, 3);
    }

    #[test]
    fn a_file_of_tests_has_no_production_lines() {
        assert_eq!(Source::new("crates/a/tests/b.rs", "fn a() {}\n").production_lines, 0);
    }
}
