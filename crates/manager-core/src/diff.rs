//! What differs between two texts, or two sets of them, as a unified diff.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shared::script::Bundle;
use similar::TextDiff;

/// For all comparisons of one answer. Sources may be megabytes of whatever their authors like; after
/// this long the rest of a text counts as replaced, which is true, if not the shortest way to say it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// Texts by the names of their files.
pub(crate) type Files<'a> = BTreeMap<String, &'a str>;

/// The sources of a bundle, modules included.
pub(crate) fn files(bundle: &Bundle) -> Files<'_> {
    let modules = bundle.modules.iter().map(|module| (file_name(&module.name), module.source.as_str()));
    modules.chain([(file_name(&bundle.name), bundle.source.as_str())]).collect()
}

/// What a script is called in a diff.
pub(crate) fn file_name(script: &str) -> String {
    format!("{script}.rhai")
}

/// The diff of all files, empty when they are the same. What `patch` and reviewers read.
pub(crate) fn unified(from: &Files<'_>, to: &Files<'_>) -> String {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let until = deadline();
    let diffs = names.into_iter().map(|name| {
        let (from, to) = (from.get(name).copied(), to.get(name).copied());
        of_file(name, from, to, until)
    });
    diffs.collect()
}

/// The diff of one file; empty when it is the same.
pub(crate) fn of_file(name: &str, from: Option<&str>, to: Option<&str>, until: Instant) -> String {
    if from == to { String::new() } else { section(name, from, to, until) }
}

/// When the comparisons that begin now have to be done.
pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

fn section(name: &str, from: Option<&str>, to: Option<&str>, until: Instant) -> String {
    let side = |mark: &str, text: Option<&str>| match text {
        Some(_) => format!("{mark}/{name}"),
        None => "/dev/null".to_owned(),
    };
    let (old_name, new_name) = (side("a", from), side("b", to));
    let diff =
        TextDiff::configure().deadline(until).diff_lines(from.unwrap_or_default(), to.unwrap_or_default());
    diff.unified_diff().context_radius(CONTEXT_LINES).header(&old_name, &new_name).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files<'a>(list: &[(&str, &'a str)]) -> Files<'a> {
        list.iter().map(|(name, text)| ((*name).to_owned(), *text)).collect()
    }

    #[test]
    fn changed_new_and_removed_files_are_told_apart() {
        let from = files(&[("a.rhai", "1\n2\n3\n"), ("gone.rhai", "x\n"), ("same.rhai", "s\n")]);
        let to = files(&[("a.rhai", "1\n2!\n3\n"), ("new.rhai", "y\n"), ("same.rhai", "s\n")]);
        let expected = "--- a/a.rhai\n+++ b/a.rhai\n@@ -1,3 +1,3 @@\n 1\n-2\n+2!\n 3\n\
                        --- a/gone.rhai\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
                        --- /dev/null\n+++ b/new.rhai\n@@ -0,0 +1 @@\n+y\n";
        assert_eq!(unified(&from, &to), expected);
        assert_eq!(unified(&from, &from), "");
    }

    #[test]
    fn attack_a_text_made_to_be_slow_to_compare_takes_no_longer_than_allowed() {
        let lines =
            |step: usize| -> String { (0..60_000).map(|n| format!("{}\n", n * step % 50_021)).collect() };
        let (a, b) = (lines(7), lines(11));
        let began = Instant::now();
        assert!(!unified(&files(&[("a", &a)]), &files(&[("a", &b)])).is_empty());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn only_equal_texts_have_no_diff(a in "([ab]\n){0,6}", b in "([ab]\n){0,6}") {
            let diff = unified(&files(&[("f", &a)]), &files(&[("f", &b)]));
            prop_assert_eq!(diff.is_empty(), a == b);
            let count = |mark: char| diff.lines().skip(2).filter(|line| line.starts_with(mark)).count();
            prop_assert_eq!(a.lines().count() + count('+'), b.lines().count() + count('-'));
        }
    }
}
