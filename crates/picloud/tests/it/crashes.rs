//! The platform and its database are killed under load, again and again, and nothing that was accepted
//! is lost. A producer remembers what was accepted, each run leaves a mark in the database, and the two
//! histories are compared.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Disk, NO_LIMITS, Postgres, TestApp, TestServer, eventually, within};

/// Threads that send.
const PRODUCERS: u32 = 4;
/// What can be running, or done and not yet noted, at one moment: twice the slots of both workers.
const IN_FLIGHT_MAX: usize = 64;

/// What was tried in vain during several outages waits for half a minute and more before it is tried again.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);

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

/// What a history shows.
#[derive(Debug, Default)]
struct History {
    accepted: usize,
    lost: usize,
    duplicated: usize,
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

/// Compares what was accepted with what ran.
fn check(app: &TestApp<'_>, accepted: &BTreeMap<String, u32>) -> History {
    let is_done = || app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"] == json!([]);
    within(DELIVERED_WITHIN, "everything is delivered", || is_done().then_some(()));
    let mut history = History { accepted: accepted.len(), ..History::default() };
    assert!(history.accepted > 0, "nothing was sent");
    for delivery in accepted.keys() {
        let times = app.get(&format!("/times?delivery={delivery}")).is(200).json().as_u64().unwrap();
        history.lost += usize::from(times == 0);
        history.duplicated += usize::from(times > 1);
    }
    history
}

/// Ends the platform with `signal` so often under load, and checks what became of it all.
fn kill_under_load(rounds: u32, signal: Signal) -> History {
    let disk = Arc::new(Disk::new());
    let producer = Producer::default();
    let mut slug = String::new();
    for round in 0..rounds {
        let mut server = TestServer::start_on(Arc::clone(&disk));
        if round == 0 {
            slug = counting_app(&server).slug;
        }
        producer.is_stopped.store(false, Ordering::Relaxed);
        let app = server.existing_app(&slug);
        std::thread::scope(|scope| {
            let (producer, app) = (&producer, &app);
            for thread in 0..PRODUCERS {
                let from = (round * PRODUCERS + thread) * 1_000_000;
                scope.spawn(move || producer.run(app, from));
            }
            // Somewhere in the middle of work, another place each time.
            producer.wait_for(usize::try_from(20 + round * 7 % 40).unwrap());
            app.server.signal(signal);
            producer.stop();
        });
        server.wait();
    }
    let server = TestServer::start_on(disk);
    let accepted = producer.accepted.into_inner().unwrap();
    let began = Instant::now();
    let history = check(&server.existing_app(&slug), &accepted);
    eprintln!("{signal} × {rounds}: {history:?}, all delivered {:?} after the last start", began.elapsed());
    history
}

/// Restarts the database so often under load, in each of these ways, and checks what became of it all.
fn restart_database_under_load(rounds: usize, signals: &[Signal]) -> History {
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
            producer.wait_for(1);
            slowest = slowest.max(ready.elapsed());
        }
        producer.wait_for(20);
        producer.stop();
    });
    let history = check(&app, &producer.accepted.into_inner().unwrap());
    eprintln!("PostgreSQL restarted × {rounds}: {history:?}, taking requests again within {slowest:?}");
    history
}

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
    let history = restart_database_under_load(3, &[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL]);
    assert_eq!(history.lost, 0, "{history:?}");
}

#[test]
#[ignore = "takes minutes: part of make torture"]
fn torture_nothing_that_was_accepted_is_lost_in_50_kills() {
    let history = kill_under_load(50, Signal::SIGKILL);
    assert_eq!(history.lost, 0, "{history:?}");
}

#[test]
#[ignore = "takes a minute: part of make torture"]
fn torture_nothing_that_was_accepted_is_lost_in_10_restarts_of_postgresql() {
    let history = restart_database_under_load(10, &[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL]);
    assert_eq!(history.lost, 0, "{history:?}");
}
