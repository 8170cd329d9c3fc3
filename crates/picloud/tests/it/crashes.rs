//! The platform and its database are killed under load, again and again, and nothing that was accepted
//! is lost. A producer remembers what was accepted, each run leaves a mark in the database, and the two
//! histories are compared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Disk, Fault, NO_LIMITS, Postgres, TestApp, TestServer, eventually, within};

/// Threads that send.
const PRODUCERS: u32 = 4;
/// What can be running, or done and not yet noted, at one moment: twice the slots of both workers.
const IN_FLIGHT_MAX: usize = 64;

/// What was tried in vain during several outages waits for half a minute and more before it is tried again.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

/// From the end of the platform, or the return of its database, until requests are accepted and run again.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);

/// Sends numbered requests until told to stop; remembers which were accepted.
#[derive(Default)]
struct Producer {
    accepted: Mutex<BTreeMap<String, u32>>,
    is_stopped: AtomicBool,
}

impl Producer {
    fn run(&self, app: &TestApp<'_>, from: u32) {
        let mut number = from;
        while !self.is_stopped.load(Ordering::Relaxed) {
            number += 1;
            let body = number.to_string();
            let sent = app.client().try_send("POST", &app.host, "/count", &[], body.as_bytes());
            let Some(reply) = sent.ok().filter(|reply| reply.status == 202) else { continue };
            let id = reply.json()["execution_id"].as_str().unwrap().to_owned();
            self.accepted.lock().unwrap().insert(id, number);
        }
    }

