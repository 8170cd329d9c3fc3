//! Whether the mail server lets us in. Where none is set there is nothing to look at.

use std::time::Instant;

use super::{Check, Verdict};
use crate::config::Config;

pub(super) async fn check(config: &Config) -> Option<Check> {
    let server = config.mail_server.as_ref()?;
    let begun = Instant::now();
    Some(match server.probe().await {
        Ok(()) => Check::new("mail server", Verdict::Holds, format!("{server} would take mails"))
            .taking(begun.elapsed()),
        Err(error) => Check::new("mail server", Verdict::Note, format!("{server}: {error}"))
            .advise("scripts cannot send mail until this is mended: see docs/email.md"),
    })
}
