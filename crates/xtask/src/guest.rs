//! What the SDK adds to the guest's image: `cargo run -p xtask -- guest`.
//!
//! The guest is built with the SDK and without it, by the same flags; the difference is the SDK's. The module is
//! measured as it is built, before it is made to count its fuel; its image is what its start-up leaves in memory,
//! with all that it allocates: each slot has one, and it is what is put back after an execution.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Most that the SDK may add to the module, in KiB. `docs/benchmarks.md` says what takes how much of it.
const GROWTH_KIB_MAX: u64 = 800;
/// Most that it may add to the memory image, in KiB.
const IMAGE_GROWTH_KIB_MAX: u64 = 512;
/// Runs the start-up, in the engine of Node.js: that of the workers has no compiler.
const START_UP: &str = "crates/xtask/src/image.mjs";
/// Of a module's sections, by their numbers in the binary format.
const CODE: u8 = 10;
const DATA: u8 = 11;
/// Magic number and version.
const PREAMBLE_BYTES: usize = 8;

/// The sizes of a module, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sizes {
    whole: u64,
    code: u64,
    data: u64,
    /// Memory after its start-up, its stack included.
    image: u64,
    /// What of that is not zero, in whole pages of 4 KiB.
    written: u64,
}

/// Of the sizes, the one that a row is about.
type Part = fn(&Sizes) -> u64;

/// How large the guest is with and without the SDK.
pub(crate) struct Growth {
    with: Sizes,
    without: Sizes,
}

impl Growth {
    /// Builds both, which takes minutes.
    pub(crate) fn measure(root: &Path) -> anyhow::Result<Self> {
        Ok(Self { with: build(root, &[])?, without: build(root, &["--no-default-features"])? })
    }

    pub(crate) fn is_allowed(&self) -> bool {
        self.added(|sizes| sizes.whole) <= GROWTH_KIB_MAX * 1024
            && self.added(|sizes| sizes.image) <= IMAGE_GROWTH_KIB_MAX * 1024
    }

    /// What the SDK adds, in bytes.
    fn added(&self, of: Part) -> u64 {
        of(&self.with).saturating_sub(of(&self.without))
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: [(&str, Part); 6] = [
            ("whole module", |sizes| sizes.whole),
            ("code and data", |sizes| sizes.code + sizes.data),
            ("code", |sizes| sizes.code),
            ("data", |sizes| sizes.data),
            ("memory image", |sizes| sizes.image),
            ("of that, not zero", |sizes| sizes.written),
        ];
        writeln!(f, "| bytes of the guest | with the SDK | without | the SDK |\n|---|---|---|---|")?;
        for (name, of) in rows {
            let (with, without) = (of(&self.with), of(&self.without));
            let kib = self.added(of) as f64 / 1024.0;
            writeln!(f, "| {name} | {with} | {without} | {kib:.0} KiB |")?;
        }
        write!(
            f,
            "allowed: {IMAGE_GROWTH_KIB_MAX} KiB of the memory image, {GROWTH_KIB_MAX} KiB of the whole module"
        )
    }
}

fn build(root: &Path, options: &[&str]) -> anyhow::Result<Sizes> {
    let guest = root.join("sandbox-wasm");
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--target-dir", "target"])
        .args(options)
        .current_dir(&guest)
        // Its flags are in its own configuration.
        .env_remove("RUSTFLAGS")
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the guest does not build");
    let path = guest.join("target/wasm32-unknown-unknown/release/sandbox_wasm.wasm");
    let module = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (image, written) = image(root, &path)?;
    Ok(Sizes { image, written, ..sizes(&module)? })
}

/// How much memory a module has after its start-up, and how much of it is not zero.
fn image(root: &Path, module: &Path) -> anyhow::Result<(u64, u64)> {
    let output = Command::new("node")
        .arg(root.join(START_UP))
        .arg(module)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run node: install Node.js 20")?;
    ensure!(output.status.success(), "the guest's start-up fails");
    let printed = String::from_utf8(output.stdout)?;
    let (image, written) = printed.trim().split_once(' ').context("two numbers are missing")?;
    Ok((image.parse()?, written.parse()?))
}

fn sizes(wasm: &[u8]) -> anyhow::Result<Sizes> {
    let mut sizes = Sizes { whole: wasm.len() as u64, ..Sizes::default() };
    let mut rest = wasm.get(PREAMBLE_BYTES..).context("no module")?;
    while let Some((id, after)) = rest.split_first() {
        let (length, after) = number(after).context("a section without a length")?;
        let end = usize::try_from(length).ok().filter(|end| *end <= after.len());
        rest = &after[end.context("a section beyond the end")?..];
        match *id {
            CODE => sizes.code = length,
            DATA => sizes.data = length,
            _ => {}
        }
    }
    Ok(sizes)
}

/// An unsigned number in LEB128, and what is behind it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(5).position(|byte| *byte < 0x80)?;
    let (number, rest) = bytes.split_at(end + 1);
    Some((number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_the_sum_of_its_sections() {
        let long = [&[CODE, 0x80, 0x01][..], &[0; 128]].concat();
        let module = [b"\0asm\x01\0\0\0", &long[..], &[DATA, 2, 0, 0], &[0, 1, 0]].concat();
        let expected = Sizes { whole: 146, code: 128, data: 2, ..Sizes::default() };
        assert_eq!(sizes(&module).unwrap(), expected);
        assert!(sizes(&module[..20]).is_err());
    }

    #[test]
    fn only_what_is_over_the_bound_is_refused() {
        let growth = |of_module, of_image| Growth {
            with: Sizes {
                whole: 100 + GROWTH_KIB_MAX * 1024 + of_module,
                image: 100 + IMAGE_GROWTH_KIB_MAX * 1024 + of_image,
                ..Sizes::default()
            },
            without: Sizes { whole: 100, image: 100, ..Sizes::default() },
        };
        assert!(growth(0, 0).is_allowed());
        assert!(!growth(1, 0).is_allowed() && !growth(0, 1).is_allowed());
    }
}
