//! A script in whose workers things happen that scripts cannot do, from the first incident to its release.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Canary, NO_LIMITS, TestApp, TestServer, eventually, process};

/// The workers in which something runs.
fn busy(server: &TestServer) -> Vec<u32> {
    let workers = server.admin("GET", "/system/workers", &Value::Null).is(200).json();
    let items = workers["items"].as_array().unwrap().clone();
    let running = items.into_iter().filter(|worker| worker["running"].as_u64() > Some(0));
    running.map(|worker| worker["pid"].as_u64().unwrap().try_into().unwrap()).collect()
}

/// Runs the script and stops its worker meanwhile, as if that were hostile code which does not listen.
fn misbehave(app: &TestApp<'_>) {
    std::thread::scope(|scope| {
        let request = scope.spawn(|| app.get("/evil"));
        let worker = eventually("it runs", || busy(app.server).first().copied());
        process::send(worker, Signal::SIGSTOP);
        request.join().unwrap().is(504).is_problem("timeout");
    });
}

fn incidents(app: &TestApp<'_>, number: usize) -> Vec<Value> {
    eventually("the incident is written", || {
        let list = app.admin("GET", "/incidents", &Value::Null).is(200).json();
        let items = list["items"].as_array().unwrap().clone();
        (items.len() == number).then_some(items)
    })
}

#[test]
fn a_script_whose_workers_misbehave_is_watched_then_quarantined_then_released_by_one_call() {
    let server = TestServer::start();
    let app = server.app();
    app.serve("good", "\"good\"", &NO_LIMITS);
    let limits = json!({ "timeout_ms": 1_000, "fuel": 300_000_000_000_u64 });
    app.serve("evil", "if ctx.request.query?.calm == () { loop { } } \"calm\"", &limits);
    misbehave(&app);
    assert_eq!(incidents(&app, 1)[0]["is_alone"], false, "source was compiled in that worker");
    for number in 2..=4 {
        app.get("/evil?calm=1").is(200);
        misbehave(&app);
        let last = incidents(&app, number)[0].clone();
        assert_eq!((&last["is_alone"], &last["misconduct"]), (&json!(true), &json!("unresponsive")));
    }
    let refused =
        eventually("it is quarantined", || Some(app.get("/evil?calm=1")).filter(|reply| reply.status == 503));
    refused.is_problem("script_quarantined");
    let canary = Canary::beside(&server);
    app.get("/good").is(200);
    let evil = app.admin("GET", "/scripts/evil", &Value::Null).is(200).json();
    assert!(!evil["quarantined_at"].is_null());
    app.serve("innocent", evil["source"].as_str().unwrap(), &NO_LIMITS);
    app.get("/innocent?calm=1").is(503).is_problem("script_quarantined");

    app.admin("POST", "/scripts/evil:release", &json!({})).is(204);
    app.get("/evil?calm=1").is(200);
    app.get("/innocent?calm=1").is(200);
    canary.release("–");
    let audit = app.admin("GET", "/audit?limit=100", &Value::Null).is(200).json();
    let count = |action: &str| {
        audit["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == action).count()
    };
    assert_eq!((count("worker.violation"), count("script.quarantine"), count("script.release")), (4, 1, 1));
}
