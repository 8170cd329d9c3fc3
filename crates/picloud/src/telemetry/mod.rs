//! Logs of the server itself, on standard error, and its traces, for a collector.

pub mod otlp;

use std::io::{IsTerminal, Write};
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    /// An object, for programs: the fields of the event, of the request it belongs to, and no colour.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Starts logging. `RUST_LOG` chooses what; by default everything from `info` up.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy()
        // sqlx logs each slow statement with its text; that is for whoever asks for it.
        .add_directive("sqlx=warn".parse().expect("a constant directive is well formed"));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            logging.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
        }
        LogFormat::Json => logging.json().flatten_event(true).with_span_list(false).init(),
    }
}

/// Says why the program ends. Standard error may be gone; then the exit code has to do.
pub fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "picloud: {error:#}");
}
