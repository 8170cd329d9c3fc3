//! A worker that dies takes its own executions with it and nothing else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{NO_LIMITS, Reply, SPARES, TestServer, WORKERS, eventually, print_row, process};

const REQUESTS: usize = 1_000;
const THREADS: usize = 64;

/// Sends `REQUESTS` requests from `THREADS` threads; `at` is called with the number of each.
fn flood(send: impl Fn() -> Reply + Sync, at: impl Fn(usize) + Sync) -> Vec<Reply> {
    let (next, replies) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    at(number);
                    let reply = send();
                    replies.lock().unwrap().push(reply);
                }
            });
        }
    });
    replies.into_inner().unwrap()
}

#[test]
fn a_killed_worker_loses_only_what_ran_in_it() {
    let server = TestServer::start();
    let app = server.app();
    // Long enough that something runs whenever the signal comes.
    app.serve("work", "let n = 0; for i in 0..20000 { n += i; } n", &NO_LIMITS);
    assert_eq!(app.get("/work").is(200).json(), json!(199_990_000));
    let before = server.workers();
    let killed = Mutex::new(Vec::new());
    let replies = flood(
        || app.get("/work"),
        |number| {
            if number == REQUESTS / 2 {
                // All but the youngest: the spare, which runs nothing.
                let worker = *before.iter().next().unwrap();
                process::send(worker, Signal::SIGKILL);
                killed.lock().unwrap().push(worker);
            }
        },
    );
    assert_eq!(replies.len(), REQUESTS);
    let (good, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    for reply in &lost {
        let problem = reply.is(502).is_problem("worker_lost");
        assert_eq!((&problem["fault"], &problem["retry"]), (&json!("platform"), &json!("unsafe")));
    }
    for reply in good {
        assert_eq!(reply.json(), json!(199_990_000));
    }
    // A worker has 16 slots.
    assert!((1..=16).contains(&lost.len()), "{} executions were lost", lost.len());
    eventually("each loss is recorded", || {
        let list = app.admin("GET", "/executions?status=worker_lost", &Value::Null).is(200).json();
        (list["items"].as_array().unwrap().len() == lost.len()).then_some(())
    });

    let killed = killed.into_inner().unwrap();
    assert!(!server.workers().contains(&killed[0]));
    eventually("no zombie is left", || process::zombies(server.pid()).is_empty().then_some(()));
    for reply in flood(|| app.get("/work"), |_| ()) {
        reply.is(200);
    }
}

#[test]
fn the_server_survives_the_loss_of_all_its_workers_again_and_again() {
    let server = TestServer::start();
    for _ in 0..3 {
        let before = server.workers();
        for worker in &before {
            process::send(*worker, Signal::SIGKILL);
        }
        eventually("hello is answered by new workers", || {
            (server.client.get("localhost", "/hello/pi").status == 200).then_some(())
        });
        let after = eventually("all workers are new", || {
            let after = process::workers(server.pid());
            (after.len() == WORKERS + SPARES && after.is_disjoint(&before)).then_some(after)
        });
        assert_eq!(after.len(), WORKERS + SPARES);
    }
    eventually("no zombie is left", || process::zombies(server.pid()).is_empty().then_some(()));
}

#[test]
fn when_what_workers_are_copies_of_is_killed_another_takes_its_place() {
    let server = TestServer::start();
    let before = server.workers();
    let zygote = process::zygote(server.pid()).unwrap();
    // First, or it would make those that take their places.
    for pid in [&zygote].into_iter().chain(&before) {
        process::send(*pid, Signal::SIGKILL);
    }
    eventually("hello is answered by new workers", || {
        (server.client.get("localhost", "/hello/pi").status == 200).then_some(())
    });
    assert!(server.workers().is_disjoint(&before));
    eventually("there is another", || process::zygote(server.pid()).filter(|another| *another != zygote));
    eventually("no zombie is left", || process::zombies(server.pid()).is_empty().then_some(()));
}

#[test]
fn a_stopped_worker_is_killed_when_its_executions_are_overdue() {
    let server = TestServer::start();
    let app = server.app();
    app.serve(
        "short",
        "let n = 0; loop { n += 1; }",
        &json!({ "fuel": 300_000_000_000_u64, "timeout_ms": 500 }),
    );
    let before = server.workers();
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..4).map(|_| scope.spawn(|| app.get("/short"))).collect();
        for worker in &before {
            process::send(*worker, Signal::SIGSTOP);
        }
        for request in requests {
            let reply = request.join().unwrap();
            print_row("49", "a stopped worker", "504 timeout, and it is killed", &reply.status.to_string());
            reply.is(504).is_problem("timeout");
        }
    });
    // The stopped ones that ran nothing are still there; nobody has noticed, and nobody needs to.
    for worker in before {
        if process::workers(server.pid()).contains(&worker) {
            process::send_if_there(worker, Signal::SIGCONT);
        }
    }
    eventually("hello is answered", || {
        (server.client.get("localhost", "/hello/pi").status == 200).then_some(())
    });
}
