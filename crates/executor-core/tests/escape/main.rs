//! Whoever escapes from the sandbox runs native code in a worker. Each test starts real workers
//! that do just that, behind all walls or behind one alone, and expects that the wall holds.
//!
//! Without walls the same attacks succeed: that is tested too, because an attack that fails by
//! itself proves nothing. What this machine cannot put up is skipped, loudly, and what it can is demanded;
//! `make torture` prints every row.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails, and says why")]
#![forbid(unsafe_code)]

mod alone;
mod demanded;
mod needed;
mod repeatable;
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

    /// The same in a copy of a zygote, behind those of the layers that such a worker puts up, which it answers too; nothing
    /// when there are none.
    fn run_in_copy(&self) -> Option<(Layers, String)> {
        let layers = usual(self.layers);
        if layers == Layers::NONE && self.layers != Layers::NONE {
            return None;
        }
        let hostile = Hostile::copy(layers, self.attack, self.target);
        let missing = layers.without(hostile.held);
        // The one that was started by itself has them.
        let seen = if missing == Layers::NONE { hostile.seen() } else { format!("no {missing}") };
        Some((layers, seen))
    }
}

/// Without what only workers have that are started by themselves, in strict isolation.
fn usual(layers: Layers) -> Layers {
    layers.without(Layers::ALL.without(Layers::USUAL))
}

/// Runs all rows, prints them, and fails if one came out otherwise or an honest worker noticed.
#[track_caller]
fn expect_all(rows: &[Row<'_>]) {
    expect_all_beside(&mut Sibling::start(), rows);
}

/// The same beside this honest worker, which is asked before, during and after each of them.
#[track_caller]
fn expect_all_beside(sibling: &mut Sibling, rows: &[Row<'_>]) {
    let mut surprises = Vec::new();
    sibling.is_well();
    for row in rows {
        let Some(seen) = sibling.beside(|| row.run()) else {
            continue;
        };
        let copy = sibling.beside(|| row.run_in_copy());
        let copy = copy.map(|(layers, seen)| (format!("{}; a copy", describe(layers)), seen));
        for (walls, seen) in [Some((describe(row.layers), seen)), copy].into_iter().flatten() {
            print_row(row.attack, &walls, row.expected, &seen);
            if seen != row.expected {
                let Row { attack, expected, .. } = row;
                surprises.push(format!("{attack} behind {walls}: expected {expected}, seen {seen}"));
            }
        }
    }
    sibling.is_well();
    print_row("the sibling", "beside all of these", "well", &sibling.to_string());
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

/// A row of the table that `make torture` prints.
fn print_row(attack: &str, walls: &str, expected: &str, seen: &str) {
    let number = number_of(attack);
    eprintln!("| {number:<2} {attack:<22} | {walls:<58} | {expected:<12} | {seen:<12} |");
}

/// The numbers of `docs/attacks.md`. What is aimed at other processes has its target in its name.
const NUMBERS: &[(&str, &[&str])] = &[
    ("39", &["socket-inet", "socket-unix", "socket-netlink", "socket-vsock", "connect-on-the-socket"]),
    ("39", &["connect-tcp", "connect-abstract", "pass-a-descriptor", "io-uring"]),
    ("39", &["send-out-of-band", "receive-out-of-band"]),
    ("40", &["open-passwd", "open-environment", "open-memory-of-1", "open-own-memory", "create-file"]),
    ("40", &["openat2", "name-to-handle", "open-by-handle"]),
    ("42", &["fork", "thread", "clone3", "execute"]),
    ("43", &["map-executable", "make-executable", "overwrite-code", "change-key-of-code", "move-code"]),
    ("43", &["unmap-code", "personality", "execute-from-memory"]),
    ("44", &["search-memory"]),
    ("46", &["more-descriptors", "descriptors"]),
    ("49", &["stop-oneself", "spin", "run-in-real-time", "raise-priority"]),
    ("50", &["exhaust-memory", "exhaust-stacks", "exhaust-tables", "exhaust-huge-pages"]),
    ("51", &["meet-on-a-core"]),
    ("52", &["talk-to-nobody"]),
];

/// A dash for what has no number.
fn number_of(attack: &str) -> &'static str {
    if attack.ends_with("-parent") || attack.ends_with("-sibling") {
        return "41";
    }
    NUMBERS.iter().find(|(_, attacks)| attacks.contains(&attack)).map_or("–", |(number, _)| *number)
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
