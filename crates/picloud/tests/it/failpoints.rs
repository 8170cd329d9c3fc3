//! The platform is killed at each point of the outbox where it could matter: before and after everything
//! that it commits. Every event that was acknowledged, or that is in the database, comes to its end, and only
//! what was in flight runs twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{At, Disk, Failpoint, Fault, NO_LIMITS, TestApp, TestServer, eventually, within};

/// Requests that are sent at once: no more than one app may have running, so all are in flight together.
const REQUESTS: usize = 8;
/// A retry waits two seconds, and what came before a crash waits for its turn.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);

/// Leaves a mark for each run that ended well.
const COUNT: &str = r#"kv::collection("runs").incr(ctx.delivery.id)"#;
/// The same, at the second attempt.
const LATER: &str = r#"
    if ctx.delivery.attempt == 1 { throw "not yet"; }
    kv::collection("runs").incr(ctx.delivery.id)"#;
/// Gives up.
const NEVER: &str = r#"throw retry::fatal("no");"#;

/// A place in the life of a row.
#[derive(Clone, Copy)]
struct Point {
    name: &'static str,
    script: &'static str,
    lane: &'static str,
    at: At,
    what: &'static str,
    table: &'static str,
    rows: &'static str,
}

impl Point {
    const fn new(name: &'static str, at: At, what: &'static str, table: &'static str) -> Self {
        Self { name, script: COUNT, lane: "async", at, what, table, rows: "true" }
    }

    const fn of(self, script: &'static str) -> Self {
        Self { script, ..self }
    }

    const fn durable(self) -> Self {
        Self { lane: "durable", ..self }
    }
}

/// What became of the deliveries.
#[derive(Debug, Default)]
struct History {
    /// Whose sender was told, by a 202 or by the answer itself.
    acknowledged: BTreeSet<String>,
    /// Senders who got any answer.
    answered: usize,
    /// How often each ran and ended well.
    runs: BTreeMap<String, u64>,
    /// Dead letters, one entry for each.
    dead: Vec<String>,
    /// Deliveries whose caller was gone.
    abandoned: usize,
    /// From the start of another process until it was ready.
    recovered_in: Duration,
}

impl History {
    /// What was acknowledged and neither ran nor is a dead letter.
    fn lost(&self) -> Vec<&String> {
        let is_over = |id: &String| self.runs.contains_key(id) || self.dead.contains(id);
        self.acknowledged.iter().filter(|id| !is_over(id)).collect()
    }

    fn run_twice(&self) -> usize {
        self.runs.values().filter(|times| **times > 1).count()
    }
}

/// Kills the platform there, starts it again, and tells what became of what was sent.
fn kill_at(point: Point) -> History {
    let disk = Arc::new(Disk::new());
    let mut server = TestServer::start_on(Arc::clone(&disk));
    let app = server.app();
    app.deploy("work", point.script, &NO_LIMITS);
    let route = json!({ "path": "/work", "script": "work", "dispatch_mode": point.lane });
    app.admin("POST", "/routes", &route).is(201);
    let mut history = History::default();
    let failpoint = Failpoint::set(&disk, point.at, point.what, point.table, point.rows);
    let acknowledged = Mutex::new((BTreeSet::new(), 0));
    std::thread::scope(|scope| {
        for _ in 0..REQUESTS {
            let (app, acknowledged) = (&app, &acknowledged);
            scope.spawn(move || {
                let Ok(reply) = app.client().try_send("POST", &app.host, "/work", &[], b"x") else { return };
                let mut acknowledged = acknowledged.lock().unwrap();
                acknowledged.1 += 1;
                if reply.status == 202 {
                    let id = reply.json()["execution_id"].as_str().unwrap().to_owned();
                    acknowledged.0.insert(id);
                }
            });
        }
        failpoint.is_reached_by(1);
        app.server.signal(Signal::SIGKILL);
    });
    let slug = app.slug.clone();
    server.wait();
    failpoint.remove();
    (history.acknowledged, history.answered) = acknowledged.into_inner().unwrap();
    let starts = Instant::now();
    let server = TestServer::start_on(Arc::clone(&disk));
    history.recovered_in = starts.elapsed();
    let app = server.existing_app(&slug);
    delivered(&app);
    look(&disk, &mut history);
    let lost = history.lost();
    assert!(lost.is_empty(), "{}: {lost:?} of {history:?}", point.name);
    assert!(history.runs.values().all(|times| *times <= 2), "{}: {history:?}", point.name);
    history
}

