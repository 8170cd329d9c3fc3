//! What a worker's memory holds of its parent's.

use std::hash::{BuildHasher, RandomState};
use std::process::Command;

use shared::wire::worker::Layers;

use super::{Hostile, Sibling, print_row};

const EXPECTED: &str = "0 hits, search works";

#[test]
fn no_secret_of_the_parent_is_in_a_worker() {
    // Random enough, and different in every run; its complement in hexadecimal is the question.
    let secret: String = format!("canary-{:032x}", entropy());
    let question: String = secret.bytes().map(|byte| format!("{:02x}", !byte)).collect();
    // Reading its own memory by name needs files and descriptors; the rest is up.
    let walls = Layers::NO_NEW_PRIVILEGES.names().collect::<Vec<_>>().join(",");
    let hostile = |way: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hostile-worker"));
        let parent = std::process::id().to_string();
        command.args(way).args([&parent, &walls, "search-memory", &question]);
        command
            .env("PICLOUD_SECRET_KEY", &secret)
            .env("DATABASE_URL", format!("postgres://picloud:{secret}@db/picloud"));
        command
    };
    let mut sibling = Sibling::start();
    let seen = sibling.beside(|| Hostile::spawn(hostile(&["become"])).seen());
    let copy = sibling.beside(|| Hostile::copy_of(hostile(&["become", "copy"])).seen());
    sibling.is_well();
    print_row("search-memory", "for what the parent's environment holds", EXPECTED, &seen);
    print_row("search-memory", "for the same; a copy", EXPECTED, &copy);
    print_row("the sibling", "beside that", "well", &sibling.to_string());
    assert_eq!([seen, copy], [EXPECTED, EXPECTED]);
}

/// Two draws of what seeds the standard library's hash maps.
fn entropy() -> u128 {
    let draw = || u128::from(RandomState::new().hash_one(0));
    draw() << 64 | draw()
}
