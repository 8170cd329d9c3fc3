//! Every error code has its page, and every page its code.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

use super::Violation;

const FAULT: &str = "crates/shared/src/fault.rs";
const PAGES: &str = "docs/errors";

/// Compares `fault.rs` with `docs/errors/`.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let source = std::fs::read_to_string(root.join(FAULT)).with_context(|| format!("cannot read {FAULT}"))?;
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(root.join(PAGES)).with_context(|| format!("cannot list {PAGES}"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(code) = name.strip_suffix(".md").filter(|code| *code != "README") {
            pages.insert(code.to_owned(), std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(compare(&codes(&source), &pages))
}

/// A line of the table in `fault.rs`.
struct Row<'a> {
    line: usize,
    code: &'a str,
    status: &'a str,
    title: &'a str,
}

/// The rows `Variant "code" 404 Blame retry "Title";`.
fn codes(source: &str) -> Vec<Row<'_>> {
    (1..)
        .zip(source.lines())
        .filter_map(|(line, text)| {
            let parts: Vec<&str> = text.trim().strip_suffix("\";")?.split('"').collect();
            let [_, code, middle, title] = parts.as_slice() else { return None };
            let status = middle.split_whitespace().next()?;
            status.parse::<u16>().ok()?;
            Some(Row { line, code, status, title })
        })
        .collect()
}

fn compare(codes: &[Row<'_>], pages: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if codes.is_empty() {
        violations.push(Violation::new(
            FAULT,
            1,
            "error page",
            "found no codes here: teach xtask the new form",
        ));
    }
    for Row { line, code, status, title } in codes {
        let page = format!("{PAGES}/{code}.md");
        let Some(text) = pages.get(*code) else {
            let advice = format!("write {page}: what {code} means and what to do");
            violations.push(Violation::new(FAULT, *line, "error page", advice));
            continue;
        };
        for (what, part) in [
            ("heading", format!("# {code}")),
            ("title", (*title).to_owned()),
            ("status", (*status).to_owned()),
        ] {
            if !text.contains(&part) {
                violations.push(Violation::new(&page, 1, "error page", format!("lacks the {what} {part:?}")));
            }
        }
    }
    for code in pages.keys().filter(|code| codes.iter().all(|row| row.code != *code)) {
        let advice = format!("{FAULT} has no code {code}: remove the page");
        violations.push(Violation::new(&format!("{PAGES}/{code}.md"), 1, "error page", advice));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "codes! {\n    NotFound \"not_found\" 404 Caller safe \"There is nothing here\";\n}\n";

    fn pages(name: &str, text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), text.to_owned())])
    }

    #[test]
    fn a_whole_page_passes() {
        let page = "# not_found\n\nThere is nothing here.\n\n404\n";
        assert_eq!(compare(&codes(TABLE), &pages("not_found", page)), []);
    }

    #[test]
    fn a_code_without_a_page_is_found_at_its_line() {
        let violations = compare(&codes(TABLE), &BTreeMap::new());
        assert_eq!((violations.len(), violations[0].line), (1, 2));
    }

    #[test]
    fn a_page_that_disagrees_or_has_no_code_is_found() {
        let violations = compare(&codes(TABLE), &pages("not_found", "# not_found\n\nGone.\n\n410\n"));
        assert_eq!(violations.len(), 2, "title and status");
        let mut stale = pages("not_found", "# not_found\n\nThere is nothing here.\n\n404\n");
        stale.insert("gone".to_owned(), String::new());
        assert_eq!(compare(&codes(TABLE), &stale).len(), 1);
    }
}
