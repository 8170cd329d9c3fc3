//! Workers that are killed under load, again and again: how soon another one takes work, who notices, and
//! whether anything is left behind.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Bench;
use crate::load::{Background, Histogram, Tally};
use crate::report::{Bound, Report};
use crate::subject::{Admin, Picloud, Worker};

const WORKERS: usize = 2;
/// With two spares, as where owners are kept apart.
const PROCESSES: usize = WORKERS + 2;
/// Executions that one worker runs at most.
const SLOTS: u32 = 16;
const SETTINGS: &[(&str, &str)] = &[
    ("PICLOUD_WORKERS", "2"),
    ("PICLOUD_SLOTS_PER_WORKER", "16"),
    // The workers are looked at all the time.
    ("PICLOUD_API_REQUESTS_PER_MINUTE", "1000000"),
];
/// Of one owner. Each may have half of all slots, so that it takes both to fill both workers.
const APPS: [&str; 2] = ["killed-one", "killed-two"];
/// For each of them; more than it may have running.
const CONNECTIONS: usize = 24;
/// Long enough that all slots are taken whenever the signal comes.
const SOURCE: &str = "let n = 0; for i in 0..20000 { n += i; } n";
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// Kills before anything is counted, after which everything that is opened once and kept is open: the
/// connections to the database, for example.
const FIRST: usize = 5;

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let kills = bench.plan.kills;
    report.heading(format_args!("kill -9 of a worker under load, {kills} times"));
    let mut target = Target::start(bench)?;
    target.kill_under_load(FIRST, bench.plan.turn)?;
    let before = target.left(bench.plan.settle)?;
    let (killed, tally) = target.kill_under_load(kills, bench.plan.warm_up)?;
    let after = target.left(bench.plan.settle)?;
    target.picloud.stop()?;

    let mut times = Histogram::default();
    killed.iter().for_each(|kill| times.add(kill.took));
    let ms = |percent| times.percentile(percent).as_secs_f64() * 1e3;
    let (p50, p99, slowest) = (ms(50.0), ms(99.0), ms(100.0));
    let running = mean(killed.iter().map(|kill| f64::from(kill.running)));
    let lost = tally.lost as f64 / kills as f64;
    report.line(format_args!(
        "  all workers take work again after {p50:.1} ms, p99 {p99:.1} ms, at most {slowest:.1} ms"
    ));
    report.line(format_args!(
        "  {} answered, {} lost with their worker, {} failed otherwise; {running:.1} ran in all workers at each kill, \
         {lost:.1} of them were lost",
        tally.answered, tally.lost, tally.failed
    ));
    report.line(format_args!(
        "  descriptors {} before, {} in use not counted, of {:?}",
        before.open(),
        before.in_use,
        before.descriptors
    ));
    report.line(format_args!(
        "              {} after,  {} in use not counted, of {:?}",
        after.open(),
        after.in_use,
        after.descriptors
    ));
    report.goal("kill -9: a worker more takes work after, median", p50, Bound::AtMost(50.0), "ms");
    report.goal("kill -9: a worker more takes work after, p99", p99, Bound::AtMost(50.0), "ms");
    // More than one worker runs, or too many that are lost would not be seen.
    report.goal("kill -9: running at each kill", running, Bound::AtLeast(f64::from(SLOTS + 1)), "");
    report.goal("kill -9: lost with a worker", lost, Bound::AtMost(f64::from(SLOTS)), "each");
    report.goal("kill -9: failed otherwise", tally.failed as f64, Bound::AtMost(0.0), "");
    let left = after.open() as f64 - before.open() as f64;
    report.goal("kill -9: descriptors left behind", left, Bound::AtMost(0.0), "");
    let left = after.processes as f64 - before.processes as f64;
    report.goal("kill -9: processes left behind", left, Bound::AtMost(0.0), "");
    let times_ms: Vec<f64> = killed.iter().map(|kill| kill.took.as_secs_f64() * 1e3).collect();
    let ran: Vec<u32> = killed.iter().map(|kill| kill.running).collect();
    report.keep(
        "recovery",
        json!({
            "times_ms": times_ms, "running": ran,
            "before": [before.descriptors, before.processes], "after": [after.descriptors, after.processes],
            "answered": tally.answered, "lost": tally.lost, "failed": tally.failed,
        }),
    );
    Ok(())
}

fn mean(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = numbers.len() as f64;
    numbers.sum::<f64>() / count
}

/// A worker that was killed.
#[derive(Debug, Clone, Copy)]
struct Kill {
    /// Until the server had seen it and another one took work.
    took: Duration,
    /// Executions in all workers when it came.
    running: u32,
}

