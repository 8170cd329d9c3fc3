//! Whoever escapes from the sandbox runs native code in a worker. Each test starts real workers
//! that do just that, behind all walls or behind one alone, and expects that the wall holds.
//!
//! Without walls the same attacks succeed: that is tested too, because an attack that fails by
//! itself proves nothing. What this machine cannot put up is skipped, loudly; `make torture`
//! prints every row.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]
#![forbid(unsafe_code)]

mod alone;
mod needed;
mod resources;
mod secrets;
mod sibling;
mod start;
mod surroundings;
mod together;
mod worker;

use shared::wire::worker::Layers;

use self::sibling::Sibling;
use self::worker::Hostile;

/// An attack, the layers it meets, and what must come of it.
struct Row<'a> {
    attack: &'a str,
    target: &'a str,
    layers: Layers,
    expected: &'a str,
}

impl Row<'_> {
    /// What came of it; nothing when this machine cannot put up the layers.
    fn run(&self) -> Option<String> {
        let hostile = Hostile::start(self.layers, self.attack, self.target);
        let missing = self.layers.without(hostile.held);
        if missing != Layers::NONE {
            eprintln!("SKIPPED: {} needs {missing}, which this machine or this user lacks", self.attack);
            return None;
        }
        Some(hostile.seen())
    }
}

/// Runs all rows, prints them, and fails if one came out otherwise or an honest worker noticed.
#[track_caller]
fn expect_all(rows: &[Row<'_>]) {
    let mut surprises = Vec::new();
    let mut sibling = Sibling::start();
    for row in rows {
        let Some(seen) = row.run() else {
            continue;
        };
        sibling.is_well();
        let walls = describe(row.layers);
        eprintln!("| {:<22} | {walls:<58} | {:<12} | {seen:<12} |", row.attack, row.expected);
        if seen != row.expected {
            surprises.push(format!("{} behind {walls}: expected {}, seen {seen}", row.attack, row.expected));
        }
    }
    eprintln!("| {:<22} | {:<58} | {:<12} | {:<12} |", "the sibling", "beside all of these", "well", "well");
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// Few layers by name, many by what is missing.
fn describe(layers: Layers) -> String {
    let missing = Layers::ALL.without(layers);
    match (layers.names().count(), missing.names().count()) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        (held, gone) if gone < held => format!("all but {missing}"),
        _ => layers.to_string(),
    }
}