fn delivered(app: &TestApp<'_>) {
    let is_done = || app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"] == json!([]);
    within(DELIVERED_WITHIN, "everything is delivered", || is_done().then_some(()));
}

fn look(disk: &Disk, history: &mut History) {
    let read = |sql: &str| -> Value { serde_json::from_str(&disk.query(sql)).unwrap() };
    let runs = read(
        "select coalesce(json_object_agg(key, value::int), '{}')::text from kv where collection = 'runs'",
    );
    history.runs = serde_json::from_value(runs).unwrap();
    let dead = read("select coalesce(json_agg(delivery_id), '[]')::text from dead_letters");
    history.dead = serde_json::from_value(dead).unwrap();
    history.abandoned = disk.query("select count(*)::text from abandoned_executions").parse().unwrap();
}

const ACCEPT: Point = Point::new("accept, before the insert", At::Statement, "insert", "outbox");
const ACCEPTED: Point = Point::new("accept, committed, not handed over", At::Commit, "insert", "outbox");
const RUNNING: Point = Point::new("handed over, running", At::Statement, "insert", "kv");
const DONE: Point = Point::new("done, before the delete", At::Statement, "delete", "outbox");
const REMOVED: Point = Point::new("done, the delete committed", At::Commit, "delete", "outbox");
const FAILED: Point = Point::new("failed, before the update", At::Statement, "update", "outbox").of(LATER);
const PUT_OFF: Point = Point::new("failed, the update committed", At::Commit, "update", "outbox").of(LATER);
const GIVEN_UP: Point = Point::new("given up, before", At::Statement, "insert", "dead_letters").of(NEVER);
const BURIED: Point = Point::new("given up, committed", At::Commit, "insert", "dead_letters").of(NEVER);
const DURABLE: Point = Point::new("durable, committed", At::Commit, "insert", "outbox").durable();
const DURABLE_RUNNING: Point = Point::new("durable, running", At::Statement, "insert", "kv").durable();
const ANSWERED: Point = Point::new("durable, answered", At::Statement, "delete", "outbox").durable();

#[test]
#[ignore = "part of make torture"]
fn torture_nothing_is_lost_at_any_point_at_which_the_platform_is_killed() {
    Fault::head();
    let points = [
        ACCEPT,
        ACCEPTED,
        RUNNING,
        DONE,
        REMOVED,
        FAILED,
        PUT_OFF,
        GIVEN_UP,
        BURIED,
        DURABLE,
        DURABLE_RUNNING,
        ANSWERED,
    ];
    for point in points {
        let history = kill_at(point);
        let fault = Fault {
            injected: 1,
            accepted: history.acknowledged.len(),
            lost: history.lost().len(),
            duplicated: history.run_twice(),
            recovered_in: history.recovered_in,
        };
        fault.row(&format!("SIGKILL: {}", point.name));
        assert!(fault.duplicated <= REQUESTS, "{history:?}");
    }
}

#[test]
fn a_request_whose_row_was_being_written_was_not_accepted_and_runs_once_or_never() {
    let history = kill_at(ACCEPT);
    // The statement stands alone, and PostgreSQL ends what it has begun, whoever has gone.
    assert_eq!((history.answered, history.run_twice()), (0, 0), "{history:?}");
}

#[test]
fn a_request_that_was_committed_and_neither_handed_over_nor_answered_runs_once() {
    let history = kill_at(ACCEPTED);
    assert_eq!(history.answered, 0, "{history:?}");
    assert!(!history.runs.is_empty() && history.run_twice() == 0, "{history:?}");
}

#[test]
fn what_was_handed_over_and_was_running_runs_again() {
    let history = kill_at(RUNNING);
    // A write that was on its way is made, and then made again.
    assert!(!history.runs.is_empty() && history.run_twice() <= REQUESTS, "{history:?}");
}

#[test]
fn what_ran_and_was_not_yet_removed_runs_again() {
    let history = kill_at(DONE);
    assert!((1..=REQUESTS).contains(&history.run_twice()), "{history:?}");
}

