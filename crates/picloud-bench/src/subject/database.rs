//! What PiCloud asks of its PostgreSQL, counted from outside with `psql`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::process;

/// Where the superuser's password is.
const PASSWORD_FILE: &str = "postgres-password";

#[derive(Debug)]
pub(crate) struct Database {
    psql: PathBuf,
    socket_dir: String,
    port: String,
    password: String,
}

/// Counters of the database `picloud`; they only grow, `busy_sessions` excepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Activity {
    /// The database's clock, in seconds since 1970.
    pub(crate) now: f64,
    /// Transactions of anybody, PostgreSQL's own housekeeping included.
    pub(crate) transactions: f64,
    /// Sessions opened so far.
    pub(crate) sessions: f64,
    pub(crate) rows_inserted: f64,
    /// Sessions whose last statement began later than was asked for.
    pub(crate) busy_sessions: f64,
}

impl Database {
    /// Finds the server among the processes that belong to it: its command line says where it listens.
    pub(crate) fn find(processes: &[u32], data_dir: &Path) -> anyhow::Result<Self> {
        let server = processes
            .iter()
            .map(|pid| process::command_line(*pid))
            .find(|words| words.first().is_some_and(|program| program.ends_with("/postgres")));
        let words = server.context("PiCloud runs no PostgreSQL")?;
        let setting = |name: &str| {
            let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.with_context(|| format!("PostgreSQL runs without {name}"))
        };
        let beside = Path::new(&words[0]).with_file_name("psql");
        let password = std::fs::read_to_string(data_dir.join(PASSWORD_FILE))
            .context("cannot read the password of PostgreSQL")?;
        Ok(Self {
            psql: if beside.is_file() { beside } else { PathBuf::from("psql") },
            socket_dir: setting("unix_socket_directories")?.trim_matches('"').to_owned(),
            port: setting("port")?.to_owned(),
            password: password.trim().to_owned(),
        })
    }

    /// Where a program of ours finds it.
    pub(crate) fn url(&self) -> String {
        let Self { socket_dir, port, password, .. } = self;
        format!("postgres://postgres:{password}@localhost:{port}/picloud?host={socket_dir}")
    }

    /// The counters now; sessions are busy that began a statement after `since`.
    pub(crate) fn activity(&self, since: f64) -> anyhow::Result<Activity> {
        parse(&self.psql("postgres", include_str!("activity.sql"), &format!("since={since}"))?)
    }

    /// Sessions that PiCloud has open now.
    pub(crate) fn open_sessions(&self) -> anyhow::Result<usize> {
        let count = self.psql("postgres", include_str!("open_sessions.sql"), "unused=0")?;
        count.trim().parse().with_context(|| format!("psql answered {count:?}"))
    }

    /// Gives every app but the default one an owner of its own. What routes requests hears of it with
    /// the next change through the API.
    pub(crate) fn part_owners(&self) -> anyhow::Result<()> {
        self.psql("picloud", include_str!("part_owners.sql"), "unused=0").map(drop)
    }

    /// Puts so many events of the bench's script into the outbox and tells the dispatcher.
    pub(crate) fn fill_outbox(&self, events: u32) -> anyhow::Result<()> {
        let sql = include_str!("waiting_events.sql");
        self.psql("picloud", sql, &format!("events={events}")).map(drop)
    }

    /// Makes so many documents of the first app, of which twenty are of each group.
    pub(crate) fn fill_docs(&self, documents: u32) -> anyhow::Result<()> {
        let sql = include_str!("documents.sql");
        self.psql("picloud", sql, &format!("documents={documents}")).map(drop)
    }

    /// Events that are not done.
    pub(crate) fn outbox_rows(&self) -> anyhow::Result<u64> {
        let count = self.psql("picloud", include_str!("outbox_rows.sql"), "unused=0")?;
        count.trim().parse().with_context(|| format!("psql answered {count:?}"))
    }

    /// When executions of the bench's script began, in microseconds since 1970, by their deliveries.
    pub(crate) fn event_starts(&self, since: f64) -> anyhow::Result<HashMap<String, i64>> {
        let rows = self.psql("picloud", include_str!("event_starts.sql"), &format!("since={since}"))?;
        let start = |row: &str| -> anyhow::Result<(String, i64)> {
            let (delivery, us) = row.split_once('|').with_context(|| format!("psql answered {row:?}"))?;
            Ok((delivery.to_owned(), us.parse()?))
        };
        rows.lines().map(start).collect()
    }

    /// How many rows so many clients insert in a second, each in a commit of its own, and nothing else.
    pub(crate) fn bare_inserts(&self, clients: usize, time: Duration) -> anyhow::Result<f64> {
        self.psql("postgres", include_str!("bare_inserts.sql"), "unused=0")?;
        let mut script = tempfile::NamedTempFile::new()?;
        script.write_all(include_bytes!("bare_insert.sql"))?;
        let mut pgbench = Command::new(self.psql.with_file_name("pgbench"));
        pgbench.args(["-n", "-M", "prepared", "-j", "2", "-c", &clients.to_string()]);
        pgbench.args(["-T", &time.as_secs().max(1).to_string()]).arg("-f").arg(script.path()).arg("postgres");
        for (name, value) in self.environment() {
            pgbench.env(name, value);
        }
        let output = pgbench.output().context("cannot start pgbench")?;
        ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr).trim());
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        rate.with_context(|| format!("pgbench answered {text:?}"))
    }

    /// An empty database for somebody else on the same server.
    pub(crate) fn create(&self, name: &str) -> anyhow::Result<()> {
        self.psql("postgres", include_str!("empty_database.sql"), &format!("name={name}")).map(drop)
    }

    /// The variables by which PostgreSQL's clients find the server.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("PGHOST", self.socket_dir.as_str()),
            ("PGPORT", self.port.as_str()),
            ("PGUSER", "postgres"),
            ("PGPASSWORD", self.password.as_str()),
        ]
    }

    fn psql(&self, database: &str, sql: &str, variable: &str) -> anyhow::Result<String> {
        let mut child = Command::new(&self.psql)
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database])
            .args(["-h", &self.socket_dir, "-p", &self.port, "-v", variable, "-f", "-"])
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.psql.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(sql.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn parse(line: &str) -> anyhow::Result<Activity> {
    let fields: Vec<f64> = line
        .trim()
        .split('|')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("psql answered {line:?}"))?;
    let &[now, transactions, sessions, rows_inserted, busy_sessions] = fields.as_slice() else {
        anyhow::bail!("psql answered {line:?}");
    };
    Ok(Activity { now, transactions, sessions, rows_inserted, busy_sessions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_counters_is_read_in_order() {
        let activity = parse("1789000000.25|10|3|500|1\n").unwrap();
        assert_eq!((activity.now, activity.transactions, activity.sessions), (1_789_000_000.25, 10.0, 3.0));
        assert_eq!((activity.rows_inserted, activity.busy_sessions), (500.0, 1.0));
    }

    #[test]
    fn anything_else_is_an_error() {
        for text in ["", "1|2|3|4", "1|2|3|4|x"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
