//! Embeds the error pages, and rebuilds when a migration is added, which the compiler cannot see.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    // Asked now and not when this was compiled: another checkout may have compiled it.
    let own =
        env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("cargo sets CARGO_MANIFEST_DIR"))?;
    let root = Path::new(&own).join("../..");
    let errors = root.join("docs/errors");
    println!("cargo::rerun-if-changed={}", root.join("migrations").display());
    println!("cargo::rerun-if-changed={}", errors.display());

    let mut pages: Vec<_> = fs::read_dir(&errors)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    // Codes are lower case, which the folder's README is not.
    pages.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_suffix(".md").is_some_and(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    });
    pages.sort();
    let mut table = String::from("const ERROR_PAGES: &[(&str, &str)] = &[\n");
    for path in &pages {
        let code = path.file_stem().unwrap_or_default().to_string_lossy();
        let path = path.canonicalize()?;
        writeln!(table, "({code:?}, include_str!({path:?})),").map_err(io::Error::other)?;
    }
    table.push_str("];\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("error_pages.rs"), table)
}
