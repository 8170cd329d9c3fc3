//! `picloud doctor`: what holds on this machine, what does not, and what to do about it.
//!
//! Nothing is guessed where it can be tried: the walls are those around a worker that is started
//! for the purpose, the same way as any other.

mod database;
mod jail;
mod landlock;
mod machine;
mod mail;
mod neighbours;
mod tenants;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orchestrator_core::pool::{self, Controllers, Mode, PoolConfig, Ungrouped};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;

use crate::config::Config;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Holds,
    /// Worth knowing: less than there could be, though PiCloud needs no more, or not known.
    Note,
    /// PiCloud runs, with less between scripts and the machine than there could be.
    Degraded,
    /// PiCloud cannot run.
    Fails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// How long it took, in microseconds, where that is what was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_us: Option<u64>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { name, verdict, found: found.into(), advice: None, time_us: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    fn taking(self, time: Duration) -> Self {
        Self { time_us: u64::try_from(time.as_micros()).ok(), ..self }
    }
}

/// All checks, and the worst of their verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    pub version: &'static str,
    pub verdict: Verdict,
    pub checks: Vec<Check>,
}

impl Report {
    pub fn can_run(&self) -> bool {
        self.verdict != Verdict::Fails
    }

    fn summary(&self) -> String {
        match self.verdict {
            Verdict::Holds => {
                "Everything that PiCloud can put between scripts and this machine holds.".to_owned()
            }
            Verdict::Note => {
                let noted = self.checks.iter().filter(|check| check.verdict == Verdict::Note);
                let names: Vec<_> = noted.map(|check| check.name).collect();
                format!(
                    "PiCloud runs here. What is marked note is less than there could be, or not known: {}.",
                    names.join(", ")
                )
            }
            Verdict::Degraded => {
                "PiCloud runs here. What is marked DEGRADED should be mended before strangers' scripts run."
                    .to_owned()
            }
            Verdict::Fails => "PiCloud cannot run here until what is marked FAILS is mended.".to_owned(),
        }
    }

    fn new(checks: Vec<Check>) -> Self {
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Holds);
        Self { version: env!("CARGO_PKG_VERSION"), verdict, checks }
    }
}

/// What a server that runs knows, and who only starts `picloud doctor` cannot see.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// By what the kernel limits the workers' control groups, or why they have none.
    pub grouping: Result<&'a Controllers, Ungrouped>,
    pub database: &'a PgConnectOptions,
}

/// Looks at everything, in or beside a server that runs.
pub async fn examine(config: &Config, running: Option<Running<'_>>) -> Report {
    let mut checks = machine::kernel();
    if running.is_none() {
        checks.push(judged());
    }
    let worker = worker(config);
    let slots = worker.slots_per_worker;
    let probe = pool::probe(worker).await;
    let isolation = probe.as_ref().ok().map(|probe| probe.isolation);
    checks.push(tenants::check(config, isolation));
    checks.extend(jail::checks(&probe, slots, executor_core::jail::landlock_version()));
    checks.extend(neighbours::checks(config.isolation, isolation));
    checks.push(machine::control_groups(config.isolation, running.map(|running| running.grouping)));
    checks.extend(database::checks(config, running.map(|running| running.database)).await);
    checks.extend(mail::check(config).await);
    checks.push(machine::clock());
    checks.push(machine::disk(&config.data_dir));
    Report::new(checks)
}

/// A service has its own user and control group, which whoever looks from a shell does not see.
fn judged() -> Check {
    let found =
        format!("what this command's user and control group get; a running server says its own by {ASKED}");
    Check::new("judged", Verdict::Holds, found)
}

/// How a server that runs is asked for its own report.
const ASKED: &str = "GET /api/v1/admin/system/isolation";

/// A worker as `serve` starts it, down to the pages that its code is on; only its control group is looked at by
/// itself. Where no walls are wanted it has those that could be.
fn worker(config: &Config) -> PoolConfig {
    let mode = if config.isolation.has_walls() { config.isolation } else { Mode::default() };
    let worker = PoolConfig {
        guest: executor_core::publish_guest().ok().map(Arc::new),
        has_zygote: true,
        ..PoolConfig::new(PathBuf::from("/proc/self/exe"), 1, config.slots_per_worker)
    };
    worker.isolated(mode)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut given = Vec::new();
        for check in &self.checks {
            let mark = match check.verdict {
                Verdict::Holds => "ok      ",
                Verdict::Note => "note    ",
                Verdict::Degraded => "DEGRADED",
                Verdict::Fails => "FAILS   ",
            };
            writeln!(f, "{mark}  {:width$}  {}", check.name, check.found)?;
            if let Some(advice) = &check.advice {
                let text = if given.contains(&advice) { "as above" } else { advice };
                writeln!(f, "{:8}  {:width$}  -> {text}", "", "")?;
                given.push(advice);
            }
        }
        write!(f, "\n{}\n", self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_is_the_reports() {
        let report = Report::new(vec![
            Check::new("a", Verdict::Degraded, "x").advise("y"),
            Check::new("b", Verdict::Holds, "z"),
        ]);
        assert_eq!(report.verdict, Verdict::Degraded);
        assert!(report.can_run());
        let text = report.to_string();
        assert!(text.contains("DEGRADED  a  x\n") && text.contains("-> y\n"), "{text}");
        assert!(!Report::new(vec![Check::new("a", Verdict::Fails, "x")]).can_run());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][0]["verdict"], "degraded");
    }

    #[test]
    fn the_summary_says_that_everything_holds_only_where_nothing_is_noted_and_else_what_is() {
        let summary = |checks: &[(&'static str, Verdict)]| {
            let checks = checks.iter().map(|(name, verdict)| Check::new(name, *verdict, "x")).collect();
            let text = Report::new(checks).to_string();
            text.lines().next_back().unwrap_or_default().to_owned()
        };
        let holds = ("kernel", Verdict::Holds);
        let everything = "Everything that PiCloud can put between scripts and this machine holds.";
        assert_eq!(summary(&[holds]), everything);
        let noted = summary(&[("isolation", Verdict::Note), holds, ("side channels", Verdict::Note)]);
        assert!(!noted.contains("holds"), "{noted}");
        assert!(noted.ends_with("or not known: isolation, side channels."), "{noted}");
        for (verdict, word) in [(Verdict::Degraded, "DEGRADED"), (Verdict::Fails, "FAILS")] {
            let bad = summary(&[holds, ("isolation", Verdict::Note), ("control groups", verdict)]);
            assert!(bad.contains(word) && !bad.contains("holds"), "{bad}");
        }
    }
}
