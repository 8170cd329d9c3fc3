//! Section C of the catalogue of attacks: what one app, or somebody without the right, might get of another.
//! Numbers are those of `docs/attacks.md`; what is not here is in the file of what is attacked.

mod absence;
mod deputies;
mod names;
mod tokens;
mod zeros;

use serde::Serialize;
use shared::wire::codec;

/// A row of the table that `make torture` prints; the number is that of `docs/attacks.md`.
pub(crate) fn print_row(number: &str, name: &str, expected: &str, seen: &str) {
    eprintln!("| {number} {name:<22} | {expected:<48} | {seen} |");
}

/// The arguments of a call.
pub(crate) fn encoded<T: Serialize>(args: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_body(&mut bytes, args);
    bytes
}

/// One segment of a path, whatever is in it.
fn segment(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
