//! Every limit is on the page about limits.

use std::path::Path;

use anyhow::Context;

use super::Violation;
use super::source::Source;

const PAGE: &str = "docs/limits.md";
/// The folder of limits. Those of other folders are on the page too, but not always by name.
const LIMITS: &str = "crates/shared/src/limits";

/// Constants that nobody looks for on the page, each with the reason.
const UNNAMED: [(&str, &str); 1] = [("FUEL_PER_US", "a measure by which fuel is counted, and no limit")];

/// Compares the folder with the page.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let page = std::fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(root.join(LIMITS)).with_context(|| format!("cannot list {LIMITS}"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path())?;
            sources.push(Source::new(format!("{LIMITS}/{name}"), &text));
        }
    }
    Ok(compare(&sources, &page))
}

fn compare(sources: &[Source], page: &str) -> Vec<Violation> {
    let limits: Vec<_> = sources.iter().flat_map(constants).collect();
    let mut violations = Vec::new();
    for (path, line, name) in &limits {
        if !is_named(page, name) && UNNAMED.iter().all(|(unnamed, _)| unnamed != name) {
            let advice = format!("write on {PAGE} what `{name}` bounds and what happens there");
            violations.push(Violation::new(path, *line, "limits page", advice));
        }
    }
    if limits.is_empty() {
        let advice = "found no constants here: teach xtask the new form";
        violations.push(Violation::new(LIMITS, 1, "limits page", advice));
    }
    for (name, _) in UNNAMED {
        if is_named(page, name) || limits.iter().all(|(_, _, limit)| *limit != name) {
            let advice = format!("{name} is on {PAGE} or is gone: take it off the list of exceptions");
            violations.push(Violation::new(LIMITS, 1, "limits page", advice));
        }
    }
    violations
}

/// As code, so that one constant's name within another's is not taken for it.
fn is_named(page: &str, name: &str) -> bool {
    page.contains(&format!("`{name}`"))
}

/// The public constants of a file, each with its path and line.
fn constants(source: &Source) -> impl Iterator<Item = (&str, usize, &str)> {
    source.production_code().filter_map(move |(line, code)| {
        let (name, _) = code.trim_start().strip_prefix("pub const ")?.split_once(':')?;
        // Two words begin a function.
        (!name.contains(' ')).then_some((source.path.as_str(), line, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_OF_ALL: &str = "| requests | 9 | `REQUESTS_MAX` |\n| bytes | 8 | `REQUEST_BYTES_MAX` |\n";

    fn limits(text: &str) -> Vec<Source> {
        let text = format!("pub const FUEL_PER_US: u64 = 1;\n{text}");
        vec![Source::new("crates/shared/src/limits/mod.rs", &text)]
    }

    fn found(sources: &[Source], page: &str) -> Vec<(usize, String)> {
        compare(sources, page).into_iter().map(|violation| (violation.line, violation.advice)).collect()
    }

    #[test]
    fn limits_that_are_all_named_pass_and_so_does_what_is_private_or_of_tests() {
        let sources = limits(
            "pub const REQUESTS_MAX: u32 = 9;\n/// `pub const GONE: u32 = 1;`\npub const REQUEST_BYTES_MAX: usize =\n    8;\n\
             pub const fn twice(of: u32) -> u32 {\n    2 * of\n}\n\
             const HIDDEN_MAX: u32 = 7;\n\n#[cfg(test)]\nmod tests {\n    pub const TEST_MAX: u32 = 6;\n}\n",
        );
        assert_eq!(found(&sources, PAGE_OF_ALL), []);
    }

    #[test]
    fn a_limit_that_the_page_does_not_name_is_found_at_its_line() {
        let sources = limits("pub const REQUESTS_MAX: u32 = 9;\npub const BYTES_MAX: usize = 8;\n");
        let found = found(&sources, PAGE_OF_ALL);
        assert_eq!(found.len(), 1, "a part of REQUEST_BYTES_MAX is no name: {found:?}");
        assert!(found[0].0 == 3 && found[0].1.contains("`BYTES_MAX`"), "{found:?}");
    }

    #[test]
    fn an_exception_that_is_none_any_more_is_found() {
        assert_eq!(found(&limits(""), "`FUEL_PER_US`").len(), 1, "it is on the page");
        let others = [Source::new("crates/shared/src/limits/mod.rs", "pub const REQUESTS_MAX: u32 = 9;\n")];
        assert_eq!(found(&others, PAGE_OF_ALL).len(), 1, "it is gone");
    }

    #[test]
    fn a_folder_without_constants_is_found() {
        assert!(!found(&[], PAGE_OF_ALL).is_empty());
    }
}
