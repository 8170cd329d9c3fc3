//! Names and lengths of files.

use super::Violation;
use super::source::Source;

/// Names that say nothing about what is inside, so that everything ends up there.
const DRAWERS: [&str; 5] = ["util", "utils", "common", "helper", "helpers"];
/// A file over this is two files.
const LINES_MAX: usize = 400;

/// A file or a folder is named for what is in it.
pub(super) fn name(source: &Source) -> Vec<Violation> {
    let parts = source.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    parts
        .filter(|part| DRAWERS.contains(part))
        .map(|part| {
            let advice =
                format!("{part} says nothing: name it for what is inside, or move that to its users");
            Violation::new(&source.path, 1, "name", advice)
        })
        .collect()
}

/// A file fits into a reader's head.
pub(super) fn length(source: &Source) -> Vec<Violation> {
    if source.production_lines <= LINES_MAX {
        return Vec::new();
    }
    let advice = format!(
        "{} lines without tests, at most {LINES_MAX}: split it along its nouns",
        source.production_lines
    );
    vec![Violation::new(&source.path, LINES_MAX + 1, "length", advice)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawer_is_found_as_file_and_as_folder() {
        assert_eq!(name(&Source::new("crates/a/src/util.rs", "")).len(), 1);
        assert_eq!(name(&Source::new("crates/a/tests/common/mod.rs", "")).len(), 1);
        assert_eq!(name(&Source::new("crates/a/src/utilisation.rs", "")).len(), 0);
    }

    #[test]
    fn only_lines_before_the_tests_count() {
        let short = "fn a() {}\n".repeat(400);
        let tests = format!("{short}#[cfg(test)]\nmod tests {{\n{short}}}\n");
        assert_eq!(length(&Source::new("crates/a/src/lib.rs", &tests)), []);
        let long = "fn a() {}\n".repeat(401);
        assert_eq!(length(&Source::new("crates/a/src/lib.rs", &long)).len(), 1);
    }
}