#[test]
fn what_was_removed_when_nobody_could_be_told_does_not_run_again() {
    let history = kill_at(REMOVED);
    // Those of the batch are over; others may have been running.
    assert!(history.run_twice() < REQUESTS, "{history:?}");
}

#[test]
fn a_failure_that_was_not_written_down_is_another_first_attempt() {
    let history = kill_at(FAILED);
    assert!(!history.runs.is_empty() && history.run_twice() == 0, "{history:?}");
}

#[test]
fn a_failure_that_was_written_down_when_nobody_could_be_told_is_tried_again() {
    let history = kill_at(PUT_OFF);
    assert!(!history.runs.is_empty() && history.run_twice() == 0, "{history:?}");
}

#[test]
fn what_was_given_up_is_one_dead_letter_whether_that_was_written_down_or_not() {
    for point in [GIVEN_UP, BURIED] {
        let (name, history) = (point.name, kill_at(point));
        let once: BTreeSet<_> = history.dead.iter().collect();
        assert!(!once.is_empty() && once.len() == history.dead.len(), "{name}: {history:?}");
        assert!(history.runs.is_empty(), "{name}: {history:?}");
    }
}

#[test]
fn a_durable_request_that_was_committed_and_not_handed_over_does_not_run_and_is_noted() {
    let history = kill_at(DURABLE);
    assert_eq!((history.answered, history.runs.len()), (0, 0), "{history:?}");
    assert!((1..=REQUESTS).contains(&history.abandoned), "{history:?}");
}

#[test]
fn a_durable_request_that_was_running_is_not_run_again_and_its_caller_is_noted_as_gone() {
    let history = kill_at(DURABLE_RUNNING);
    assert_eq!(history.run_twice(), 0, "{history:?}");
    assert!((1..=REQUESTS).contains(&history.abandoned), "{history:?}");
}

#[test]
fn a_durable_request_that_was_answered_and_not_removed_is_not_run_again() {
    let history = kill_at(ANSWERED);
    assert!(history.answered > 0 && history.runs.len() >= history.answered, "{history:?}");
    assert_eq!(history.run_twice(), 0, "{history:?}");
}

/// A trigger of every second loses none and doubles none, wherever its event is when the platform ends.
#[test]
fn a_time_of_a_cron_trigger_makes_one_event_whether_it_was_committed_or_not() {
    for at in [At::Statement, At::Commit] {
        let disk = Arc::new(Disk::new());
        let mut server = TestServer::start_on(Arc::clone(&disk));
        let app = server.app();
        let mark = r#"kv::collection("runs").incr(ctx.event.cron.scheduled_at)"#;
        app.deploy("tick", mark, &NO_LIMITS);
        let config = json!({ "schedule": "* * * * * *", "missed": "all" });
        app.admin("POST", "/triggers", &json!({ "kind": "cron", "script": "tick", "config": config }))
            .is(201);
        let failpoint = Failpoint::set(&disk, at, "insert", "outbox", "new.kind = 'cron'");
        failpoint.is_reached_by(1);
        app.server.signal(Signal::SIGKILL);
        let slug = app.slug.clone();
        server.wait();
        failpoint.remove();
        let server = TestServer::start_on(Arc::clone(&disk));
        let app = server.existing_app(&slug);
        let mut history = History::default();
        eventually("it goes on", || {
            look(&disk, &mut history);
            (history.runs.len() >= 3).then_some(())
        });
        let id = disk.query("select id::text from triggers");
        app.admin("PATCH", &format!("/triggers/{id}"), &json!({ "enabled": false })).is(200);
        look(&disk, &mut history);
        assert_eq!(history.run_twice(), 0, "{at:?}: {history:?}");
        let seconds: Vec<_> = history.runs.keys().map(|time| second(time)).collect();
        // The last may have overtaken what still runs.
        let whole = &seconds[..seconds.len() - 1];
        let is_next = |pair: &[i64]| (pair[1] - pair[0]).rem_euclid(3_600) == 1;
        assert!(whole.windows(2).all(is_next), "{at:?}, none is left out: {history:?}");
    }
}

/// Of its hour, of a time such as `2026-11-26T14:00:07Z`.
fn second(time: &str) -> i64 {
    let part = |at: usize| time[at..at + 2].parse::<i64>().unwrap();
    part(14) * 60 + part(17)
}
