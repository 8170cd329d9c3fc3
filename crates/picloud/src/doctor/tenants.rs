//! How far apart tenants are kept: what the operator chose, and what it means.

use orchestrator_core::pool::{Isolation, Mode};
use shared::wire::worker::Layers;

use super::{Check, Verdict};
use crate::config::Config;

const NAME: &str = "isolation";

/// `isolation` is what a worker has here, if it starts at all.
pub(super) fn check(config: &Config, isolation: Option<Isolation>) -> Check {
    let missing = isolation.map_or(Layers::NONE, |isolation| isolation.lacking(config.isolation.needs()));
    if missing != Layers::NONE {
        let found = format!("{}: needs what a worker does not get here: {missing}", config.isolation);
        return Check::new(NAME, Verdict::Fails, found)
            .advise("see below for what would give it, or set PICLOUD_ISOLATION=pinned");
    }
    if isolation.is_none() && config.isolation.has_walls() {
        let found = format!("{}: unknown whether it holds, as no worker starts", config.isolation);
        return Check::new(NAME, Verdict::Note, found);
    }
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
