//! Logs of the server itself, on standard error.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` chooses what; by default everything from `info` up.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy()
        // sqlx logs each slow statement with its text; that is for whoever asks for it.
        .add_directive("sqlx=warn".parse().expect("a constant directive is well formed"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Says why the program ends. Standard error may be gone; then the exit code has to do.
pub fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "picloud: {error:#}");
}