    fn count(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    fn wait_for(&self, more: usize) {
        let enough = self.count() + more;
        eventually("more is accepted", || (self.count() >= enough).then_some(()));
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// An app whose script counts each of its runs in the database.
fn counting_app(server: &TestServer) -> TestApp<'_> {
    let app = server.app();
    app.deploy("count", r#"kv::collection("runs").incr(ctx.delivery.id)"#, &NO_LIMITS);
    let route = json!({ "path": "/count", "script": "count", "dispatch_mode": "async" });
    app.admin("POST", "/routes", &route).is(201);
    app.serve("times", r#"kv::collection("runs").get(ctx.request.query.delivery) ?? 0"#, &NO_LIMITS);
    app
}

/// How often a delivery ran; nothing while nobody can say.
fn times(app: &TestApp<'_>, delivery: &str) -> Option<u64> {
    let path = format!("/times?delivery={delivery}");
    let reply = app.client().try_send("GET", &app.host, &path, &[], b"").ok()?;
    (reply.status == 200).then(|| reply.json().as_u64()).flatten()
}

/// Until a request is accepted, and has run.
fn probe(app: &TestApp<'_>) {
    let id = eventually("a request is accepted", || {
        let sent = app.client().try_send("POST", &app.host, "/count", &[], b"probe").ok()?;
        (sent.status == 202).then(|| sent.json()["execution_id"].as_str().unwrap().to_owned())
    });
    eventually("it has run", || times(app, &id).filter(|times| *times > 0));
}

/// Compares what was accepted with what ran.
fn check(app: &TestApp<'_>, accepted: &BTreeMap<String, u32>, injected: usize, slowest: Duration) -> Fault {
    let is_done = || app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"] == json!([]);
    within(DELIVERED_WITHIN, "everything is delivered", || is_done().then_some(()));
    let accepted_count = accepted.len();
    let mut history = Fault { injected, accepted: accepted_count, recovered_in: slowest, ..Fault::default() };
    assert!(history.accepted > 0, "nothing was sent");
    for delivery in accepted.keys() {
        let times = eventually("somebody says how often it ran", || times(app, delivery));
        history.lost += usize::from(times == 0);
        history.duplicated += usize::from(times > 1);
    }
    history
}

/// Ends the platform with `signal` so often under load, and checks what became of it all.
fn kill_under_load(rounds: u32, signal: Signal) -> Fault {
    let disk = Arc::new(Disk::new());
    let producer = Producer::default();
    let mut server = TestServer::start_on(Arc::clone(&disk));
    let slug = counting_app(&server).slug;
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        producer.is_stopped.store(false, Ordering::Relaxed);
        let app = server.existing_app(&slug);
        let fell = std::thread::scope(|scope| {
            let (producer, app) = (&producer, &app);
            for thread in 0..PRODUCERS {
                let from = (round * PRODUCERS + thread) * 1_000_000;
                scope.spawn(move || producer.run(app, from));
            }
            // Somewhere in the middle of work, another place each time.
            producer.wait_for(usize::try_from(20 + round * 7 % 40).unwrap());
            app.server.signal(signal);
            producer.stop();
            Instant::now()
        });
        server.wait();
        server = TestServer::start_on(Arc::clone(&disk));
        probe(&server.existing_app(&slug));
        slowest = slowest.max(fell.elapsed());
    }
    let (accepted, injected) = (producer.accepted.into_inner().unwrap(), rounds.try_into().unwrap());
    let history = check(&server.existing_app(&slug), &accepted, injected, slowest);
    history.row(&format!("{signal} of the platform"));
    history
}

/// Restarts the database so often under load, in each of these ways, and checks what became of it all.
/// It recovers when the database is back.
fn restart_database_under_load(fault: &str, rounds: usize, signals: &[Signal]) -> Fault {
    let mut postgres = Postgres::start();
    let server = TestServer::start_on(Arc::new(Disk::on(&postgres)));
    let app = counting_app(&server);
    let producer = Producer::default();
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let (producer, app) = (&producer, &app);
        for thread in 0..PRODUCERS {
            scope.spawn(move || producer.run(app, thread * 1_000_000));
        }
        for signal in signals.iter().cycle().take(rounds) {
            producer.wait_for(20);
            postgres.restart(*signal);
            let ready = Instant::now();
            probe(app);
            slowest = slowest.max(ready.elapsed());
        }
        producer.wait_for(20);
        producer.stop();
    });
    let history = check(&app, &producer.accepted.into_inner().unwrap(), rounds, slowest);
    history.row(fault);
    history
}

/// How PostgreSQL may end: fast and immediate are two ways of telling it to.
const ENDS: [(&str, Signal); 3] = [
    ("PostgreSQL restarted, fast", Signal::SIGINT),
    ("PostgreSQL restarted, immediate", Signal::SIGQUIT),
    ("SIGKILL of PostgreSQL", Signal::SIGKILL),
];

#[test]
fn nothing_that_was_accepted_is_lost_when_the_platform_is_killed() {
    let history = kill_under_load(3, Signal::SIGKILL);
    assert_eq!(history.lost, 0, "{history:?}");
    // Only what was running, or was done and not yet noted, when it was killed.
    assert!(history.duplicated <= 3 * IN_FLIGHT_MAX, "{history:?}");
}

#[test]
fn nothing_runs_twice_when_the_platform_is_asked_to_stop() {
    let history = kill_under_load(2, Signal::SIGTERM);
    assert_eq!((history.lost, history.duplicated), (0, 0), "{history:?}");
}

#[test]
fn nothing_that_was_accepted_is_lost_when_postgresql_is_restarted() {
    let history =
        restart_database_under_load("PostgreSQL restarted, each way", 3, &ENDS.map(|(_, signal)| signal));
    assert_eq!(history.lost, 0, "{history:?}");
}

#[test]
#[ignore = "takes minutes: part of make torture"]
fn torture_nothing_that_was_accepted_is_lost_whatever_ends_and_all_is_soon_back() {
    Fault::head();
    let mut histories = vec![kill_under_load(Fault::times(50), Signal::SIGKILL)];
    let stopped = kill_under_load(Fault::times(10), Signal::SIGTERM);
    assert_eq!(stopped.duplicated, 0, "{stopped:?}");
    histories.push(stopped);
    let restarts = Fault::times(10).try_into().unwrap();
    for (fault, signal) in ENDS {
        histories.push(restart_database_under_load(fault, restarts, &[signal]));
    }
    for history in histories {
        assert_eq!(history.lost, 0, "{history:?}");
        assert!(history.duplicated <= history.injected * IN_FLIGHT_MAX, "{history:?}");
        assert!(history.recovered_in < RECOVERED_WITHIN, "{history:?}");
    }
}
