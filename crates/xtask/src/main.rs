//! Checks that no compiler makes: `cargo run -p xtask -- tidy`, and `-- guest` for the size of the guest.
#![forbid(unsafe_code)]

mod guest;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this program's output is its purpose")]
fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let is_well = match std::env::args().nth(1).as_deref() {
        Some("tidy") => {
            let violations = tidy::run(&root)?;
            for violation in &violations {
                println!("{violation}");
            }
            violations.is_empty()
        }
        Some("guest") => {
            let growth = guest::Growth::measure(&root)?;
            println!("{growth}");
            growth.is_allowed()
        }
        _ => {
            eprintln!("usage: cargo run -p xtask -- tidy | guest");
            return Ok(ExitCode::from(2));
        }
    };
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