/// What a server at rest has.
#[derive(Debug)]
struct Left {
    /// Open descriptors, by kind.
    descriptors: BTreeMap<String, usize>,
    /// Of them, sockets to the database, which is asked by as many sessions as there is need for, and to this program,
    /// which keeps a connection for its next question, or makes one.
    in_use: usize,
    /// Workers and spares.
    processes: usize,
}

impl Left {
    /// Descriptors that should be there.
    fn open(&self) -> usize {
        self.descriptors.values().sum::<usize>().saturating_sub(self.in_use)
    }
}

/// The server whose workers are killed.
#[derive(Debug)]
struct Target {
    picloud: Picloud,
    admin: Admin,
}

impl Target {
    fn start(bench: &Bench) -> anyhow::Result<Self> {
        let picloud = Picloud::start_with(bench.binary.as_deref(), SETTINGS)?;
        let admin = picloud.admin()?;
        for slug in APPS {
            let app = admin.new_app(slug)?;
            app.deploy("work", SOURCE, &json!({}))?;
            app.route("/work", "work")?;
        }
        Ok(Self { picloud, admin })
    }

    fn kill_under_load(&self, kills: usize, warm_up: Duration) -> anyhow::Result<(Vec<Kill>, Tally)> {
        let load = APPS.map(|slug| {
            Background::start(self.picloud.address, &format!("{slug}.localhost"), "/work", CONNECTIONS)
        });
        std::thread::sleep(warm_up);
        let killed = (0..kills).map(|_| self.kill()).collect::<anyhow::Result<Vec<_>>>()?;
        let [one, other] = load.map(Background::stop);
        Ok((killed, one.and(other)))
    }

    /// Kills the worker that runs most, and waits until as many as before take work, by what the server says.
    fn kill(&self) -> anyhow::Result<Kill> {
        let workers = self.whole()?;
        let victim = workers.iter().max_by_key(|worker| worker.running).context("nobody works")?.pid;
        let running: u32 = workers.iter().map(|worker| worker.running).sum();
        kill(Pid::from_raw(victim.try_into()?), Signal::SIGKILL)?;
        let killed = Instant::now();
        loop {
            let workers = self.admin.workers()?;
            let took = killed.elapsed();
            if workers.len() >= WORKERS && workers.iter().all(|worker| worker.pid != victim) {
                return Ok(Kill { took, running });
            }
            ensure!(took < REPLACED_WITHIN, "{} of {WORKERS} workers take work", workers.len());
            std::thread::sleep(PAUSE);
        }
    }

    /// The workers that take work, once there are as many as there should be, and the spares' processes too.
    fn whole(&self) -> anyhow::Result<Vec<Worker>> {
        let since = Instant::now();
        loop {
            let processes = self.picloud.workers().len();
            let workers = self.admin.workers()?;
            if workers.len() >= WORKERS && processes >= PROCESSES {
                return Ok(workers);
            }
            ensure!(
                since.elapsed() < REPLACED_WITHIN,
                "{} of {WORKERS} workers take work, {processes} of {PROCESSES} processes are there",
                workers.len()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// What is there once the connections of the load are closed and nothing changes any more.
    fn left(&self, settle: Duration) -> anyhow::Result<Left> {
        std::thread::sleep(settle);
        self.whole()?;
        let established = established(self.picloud.address.port())?;
        let mut in_use = self.picloud.database()?.open_sessions()?;
        let mut descriptors: BTreeMap<String, usize> = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fd", self.picloud.pid()))?.flatten() {
            // One that is closed meanwhile leads nowhere.
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy();
            in_use += usize::from(established.contains(target.as_ref()));
            let kind = target.split(':').next().unwrap_or_default().trim_start_matches('/').to_owned();
            let kind = if target.starts_with("anon_inode") { target.into_owned() } else { kind };
            *descriptors.entry(kind).or_default() += 1;
        }
        Ok(Left { descriptors, in_use, processes: self.picloud.workers().len() })
    }
}

/// The server's ends of the connections to its port that nobody has closed, as links of descriptors name them. The load
/// has closed its own, so what is left is where this program asks how things are.
fn established(port: u16) -> anyhow::Result<HashSet<String>> {
    let (port, state) = (format!(":{port:04X}"), "01");
    // A line is: its number, local and remote address, state, six more, and the socket's inode.
    let inode = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1)?.ends_with(&port) && *words.get(3)? == state;
        is_it.then_some(format!("socket:[{}]", words.get(9)?))
    };
    let table = std::fs::read_to_string("/proc/net/tcp")?;
    Ok(table.lines().filter_map(inode).collect())
}
