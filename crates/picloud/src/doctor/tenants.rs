//! How far apart tenants are kept: what the operator chose, and what it means.

use orchestrator_core::pool::Mode;

use super::{Check, Verdict};
use crate::config::Config;

const NAME: &str = "isolation";

pub(super) fn check(config: &Config) -> Check {
    match config.isolation {
        Mode::Shared => {
            Check::new(NAME, Verdict::Note, "shared: scripts of all owners meet in the same workers")
                .advise("unset PICLOUD_ISOLATION when apps have more than one owner")
        }
        Mode::Pinned => {
            let found =
                format!("pinned: a worker serves one owner's apps; up to {} at once", config.workers_max);
            Check::new(NAME, Verdict::Holds, found)
        }
        Mode::Strict => {
            let found = format!(
                "strict: a worker serves one app, one execution at a time; up to {} at once",
                config.workers_max
            );
            Check::new(NAME, Verdict::Holds, found)
        }
        Mode::Off => Check::new(NAME, Verdict::Degraded, "OFF: nothing below stands around a worker").advise(
            "unset PICLOUD_ISOLATION; a script that escapes its sandbox has everything this user has",
        ),
    }
}
