//! What becomes of a time of a cron trigger that comes while the run before it is not over: the handler runs
//! beside it, not at all, or after it. The run is held by the database, for as long as the test wants.

use serde_json::{Value, json};

use crate::harness::{At, Disk, Failpoint, TestApp, TestServer, eventually};
use crate::triggers::{told, trigger};

/// Waits to be let go on, and ends. A statement that is held too long is ended, and made again.
const TICK: &str = r#"
    loop {
        try {
            kv::collection("held").set(ctx.delivery.id, 1);
            break;
        } catch {}
    }
    log::info("event", #{ event: ctx.event });"#;

/// A trigger of every second whose handler is held.
fn held<'a>(app: &TestApp<'_>, disk: &'a Disk, policy: Value) -> (String, Failpoint<'a>) {
    app.deploy("tick", TICK, &json!({ "timeout_ms": 60_000 }));
    let failpoint = Failpoint::set(disk, At::Statement, "insert", "kv", "new.collection = 'held'");
    let mut config = policy;
    config["schedule"] = json!("* * * * * *");
    let id = trigger(app, "cron", "tick", config);
    failpoint.is_reached_by(1);
    (id, failpoint)
}

/// Waits until so many more times have come; answers up to which all are dealt with.
fn times_come(disk: &Disk, count: i64) -> i64 {
    let mark = || -> i64 {
        let mark = disk.query("select extract(epoch from handled_until)::bigint::text from cron_marks");
        mark.parse().unwrap()
    };
    let before = mark();
    eventually("more times have come", || Some(mark()).filter(|now| *now >= before + count))
}

fn waiting(app: &TestApp<'_>) -> usize {
    app.admin("GET", "/outbox", &Value::Null).is(200).json()["items"].as_array().unwrap().len()
}

/// The times that the handler ran for, in order, as seconds of the epoch.
fn times(disk: &Disk, told: &[Value]) -> Vec<i64> {
    let seconds = told.iter().map(|told| {
        let time = told["event"]["cron"]["scheduled_at"].as_str().unwrap();
        disk.query(&format!("select extract(epoch from '{time}'::timestamptz)::bigint::text"))
            .parse()
            .unwrap()
    });
    seconds.collect()
}

fn end(app: &TestApp<'_>, id: &str) {
    app.admin("PATCH", &format!("/triggers/{id}"), &json!({ "enabled": false })).is(200);
}

#[test]
fn a_time_that_comes_during_a_run_is_left_out_by_the_policy_skip() {
    let server = TestServer::start();
    let app = server.app();
    let (id, failpoint) = held(&app, &server.disk, json!({ "overlap": "skip" }));
    let left_out_until = times_come(&server.disk, 2);
    assert_eq!(waiting(&app), 1, "the one that runs");
    failpoint.release();
    let told = told(&app, "tick", 2);
    end(&app, &id);
    let times = times(&server.disk, &told);
    assert!(times[0] <= left_out_until - 2, "{times:?}");
    assert!(times[1] > left_out_until, "{times:?}, and all up to {left_out_until} are left out");
}

#[test]
fn a_time_that_comes_during_a_run_runs_after_it_by_the_policy_wait() {
    let server = TestServer::start();
    let app = server.app();
    // Nor is one left out that came while the scheduler was busy.
    let (id, failpoint) = held(&app, &server.disk, json!({ "overlap": "wait", "missed": "all" }));
    times_come(&server.disk, 2);
    assert!(waiting(&app) >= 3, "the one that runs and those that wait");
    assert!(failpoint.held() <= 1, "none runs beside it");
    failpoint.release();
    let told = told(&app, "tick", 3);
    end(&app, &id);
    let times = times(&server.disk, &told);
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1), "each in its turn: {times:?}");
}

#[test]
fn a_time_that_comes_during_a_run_runs_beside_it_by_the_policy_allow() {
    let server = TestServer::start();
    let app = server.app();
    let (id, failpoint) = held(&app, &server.disk, json!({ "overlap": "allow" }));
    // Both run, and neither has ended.
    failpoint.is_reached_by(2);
    end(&app, &id);
    failpoint.release();
    told(&app, "tick", 2);
}
